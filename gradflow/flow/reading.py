"""Total gradients read from the backward pass itself, where a kernel leaves its steps in the autograd graph.

torch's RNN and GRU on a CPU, its LSTM where oneDNN does not take it, and gradflow's own layers make each h_t by a node
of its own, to which autograd brings the *total* gradient dL/dh_t. Here these nodes are found, as strictly as can be:
whatever differs from what is known is not read, and :mod:`gradflow.flow.recursion` finds the same gradients from those
at the layer's outputs. A hook on each node copies the examples that are recorded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradflow.cells.cell import State
from gradflow.cells.layers import SequenceLayer
from gradflow.cells.lstm import LSTMCell
from gradflow.flow.calls import REACH, LayerCall, add, cell_class, is_of_many_passes
from gradflow.flow.examples import index_of
from gradflow.flow.saved import LEFT_FACTORS, Place, Saved, saved

_MAKES_H = {"RNN_TANH": "TanhBackward0", "RNN_RELU": "ReluBackward0", "LSTM": "MulBackward0", "GRU": "AddBackward0"}
_VIEWS, _DROPOUT = ("ViewBackward0", "UnsafeViewBackward0"), ("MulBackward0", "NativeDropoutBackward0")
_DTYPES = (torch.float32, torch.float64)
_current_pass: Callable[[], int] = torch._C._current_graph_task_id


class Reading:
    """What backward passes brought to the steps of one call.

    Args:
        steps: layer and direction -> state name -> the nodes of its steps, by position. They are not held.
        shape: (T, B) of what is kept.
        examples: positions in the batch of those that are kept; None: all.
        unsorted: [B], the place of each example among those of a packed sequence; None: they are in order.
        like: a tensor of the dtype and the device, [..., H].
        saved: what these nodes have saved.
    """

    def __init__(
        self,
        steps: dict[Place, dict[str, Sequence[Any]]],
        shape: tuple[int, int],
        examples: Sequence[int] | None,
        unsorted: Tensor | None,
        like: Tensor,
        saved: Saved,
    ):
        self._examples, self._unsorted, self.saved = examples, unsorted, saved
        self.pick = None if examples is None else index_of(examples, like.device)
        self._kept: dict[int, dict[Place, State]] = {}
        self._device = like.device
        self._new = partial(like.detach().new_zeros, (*shape, like.shape[-1]))  # attached, it would hold the graph
        for place, states in steps.items():
            for name, nodes in states.items():
                into, in_order = _Into(self, place, name), range(len(nodes))
                for ran, time in enumerate(reversed(in_order) if place[1] == 1 else in_order):
                    below = nodes[time + REACH if place[1] == 1 else time - REACH] if ran >= REACH else None
                    nodes[time].register_prehook(_Hook(into, time, below))

    def room(self, place: Place, name: str) -> Tensor:
        """Where the backward pass that runs leaves the gradients of one state, [T, B, H]."""
        states = self._kept.setdefault(_current_pass(), {}).setdefault(place, {})
        if name not in states:
            states[name] = self._new()
        return states[name]

    def of(self, passes: Sequence[int], examples: Sequence[int] | None) -> dict[Place, State]:
        """The sum over some backward passes: layer and direction -> state name -> [T, B, H]; none where none came.

        Args:
            passes: their numbers.
            examples: positions in the batch: those that were kept, or any if all were; None: all.
        """
        found: dict[Place, State] = {}
        for kept in (self._kept[number] for number in passes if number in self._kept):
            for place, states in kept.items():
                for name, part in states.items():
                    add(found.setdefault(place, {}), name, part)
        order = None if examples is None or examples == self._examples else index_of(examples, self._device)
        if self._unsorted is not None:
            order = self._unsorted if order is None else self._unsorted[order]
        if order is None:
            return found
        return {place: {name: part.index_select(1, order) for name, part in s.items()} for place, s in found.items()}


class _Into:
    """Copies the gradients of the steps of one state; the room is found anew for every backward pass."""

    __slots__ = ("_name", "_number", "_pick", "_place", "_reading", "_rows")

    def __init__(self, reading: Reading, place: Place, name: str):
        self._reading, self._place, self._name, self._pick = reading, place, name, reading.pick
        self._number = -1
        self._rows: tuple[Tensor, ...] = ()

    def copy(self, time: int, gradients: tuple[Tensor | None, ...]) -> None:
        """What comes to the node of one step."""
        gradient = gradients[0]
        if gradient is None or is_of_many_passes(gradient):
            return
        number = _current_pass()
        if number != self._number:
            self._number, self._rows = number, self._reading.room(self._place, self._name).unbind()
        if gradient.requires_grad:
            gradient = gradient.detach()
        if self._pick is None:
            self._rows[time][: len(gradient)].copy_(gradient)
        else:
            torch.index_select(gradient, 0, self._pick, out=self._rows[time])


class _Hook:
    """On the node of one step; small, since the garbage collector visits every object."""

    __slots__ = ("_below", "_into", "_time")

    def __init__(self, into: _Into, time: int, below: Any):
        self._into, self._time, self._below = into, time, below

    def __call__(self, gradients: tuple[Tensor | None, ...]) -> None:
        self._into.copy(self._time, gradients)


def read(call: LayerCall, examples: Sequence[int] | None) -> Reading | None:
    """Hook into the steps of a call that has just run; None if they are not in the graph as they are known to be.

    Args:
        call: whose output is in the graph.
        examples: positions in the batch of those that are kept; None: all.
    """
    output = call.output.data if isinstance(call.output, PackedSequence) else call.output
    if output.grad_fn is None or call.kernel_dtype not in _DTYPES or output.dtype != call.kernel_dtype:
        return None
    found = _steps_of(call, output)
    if found is None:
        return None
    steps, products = found
    length, batch = _shape(call)
    kept = saved(call, steps, products, (length, batch, output.shape[-1]), examples)
    unsorted = None
    if isinstance(call.output, PackedSequence) and not isinstance(call.layer, SequenceLayer):
        examples, unsorted = None, call.output.unsorted_indices
        unsorted = torch.arange(batch, device=output.device) if unsorted is None else unsorted
    shape = length, batch if examples is None else len(examples)
    return Reading(steps, shape, examples, unsorted, call.finals[0], kept)


def _steps_of(call: LayerCall, output: Tensor) -> tuple[dict[Place, dict[str, Sequence[Any]]], dict[int, Any]] | None:
    """The nodes of all steps, and those of the products of the outputs of lower layers with W_ih above."""
    layer, found, products = call.layer, {}, {}
    sides, (count, _) = 2 if layer.bidirectional else 1, _shape(call)
    if count == 1 and layer.num_layers > 1:  # no step tells inputs from initial states
        return None
    node = _behind_layout(call, output.grad_fn)
    for index in reversed(range(layer.num_layers)):
        stacks = _children(node) if _is(node, "CatBackward0") and _joins_directions(node, sides) else [node]
        if len(stacks) != sides:
            return None
        for side, stack in enumerate(stacks):
            nodes = _in_order(call, stack, count, reverse=side == 1)
            states = None if nodes is None else _with_cell_states(call, nodes)
            if states is None:
                return None
            found[index, side] = states
        if index:
            product = _product_of_inputs(next(iter(found[index, 0].values())))
            if product is None:
                return None
            factor = _behind(_left_factor(product), *_VIEWS)
            node = _behind(factor, *_VIEWS, *_DROPOUT)
            if node is factor:
                products[index - 1] = product
    return found, products


def _shape(call: LayerCall) -> tuple[int, int]:
    """T and B."""
    if isinstance(call.output, PackedSequence):
        return len(call.output.batch_sizes), int(call.output.batch_sizes[0])
    first, second = call.output.shape[:2] if call.batched else (len(call.output), 1)
    return (second, first) if call.batched and call.layer.batch_first else (first, second)


def _is(node: Any, *names: str) -> bool:
    return node is not None and type(node).__name__ in names


def _children(node: Any) -> list[Any]:
    return [child for child, _ in node.next_functions]


def _behind_layout(call: LayerCall, node: Any) -> Any:
    """The node that joins directions or steps, behind what makes the layout that the layer was asked for."""
    if not call.batched and _is(node, "SqueezeBackward1"):
        return _children(node)[0]
    if call.packed:
        while _is(node, "PackPaddedSequenceBackward0", "IndexSelectBackward0"):
            node = _children(node)[0]
        return node
    if call.batched and call.layer.batch_first:
        return _children(node)[0] if _is(node, "TransposeBackward0", "TransposeBackward1") else None
    return node


def _joins_directions(node: Any, sides: int) -> bool:
    return len(node.next_functions) == sides and all(_is(c, "StackBackward0", "CatBackward0") for c in _children(node))


def _in_order(call: LayerCall, stack: Any, count: int, *, reverse: bool) -> list[Any] | None:
    """The nodes that made h_t, by position, if they are what the layer's kernel is known to leave."""
    if not _is(stack, "StackBackward0", "CatBackward0") or len(stack.next_functions) != count:
        return None
    edges = stack.next_functions
    if isinstance(call.output, PackedSequence) and isinstance(call.layer, SequenceLayer):
        full = int((call.output.batch_sizes == call.output.batch_sizes[0]).sum())
        edges = (*edges[:full], *(_before_padding(edge) for edge in edges[full:]))
    if any(n for _, n in edges):  # h is one of several outputs of its node
        return None
    nodes = [node for node, _ in edges]
    kinds = {kind.__name__ for kind in set(map(type, nodes))}
    expected = _MAKES_H.get(getattr(call.layer, "mode", ""))
    if len(kinds) != 1 or kinds & {"NoneType", "AccumulateGrad"} or (expected is not None and kinds != {expected}):
        return None
    ran = [node._sequence_nr() for node in nodes]
    return nodes if ran == sorted(ran, reverse=reverse) and len(set(ran)) == count else None


