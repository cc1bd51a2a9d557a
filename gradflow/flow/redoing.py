"""A marked step done again by itself, on the whole batch: what its Jacobian and the products with it are asked of.

Shapes: B examples, H hidden size, S all states side by side.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from gradflow.flow.between import are_packed
from gradflow.flow.examples import index_of

_NUMBERS = 2**22  # of the vectors that are sent through a step at once: 16 MB in float32
_ROUNDING = 256  # units of a dtype by which a step of some rows may differ from the same rows of the whole


class Redone:
    """A step of the script's own, done again.

    Args:
        name: of the marked states.
        step: what makes them, as it was then.
        entered: the states before, [B, H] each, or [H].
        left: what the step made of them, in the same shape, with its graph.
        marked: what was marked.

    Attributes:
        again: how far the step is from what was marked, [B] relative.
    """

    def __init__(
        self,
        name: str,
        step: Callable[..., Any],
        entered: tuple[Tensor, ...],
        left: tuple[Tensor, ...],
        marked: tuple[Tensor, ...],
    ):
        self._name, self._step, self._entered, self.left = name, step, entered, left
        self._whole = _side_by_side(left)
        seen = _side_by_side(marked).detach()
        apart = (self._whole.detach() - seen).double().norm(dim=-1)
        self.again = apart / seen.double().norm(dim=-1).clamp(min=1e-300)
        self._rows: dict[int, Tensor] = {}

    @property
    def size(self) -> int:
        """S."""
        return self._whole.shape[-1]

    @cached_property
    def is_separate(self) -> bool:
        """Whether no example reaches another one, as in a batch norm."""
        batch = len(self._whole)
        if batch == 1:
            return True
        odd = torch.zeros_like(self._whole)
        odd[1::2] = 1 + torch.arange(self.size, dtype=odd.dtype, device=odd.device) / self.size
        return not bool(self._back(odd.unsqueeze(0))[0, ::2].any())

    def back(self, vectors: Tensor, examples: Sequence[int]) -> Tensor:
        """Jᵀ u, [n, S], of u [n, S] at some examples, each of which may be there several times."""
        places, times = list[int](), dict[int, int]()
        for example in examples:
            places.append(times.get(example, 0))
            times[example] = places[-1] + 1
        where = torch.tensor(places, device=vectors.device), index_of(examples, vectors.device)
        whole = self._whole.new_zeros(max(times.values()), *self._whole.shape)
        whole[where] = vectors.to(whole.dtype)
        return self._back(whole)[where].to(vectors.dtype)

    def jacobian(self, examples: Sequence[int]) -> Tensor:
        """∂states/∂previous of some examples, each by itself, [n, S, S]."""
        new = [example for example in dict.fromkeys(examples) if example not in self._rows]
        for together in [new] if self.is_separate else [[example] for example in new]:
            if together:
                self._rows |= dict(zip(together, self._found(together), strict=True))
        return torch.stack([self._rows[example] for example in examples])

    def _found(self, examples: Sequence[int]) -> Tensor:
        few = self._of_rows(examples)
        if few is not None:
            return few._found(range(len(examples)))
        at, at_once = index_of(examples, self._whole.device), max(1, _NUMBERS // max(1, self._whole.numel()))
        rows = []
        for unit in torch.eye(self.size, dtype=self._whole.dtype, device=self._whole.device).split(at_once):
            vectors = unit.new_zeros(len(unit), *self._whole.shape)
            vectors[:, at] = unit.unsqueeze(1)
            rows.append(self._back(vectors)[:, at])
        return torch.cat(rows).movedim(0, 1)

    def _of_rows(self, examples: Sequence[int]) -> "Redone | None":
        """The step of some rows alone, a fraction of the work; None if it does not take them, or gives others."""
        batch = len(self._whole)
        if len(examples) == batch:
            return None
        at = index_of(examples, self._whole.device)

        def cut(value: Any) -> Any:
            return value.detach()[at] if isinstance(value, Tensor) and value.dim() and len(value) == batch else value

        marked = tuple(state.detach()[at] for state in self.left)
        try:
            few = redone(self._name, _with(self._step, cut), tuple(state[at] for state in self._entered), marked)
        except Exception:  # whatever a step of the script's own makes of fewer rows
            return None
        # Values alone may agree where the derivatives do not, as at zero.
        numbers = torch.arange(1.0, 1 + self.size * len(examples), dtype=self._whole.dtype, device=at.device)
        odd = numbers.sin().view(-1, self.size)
        expected, found = self.back(odd, examples), few.back(odd, range(len(examples)))
        apart = torch.cat((few.again, (found - expected).double().norm(dim=-1) / expected.double().norm()))
        return few if bool((apart <= _ROUNDING * torch.finfo(self._whole.dtype).eps).all()) else None

    def _back(self, vectors: Tensor) -> Tensor:
        """Products of vectors [n, B, S] with the Jacobian of the whole batch, [n, B, S]."""
        if not self._whole.requires_grad:
            return torch.zeros_like(vectors)
        several = len(vectors) > 1
        try:
            found = torch.autograd.grad(
                self._whole, self._entered, vectors if several else vectors[0], retain_graph=True,
                is_grads_batched=several, materialize_grads=True,
            )  # fmt: skip
        except RuntimeError as error:
            error.add_note(
                f"gradflow went back through the step that was given to mark({self._name!r}); it must not depend on "
                f"tensors that are changed in place before recorder.step(...)"
            )
            raise
        return torch.cat([part.reshape(*vectors.shape[:-1], -1) for part in found], -1)


def redone(name: str, step: Callable[..., object], previous: tuple[Tensor, ...], marked: tuple[Tensor, ...]) -> Redone:
    """Do a marked step again; random numbers are put back.

    Args:
        name: of the marked states, for the error.
        step: from the states before to the states.
        previous: the states before, [B, H] each, or [H].
        marked: the states.

    Raises:
        ValueError: if the step does not give states of the shape of those that were marked.
    """
    devices = [marked[0].device] if marked[0].is_cuda else []
    # A checkpoint counts what is saved, and would miss this when it runs the step again.
    uncounted = saved_tensors_hooks(Tensor.detach, Tensor.detach) if are_packed(if_unknown=True) else nullcontext()
    with torch.random.fork_rng(devices), torch.enable_grad(), uncounted:
        entered = tuple(state.detach().requires_grad_() for state in previous)
        left = step(*entered)
        left = left if isinstance(left, tuple) else (left,)
        if [getattr(part, "shape", None) for part in left] != [state.shape for state in marked]:
            raise ValueError(
                f"mark: expected step(*previous) to give what is marked as {name!r}, of shape "
                f"{', '.join(str(tuple(state.shape)) for state in marked)}, got "
                f"{', '.join(str(tuple(getattr(part, 'shape', ()))) for part in left)}"
            )
        return Redone(name, _with(step, lambda value: value), entered, left, marked)


def _with(step: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    """A function with whatever it holds now (defaults, variables around it, arguments of a partial) changed."""
    if isinstance(step, partial):
        words = {name: change(value) for name, value in step.keywords.items()}
        return partial(_with(step.func, change), *map(change, step.args), **words)
    if not isinstance(step, FunctionType):
        return step
    around = tuple(cell if _is_empty(cell) else CellType(change(cell.cell_contents)) for cell in step.__closure__ or ())
    defaults = tuple(map(change, step.__defaults__ or ()))
    made = FunctionType(step.__code__, step.__globals__, step.__name__, defaults, around)
    made.__kwdefaults__ = {name: change(value) for name, value in (step.__kwdefaults__ or {}).items()}
    return made


def _side_by_side(states: Sequence[Tensor]) -> Tensor:
    """[B, S], of states [B, H] each, or [H]."""
    return torch.cat([state.reshape(-1, state.shape[-1]) for state in states], -1)


def _is_empty(cell: CellType) -> bool:
    """Whether the variable has no value yet."""
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True
