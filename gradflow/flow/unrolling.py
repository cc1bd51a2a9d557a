"""All steps of a sequence that a script made one by one, side by side: states, inputs, gates, weights.

Nothing has to be run again: what entered each step and what left it was seen.

Shapes: T steps, B examples, L layers, D input size, H hidden size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from gradflow.cells.cell import Cell, State, TorchCell
from gradflow.cells.recurrent import replayed
from gradflow.cells.scanning import within
from gradflow.flow.between import AS_LEFT
from gradflow.flow.calls import cell_class, torch_cell, weights_known, widened
from gradflow.flow.examples import picked
from gradflow.flow.redoing import Redone
from gradflow.flow.replay import Unrolled
from gradflow.flow.stepping import Marked, Step
from gradflow.jacobian.known import SteppedJacobian, UnknownJacobian


@dataclass(eq=False)
class ChainCall:
    """What the log and the proof ask of a call, of a whole sequence of steps.

    Attributes:
        layer: the module, or the cell seen as a layer of one.
        weights: name -> parameter, as they were at the first step.
        device: of the states.
        kernel_dtype: to which autocast rounded the weights; without it that of the states.
        batch_size: B.
        separate: what it gave out are views of the states, or came out of one node; otherwise autograd's gradient of a
            state holds as well what reaches it through the other states of the same step.
        lengths: [B], how many steps of each example count; None: all.
    """

    layer: Any
    weights: Mapping[str, Tensor]
    device: torch.device
    kernel_dtype: torch.dtype
    batch_size: int
    separate: bool
    lengths: Tensor | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)  # in the steps


@dataclass(frozen=True)
class Stepped(Unrolled):
    """All steps of one layer of a sequence that a script stepped through itself.

    Attributes:
        redone: of marked states whose step is told, each step done again; else None.
        examples: positions in the batch of those that are here.
    """

    redone: Sequence[Redone] | None = None
    examples: Sequence[int] = ()

    @property
    def is_unknown(self) -> bool:
        """Whether nobody knows how the states are made."""
        return self.redone is None and isinstance(self.cell, MarkedCell)

    def part(self, positions: slice) -> "Stepped":
        """See :meth:`gradflow.flow.replay.Unrolled.part`."""
        part = cast(Stepped, super().part(positions))
        return part if self.redone is None else replace(part, redone=self.redone[positions])

    def of(self, examples: list[int]) -> "Stepped":
        """See :meth:`gradflow.flow.replay.Unrolled.of`."""
        return replace(cast(Stepped, super().of(examples)), examples=[self.examples[place] for place in examples])

    @cached_property
    def jacobian(self) -> Any:
        """∂s_t/∂s_{t-1} of the cell alone."""
        if not isinstance(self.cell, MarkedCell):
            return super().jacobian
        names = self.cell.state_names
        if self.redone is None:
            return UnknownJacobian(names, self.valid, self.like)
        return SteppedJacobian(names, self.valid, self.redone, self.examples, self.like)


class MarkedCell(Cell):
    """Of a state marked by hand only the names of its parts are known."""

    def __init__(self, names: tuple[str, ...], hidden_size: int):
        super().__init__()
        self.state_names, self.output_names = names, names[:1]  # type: ignore[misc]
        self.hidden_size = hidden_size


def unrolled_steps(call: ChainCall, steps: Sequence[Step], examples: Sequence[int] | None) -> list[Stepped]:
    """Every layer of a sequence of steps.

    Args:
        call: whose steps they are.
        steps: in the order in which they ran.
        examples: positions in the batch; None: all.
    """
    layer = call.layer
    names, count = cell_class(layer).state_names, layer.num_layers
    lengths = _lengths(call, len(steps), examples)
    leaving = {name: stacked([s.leaving[place] for s in steps], count, examples) for place, name in enumerate(names)}
    entering = {name: _entering(steps, place, leaving[name], examples) for place, name in enumerate(names)}
    x = _inputs(call, steps, leaving[names[0]], examples)
    weights = {
        name: widened(weight.detach().to(call.kernel_dtype)) if weight.is_floating_point() else weight
        for name, weight in call.weights.items()
    }
    scales = _scales(steps, count, examples)
    valid = None if lengths is None else within(len(steps), lengths).to(call.device)
    ends = torch.full((leaving[names[0]].shape[2],), len(steps) - 1, device="cpu") if lengths is None else lengths - 1
    found = []
    redone = [step.redone for step in steps if step.redone is not None]
    told = redone if len(redone) == len(steps) else None
    which = examples if examples is not None else range(leaving[names[0]].shape[2])
    for index, scale in enumerate(scales):
        states = {name: part[:, index] for name, part in leaving.items()}
        previous = {name: part[:, index] for name, part in entering.items()}
        cell = _cell(call, weights, index, states, steps[0], examples)
        x = x if scale is None else x * scale
        gates = _gates(cell, x, previous, states)
        stepped = Stepped(cell, x, states, previous, gates, lengths, ends, valid, False, scale)
        is_own = isinstance(cell, TorchCell) and not cell.gateless
        found.append(replace(stepped, gates_are_own=is_own, redone=told, examples=which))
        x = states[names[0]]
    return found


def _gates(cell: Any, x: Tensor, previous: State, states: State) -> State:
    if isinstance(cell, MarkedCell):
        return {}
    return {"h": states["h"]} if isinstance(cell, TorchCell) and cell.gateless else cell.gates(x, previous)


def _cell(
    call: ChainCall,
    weights: Mapping[str, Tensor],
    index: int,
    states: State,
    first: Step,
    examples: Sequence[int] | None,
) -> Any:
    layer, like = call.layer, next(iter(states.values()))
    if isinstance(layer, Marked):
        return MarkedCell(tuple(states), like.shape[-1])
    if weights_known(layer):
        return torch_cell(layer, weights.get, index, 0)
    x = _inputs(call, [first], like, None)[0]
    return replayed(layer, weights, x).of(lambda held: picked(held, examples, 0))


def _lengths(call: ChainCall, count: int, examples: Sequence[int] | None) -> Tensor | None:
    if call.lengths is None:
        return None
    lengths = torch.as_tensor(call.lengths, device="cpu")
    if lengths.is_floating_point() or lengths.shape != (call.batch_size,) or bool((lengths < 1).any()):
        raise ValueError(
            f"lengths: expected {call.batch_size} whole numbers from 1 to {count}, got {lengths.dtype} of shape "
            f"{tuple(lengths.shape)}"
        )
    lengths = lengths.clamp(max=count)
    lengths = picked(lengths, examples, 0)
    return None if bool((lengths == count).all()) else lengths


def stacked(parts: Sequence[Tensor], count: int, examples: Sequence[int] | None) -> Tensor:
    """States as the calls gave them ([L, B, H], [B, H], without B) as [T, L, B, H], at least float32."""
    whole = widened(torch.stack(list(parts)))
    whole = whole.reshape(len(parts), count, -1, whole.shape[-1])
    return picked(whole, examples, 2)


def _entering(steps: Sequence[Step], place: int, leaving: Tensor, examples: Sequence[int] | None) -> Tensor:
    zeros = torch.zeros_like(leaving[:1])
    given = [step.entering[place] for step in steps]
    first = zeros if given[0] is None else stacked(given[:1], leaving.shape[1], examples)
    if all(is_as_left(*pair) for pair in pairwise(steps)):
        return torch.cat((first.to(leaving.dtype), leaving[:-1]))
    parts = [zeros if part is None else stacked([part], leaving.shape[1], examples) for part in given]
    return torch.cat([part.to(leaving.dtype) for part in parts])


def is_as_left(before: Step, step: Step) -> bool:
    """Whether a step follows another one and its states enter as they left that."""
    return step.between is AS_LEFT and step.index == before.index + 1


def _inputs(call: ChainCall, steps: Sequence[Step], like: Tensor, examples: Sequence[int] | None) -> Tensor:
    """[T, B, D], or indices [T, B]."""
    parts = [step.x for step in steps]
    if any(part is None for part in parts):
        return like.new_zeros(*like.shape[:1], like.shape[2], 0)
    x = torch.stack(cast(list[Tensor], parts))
    trailing = x.shape[-1:] if x.is_floating_point() else ()
    x = widened(x.reshape(len(steps), call.batch_size, *trailing))
    return picked(x, examples)


def _scales(steps: Sequence[Step], count: int, examples: Sequence[int] | None) -> list[Tensor | None]:
    """What dropout multiplied the input of each layer by, [T, B, H]; None: it did not."""
    if steps[0].dropout is None:
        return [None] * count
    h = steps[0].leaving[0]
    shape = (1, *h.shape[1:])
    by_step = [cast(Any, step.dropout).scales(shape, h.dtype, count - 1) for step in steps]
    return [None, *(stacked(scales, 1, examples)[:, 0] for scales in zip(*by_step, strict=True))]