def _before_padding(edge: tuple[Any, int]) -> tuple[Any, int]:
    """Of a position past the shortest example, which our own layers fill up with zeros, the edge to what made it."""
    node, _ = edge
    return node.next_functions[0] if _is(node, "MaskedFillBackward0") else edge


def _with_cell_states(call: LayerCall, nodes: list[Any]) -> dict[str, Sequence[Any]] | None:
    """The nodes of h, and of the c of an LSTM: h_t = o_t tanh(c_t)."""
    kind = cell_class(call.layer)
    if len(kind.state_names) == 1:
        return {kind.state_names[0]: nodes}
    if not issubclass(kind, LSTMCell):
        return None
    shown = [next((child for child in _children(node) if _is(child, "TanhBackward0")), None) for node in nodes]
    cells = [None if node is None else _children(node)[0] for node in shown]
    return {"h": nodes, "c": cells} if all(_is(node, "AddBackward0") for node in cells) else None


def _product_of_inputs(nodes: Sequence[Any]) -> Any:
    """The node of the product of the inputs with W_ih, found from the step that ran last; None if it is not found.

    All steps share it, unbound into steps (of a packed sequence cut). Steps that ran before are not gone through, so
    that no initial state is taken for an input.
    """
    last = max(nodes, key=lambda node: node._sequence_nr())
    share = _search(last, _is_share_of_inputs, set(nodes) - {last})
    product = _behind(share, "UnbindBackward0", "SliceBackward0", *_VIEWS)
    return product if _is(product, *LEFT_FACTORS) else None


def _left_factor(product: Any) -> Any:
    return _children(product)[LEFT_FACTORS[type(product).__name__][0]]


def _behind(node: Any, *names: str) -> Any:
    """The first node that is none of these, from input to first input."""
    while _is(node, *names):
        node = _children(node)[0]
    return node


def _is_share_of_inputs(node: Any) -> bool:
    return _is(node, "UnbindBackward0") or (_is(node, "SliceBackward0") and _is(_children(node)[0], *LEFT_FACTORS))


def _search(start: Any, wanted: Callable[[Any], bool], closed: set[Any]) -> Any:
    """The first node, breadth first, that is wanted; nothing is gone through that is closed."""
    waiting, seen = [start], set(closed)
    while waiting:
        node = waiting.pop(0)
        if wanted(node):
            return node
        for child in _children(node):
            if child is not None and child not in seen:
                seen.add(child)
                waiting.append(child)
    return None
