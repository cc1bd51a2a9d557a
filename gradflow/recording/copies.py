"""Copies of tensors that are made again and again, into the same memory."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Copies:
    """Holds the last copy of a set of named tensors.

    >>> copies, weight = Copies(), torch.ones(2)
    >>> kept = copies.of({"weight": weight})
    >>> weight.zero_(), kept
    (tensor([0., 0.]), {'weight': tensor([1., 1.])})
    """

    def __init__(self) -> None:
        self._sources: list[Tensor] = []
        self._copies: dict[str, Tensor] = {}
        self._memory: list[Tensor] = []

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Detached copies of the tensors; those of the call before are overwritten if the tensors are the same."""
        sources = [tensor.detach() for tensor in tensors.values()]
        if not self._fit(tensors, sources):
            self._sources = list(tensors.values())
            self._copies = {name: torch.empty_like(tensor) for name, tensor in zip(tensors, sources, strict=True)}
            self._memory = list(self._copies.values())
        if sources:  # of a marked state nobody knows the weights
            torch._foreach_copy_(self._memory, sources)
        return self._copies

    def _fit(self, tensors: Mapping[str, Tensor], sources: list[Tensor]) -> bool:
        """Whether these are the tensors of the call before, of the same dtype and device."""
        if len(sources) != len(self._memory):
            return False
        for tensor, before, source, copy in zip(tensors.values(), self._sources, sources, self._memory, strict=True):
            if tensor is not before or source.dtype != copy.dtype or source.device != copy.device:
                return False
        return True
