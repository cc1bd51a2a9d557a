"""Copies of tensors that are made again and again, into the same memory."""

from collections.abc import Mapping
from operator import is_

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

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Detached copies of the tensors; those of the call before are overwritten if the tensors are the same."""
        sources, old = list(tensors.values()), self._copies.values()
        fits = len(sources) == len(self._sources) and all(map(is_, sources, self._sources))
        if not fits or any(a.dtype is not b.dtype or a.device != b.device for a, b in zip(sources, old, strict=True)):
            self._sources = sources
            self._copies = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        with torch.no_grad():
            torch._foreach_copy_(list(self._copies.values()), sources)
        return self._copies
