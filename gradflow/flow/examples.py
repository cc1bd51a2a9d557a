"""Which examples of a batch are recorded, and how they are taken out of a tensor."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def chosen(batch: int, examples: int | str) -> Sequence[int] | None:
    """Positions ⌊iB/n⌋ of n examples of a batch of B: a range where they are evenly spaced; None: all of them."""
    count = batch if examples == "all" else min(int(examples), batch)
    if count == batch:
        return None
    return range(0, batch, batch // count) if batch % count == 0 else _spread(batch, count)


@lru_cache(64)
def _spread(batch: int, count: int) -> tuple[int, ...]:
    return tuple(i * batch // count for i in range(count))


def picked(value: Tensor, examples: Sequence[int] | None, dim: int = 1) -> Tensor:
    """Some examples of a tensor whose dimension `dim` is the batch: a view where they are all, or evenly spaced.

    >>> picked(torch.arange(6), range(0, 6, 2), dim=0), picked(torch.arange(6), [0, 4], dim=0)
    (tensor([0, 2, 4]), tensor([0, 4]))
    """
    if examples is None:
        return value
    if isinstance(examples, range):
        return value[(slice(None),) * dim + (slice(examples.start, examples.stop, examples.step),)]
    return value.index_select(dim, index_of(examples, value.device))


def index_of(examples: Sequence[int], device: torch.device) -> Tensor:
    """The positions as a tensor, which is not to be changed: the same at every call."""
    return _index(examples if isinstance(examples, range) else tuple(examples), device)


@lru_cache(64)
def _index(examples: Sequence[int], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.as_tensor(examples if isinstance(examples, tuple) else list(examples), device=device)
