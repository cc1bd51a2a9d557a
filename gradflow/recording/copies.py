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
        self._kinds: list[tuple[torch.dtype, torch.device]] = []
        self._copies: dict[str, Tensor] = {}

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Detached copies of the tensors; those of the call before are overwritten if the tensors are the same."""
        sources = list(tensors.values())
        kinds = [(tensor.dtype, tensor.device) for tensor in sources]
        is_same = len(sources) == len(self._sources) and all(map(is_, sources, self._sources)) and kinds == self._kinds
        if not is_same:
            self._sources, self._kinds = sources, kinds
            self._copies = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        if not sources:
            return {}
        with torch.no_grad():
            if sources:  # none is known of a marked state
                torch._foreach_copy_(list(self._copies.values()), sources)
        return self._copies
