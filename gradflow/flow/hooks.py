"""What hooks of a script do to the gradients of states, on them and on the way from one step to the next.

Shapes: B examples, H hidden size, [..., H] of a stack.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from gradflow.flow.calls import is_of_many_passes

_ROUNDINGS = 64
_ours = 0  # handles of hooks that were registered here
_inside: int | None = None  # how many were the script's, while more are being registered


@contextmanager
def own_hooks() -> Iterator[None]:
    """Inside, hooks that are registered are none of the script's."""
    global _ours, _inside
    before, _inside = _inside, registered_by_script()
    try:
        yield
    finally:
        _ours, _inside = RemovableHandle.next_id - _inside, before


def registered_by_script() -> int:
    """How many hooks anybody else has registered so far, on tensors, nodes and modules."""
    return RemovableHandle.next_id - _ours if _inside is None else _inside


class Look:
    """A hook on a tensor that comes before those of the script, to tell what they do to its gradient."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: tuple[Tensor, int] | None = None

    def __call__(self, gradient: Tensor | None) -> None:
        """Keep what arrives until it is asked for; nothing does at an output of compiled code that is not used."""
        self._seen = None if gradient is None else (gradient, gradient._version)

    def has_seen_other_than(self, gradient: Tensor) -> bool:
        """Whether the gradient is another one by now, or was changed in place."""
        seen, self._seen = self._seen, None
        return seen is not None and (seen[0] is not gradient or seen[1] != gradient._version)


def look_first(state: Tensor, look: Look) -> None:
    """Put a look on a tensor, before the hooks that the script has registered there already."""
    _put_first(state.register_hook(look))


def tell_of_changes(state: Tensor, changed: Callable[[], None]) -> None:
    """Have somebody told in a backward pass if hooks of the script on a state, or on its node, change gradients."""
    look, place, node, since = Look(), state.output_nr, state.grad_fn, registered_by_script()

    def ask(gradients: tuple[Tensor | None, ...]) -> None:
        gradient = gradients[place]
        if gradient is None:
            return
        if look.has_seen_other_than(gradient):
            changed()
        elif registered_by_script() != since:
            tell_of_later_changes(gradient, place, changed)

    look_first(state, look)
    cast(Any, node).register_prehook(ask)


def tell_of_later_changes(gradient: Tensor, place: int, changed: Callable[[], None]) -> None:
    """In a hook before a node: have somebody told if those of the script that come later there change gradients.

    Args:
        gradient: that comes to the node.
        place: among its outputs.
        changed: is told.
    """
    node: Any = torch._C._current_autograd_node()
    came, onward = (gradient, gradient._version), list[tuple[Tensor | None, int | None]]()

    def first(made: tuple[Tensor | None, ...], arrived: tuple[Tensor | None, ...]) -> None:
        onward.extend((part, None if part is None else part._version) for part in made)
        if arrived[place] is not came[0] or came[0]._version != came[1]:
            changed()

    def last(made: tuple[Tensor | None, ...], _: Any) -> None:
        for handle in handles:
            handle.remove()
        if any(
            part is not was or (part is not None and part._version != version)
            for part, (was, version) in zip(made, onward, strict=True)
        ):
            changed()

    with own_hooks():
        handles = [node.register_hook(first), node.register_hook(last)]
    _put_first(handles[0])


def is_hooked(state: Tensor) -> bool:
    """Whether a hook of the script is on a tensor."""
    return not all(isinstance(hook, Look) for hook in (state._backward_hooks or {}).values())


class Passage:
    """Whether the gradient of a state that enters a step comes to the state that left the one before as it should.

    What else than that comes by (a tensor on the way is read by the loss as well) is no fault; so it is asked only
    where the script has registered a hook since, somewhere.

    Args:
        state: that enters.
        factor: [..., H], by what its gradient is to be multiplied; NaN: nobody knows.
        edges: node of the graph -> which of its gradients go to where the state was given out.
        rounding: of one operation on the way, relative.
        since: :func:`registered_by_script` when the state was given out.
    """

    def __init__(
        self,
        state: Tensor,
        factor: Tensor,
        edges: Mapping[Any, Sequence[int]],
        rounding: float,
        since: int,
    ):
        self._factor, self._rounding, self._since, self._count = factor, rounding, since, len(edges)
        self._place, self._entered = state.output_nr, dict[int, Tensor]()
        self._left: dict[int, list[Tensor]] = {}
        self._off: list[Tensor] = []
        self._is_changed = False
        tell_of_changes(state, self._changed)
        cast(Any, state.grad_fn).register_prehook(self._enters)
        self._leavers = [node.register_hook(self._leaver(chosen)) for node, chosen in edges.items()]

    @property
    def is_hooked(self) -> bool:
        """Whether a hook of the script has changed the gradient on its way, in a backward pass that came by."""
        return self._is_changed or any(map(bool, self._off))

    def _changed(self) -> None:
        self._is_changed = True

    def _enters(self, gradients: tuple[Tensor | None, ...]) -> None:
        gradient = gradients[self._place]
        if registered_by_script() == self._since or gradient is None or is_of_many_passes(gradient):
            return
        self._entered[torch._C._current_graph_task_id()] = gradient.detach().clone()
        for leaver in self._leavers:
            _put_last(leaver)

    def _leaver(self, edges: Sequence[int]) -> Callable[..., None]:
        def leaves(onward: tuple[Tensor | None, ...], _: Any) -> None:
            number = torch._C._current_graph_task_id()
            if number not in self._entered:
                return
            parts = [part.detach() for part in (onward[edge] for edge in edges) if part is not None]
            whole = sum((part.reshape(self._factor.shape) for part in parts), torch.zeros_like(self._factor))
            self._left.setdefault(number, []).append(whole)
            if len(self._left[number]) == self._count:
                self._compare(self._entered.pop(number), torch.stack(self._left.pop(number)).sum(0))

        return leaves

    @torch.no_grad()
    def _compare(self, entered: Tensor, left: Tensor) -> None:
        expected, tiny = self._factor * entered, torch.finfo(entered.dtype).tiny
        rounding = _ROUNDINGS * (self._rounding * expected.abs() + tiny)
        self._off.append(((left - expected).abs() > rounding).any())


def _put_first(handle: RemovableHandle) -> None:
    """Let a hook come before those that the script has registered in the same place already."""
    hooks = handle.hooks_dict_ref()
    if hooks is not None and len(hooks) > 1:
        others = dict(hooks)
        own = others.pop(handle.id)
        hooks.clear()
        hooks[handle.id] = own
        hooks.update(others)


def _put_last(handle: RemovableHandle) -> None:
    """Let a hook see what those make that the script has registered on the same node since."""
    hooks = handle.hooks_dict_ref()
    if hooks is not None and handle.id in hooks:
        hooks[handle.id] = hooks.pop(handle.id)
