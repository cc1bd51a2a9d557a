"""What backward passes add to the gradients of recurrent weights, for the proof of a record."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from gradflow.cells.layers import suffix
from gradflow.flow.calls import is_of_many_passes


class Added:
    """What backward passes add to the gradients of weights, by hooks on these; to be asked for before the passes.

    Args:
        beside: ids of parameters that something else uses as well, so that more may be added than the layers do.
    """

    def __init__(self, beside: Collection[int] = ()) -> None:
        self.beside = beside
        self._weights: dict[int, Tensor] = {}  # held, so that an id stays theirs
        self._by_pass: dict[tuple[int, int], Tensor] = {}
        self._handles: list[Any] = []

    def follow(self, call: Any) -> None:
        """Hook into the recurrent weights of a call that has just run."""
        for layer, direction in places(call.layer):
            weight = recurrent_weight(call, layer, direction)
            if weight is not None and weight.requires_grad and id(weight) not in self._weights:
                self._weights[id(weight)] = weight
                self._handles.append(weight.register_hook(self._keeper(id(weight))))

    def _keeper(self, which: int) -> Callable[[Tensor], None]:
        by_pass = self._by_pass

        def keep(gradient: Tensor) -> None:
            if is_of_many_passes(gradient):
                return
            key = which, torch._C._current_graph_task_id()
            copy = gradient.detach().to(torch.float64, copy=True)  # autograd may go on to add to what it hands out
            by_pass[key] = by_pass[key] + copy if key in by_pass else copy

        return keep

    def by(self, weight: Tensor, passes: Sequence[int]) -> Tensor | None:
        """The sum of what some passes added, float64; None: nobody knows."""
        parts = [self._by_pass[id(weight), number] for number in passes if (id(weight), number) in self._by_pass]
        return torch.stack(parts).sum(0) if parts else None

    def forget(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()


def places(layer: Any) -> list[tuple[int, int]]:
    """Every (layer, direction)."""
    return [(index, side) for index in range(layer.num_layers) for side in range(2 if layer.bidirectional else 1)]


def recurrent_weight(call: Any, layer: int, direction: int) -> Tensor | None:
    """W_hh as the pass used it."""
    return call.weights.get("weight_hh" + suffix(layer, direction))
