"""Gates and lower layers' states as the pass computed them, taken from what the autograd graph has saved.

A node saves what its derivative needs: a sigmoid or tanh its result, a product its factors. So where the steps of a
layer are in the graph (:mod:`gradflow.flow.reading`), the gates are there as well, and the output of each lower layer
is the left factor of the product with W_ih of the layer above. Only the recorded examples are copied, and the graph is
not held. What is not found is computed anew, as :mod:`gradflow.flow.replay` does for every other layer; so are packed
sequences of torch's kernels, whose steps differ in size: to sort their rows was measured to cost what it saves.

Shapes: T time steps, B examples, H hidden size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradflow.cells.cell import Cell, State
from gradflow.cells.gru import GRUBeforeCell, GRUCell
from gradflow.cells.layers import is_fused
from gradflow.cells.lstm import LSTMCell
from gradflow.flow.between import are_packed
from gradflow.flow.calls import LayerCall, cell_class
from gradflow.flow.examples import index_of, picked

Place = tuple[int, int]
"""Layer and direction."""

_LSTM = {
    "i": ("c", "Add/1 Mul/0 Sigmoid", "result"),
    "f": ("c", "Add/0 Mul/0 Sigmoid", "result"),
    "g": ("c", "Add/1 Mul/1 Tanh", "result"),
    "o": ("h", "Mul/0 Sigmoid", "result"),
}
_GRU_OF_TORCH = {
    "r": ("h", "Add/1 Tanh/0 Add/1 Mul/1 Sigmoid", "result"),
    "z": ("h", "Add/0 Mul/1 Sigmoid", "result"),
    "n": ("h", "Add/1 Tanh", "result"),
    "hn": ("h", "Add/1 Tanh/0 Add/1 Mul", "self"),
}
_GRU_BEFORE = {
    "rz": ("h", "Add/1 Mul/0 Split/0 Sigmoid", "result"),
    "n": ("h", "Add/0 Tanh", "result"),
}
_GRU_AFTER = _GRU_BEFORE | {"hn": ("h", "Add/0 Tanh/0 Add/1 Mul", "other")}
_SAVED: dict[tuple[type[Cell], bool], dict[str, tuple[str, str, str]]] = {
    (LSTMCell, True): _LSTM,
    (LSTMCell, False): _LSTM,
    (GRUCell, True): _GRU_OF_TORCH,
    (GRUCell, False): _GRU_AFTER,
    (GRUBeforeCell, False): _GRU_BEFORE,
}
"""Cell, and whether torch's kernel runs it -> gate -> the state from whose node a path leads to the gate's, and what
is saved there. A path is the kind of the first node, then the place among its inputs and the kind of each after."""

LEFT_FACTORS = {"AddmmBackward0": (1, "mat1"), "MmBackward0": (0, "self")}
"""Kind of a product -> the place of its left factor among its inputs, and its name among what is saved."""


@dataclass(frozen=True)
class Saved:
    """What the nodes of one call had saved, of some examples.

    Attributes:
        examples: their positions in the batch; None: all.
        gates: layer and direction -> gate letter -> [T, B, H]; "hn" is W_hn h + b_hn of a GRU.
        outputs: lower layer -> [T, B, directions·H].
    """

    examples: Sequence[int] | None = None
    gates: Mapping[Place, State] = field(default_factory=dict)
    outputs: Mapping[int, Tensor] = field(default_factory=dict)

    def of(self, examples: Sequence[int] | None) -> "Saved":
        """The same of those examples that are here, or of any if all are; None: all."""
        if examples == self.examples:
            return self

        def some(part: Tensor) -> Tensor:
            return picked(part, examples)

        gates = {place: {name: some(part) for name, part in named.items()} for place, named in self.gates.items()}
        return Saved(examples, gates, {index: some(part) for index, part in self.outputs.items()})


def saved(
    call: LayerCall,
    steps: Mapping[Place, Mapping[str, Sequence[Any]]],
    products: Mapping[int, Any],
    shape: tuple[int, int, int],
    examples: Sequence[int] | None,
) -> Saved:
    """Copy what is saved of a call that has just run.

    Args:
        call: whose output is in the graph.
        steps: layer and direction -> state name -> the nodes of its steps, by position.
        products: lower layer -> the node of the product of its output, as it is, with W_ih of the layer above.
        shape: T, B and directions·H.
        examples: positions in the batch of those that are copied; None: all.
    """
    fused = is_fused(call.layer)
    if (fused and call.packed) or are_packed(if_unknown=True):
        return Saved(examples)
    paths = _SAVED.get((cell_class(call.layer), fused), {})
    pick = None if examples is None else index_of(examples, call.finals[0].device)
    with torch.no_grad():
        gates = {place: _gates(states, paths, pick) for place, states in steps.items()}
        outputs = {index: _left_factor(product, shape, pick) for index, product in products.items()}
    return Saved(
        examples,
        {place: named for place, named in gates.items() if named},
        {index: part for index, part in outputs.items() if part is not None},
    )


def _copied(parts: Sequence[Tensor], pick: Tensor | None) -> Tensor:
    """Some rows of what each step has, [T, B, ·]; None: all."""
    if pick is None:
        return torch.stack(list(parts))
    copies = parts[0].new_empty(len(parts), len(pick), parts[0].shape[-1])
    for part, copy in zip(parts, copies.unbind(), strict=True):
        torch.index_select(part, 0, pick, out=copy)
    return copies


def _gates(steps: Mapping[str, Sequence[Any]], paths: Mapping[str, tuple[str, str, str]], pick: Tensor | None) -> State:
    """The gates of one layer and direction; none if one step is not as it is known to be."""
    gates: State = {}
    for name, (state, path, what) in paths.items():
        nodes = _along(steps[state], path)
        if nodes is None:
            return {}
        gates[name] = _copied([getattr(node, f"_saved_{what}") for node in nodes], pick)
    if "rz" in gates:
        gates["r"], gates["z"] = gates.pop("rz").chunk(2, -1)
    return gates


def _along(nodes: Sequence[Any], path: str) -> list[Any] | None:
    """Where a path leads from the nodes of all steps; None if one is of another kind on the way."""
    first, *hops = path.split("/")
    reached = list(nodes)
    for place, kind in (("", first), *(hop.split() for hop in hops)):
        if place:
            reached = [node.next_functions[int(place)][0] for node in reached]
        if {found.__name__ for found in set(map(type, reached))} != {f"{kind}Backward0"}:
            return None
    return reached


def _left_factor(product: Any, shape: tuple[int, int, int], pick: Tensor | None) -> Tensor | None:
    factor = getattr(product, f"_saved_{LEFT_FACTORS[type(product).__name__][1]}")
    if factor is None or factor.shape != (shape[0] * shape[1], shape[2]):  # none is saved if W_ih is frozen
        return None
    return _copied(factor.view(shape).unbind(), pick)
