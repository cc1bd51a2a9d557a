"""Vectors that carry a power of two of their own, so that 1e-2000 is as exact as 1.

Shapes: vectors [..., B, S]; exponents [..., B] float64, whole numbers.
"""

import torch
from torch import Tensor

LN2 = 0.6931471805599453


def exponent_of(vector: Tensor) -> Tensor:
    """The power of two above the largest element, [..., S] -> [...] float64; -inf for zero and what is not finite."""
    largest = vector.abs().amax(-1).double()
    return torch.where(largest.isfinite() & (largest > 0), torch.frexp(largest).exponent.double(), -torch.inf)


def times_power_of_two(vectors: Tensor, exponent: Tensor) -> Tensor:
    """Vectors · 2^exponent; only zeros meet a power beyond the range of their dtype, and stay zeros."""
    return vectors * power_of_two(exponent, vectors.dtype)


def power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponent as factors of vectors, [..., 1], within the range of the dtype."""
    return torch.exp2(exponent.clamp(max=1023 if dtype == torch.float64 else 127)).to(dtype).unsqueeze(-1)


def scaled_sum(a: Tensor, exponent_a: Tensor, b: Tensor, exponent_b: Tensor) -> tuple[Tensor, Tensor]:
    """a·2^exponent_a + b·2^exponent_b as numbers near 1 and their exponent; where neither is, that of `a` is kept."""
    new = torch.maximum(exponent_of(a) + exponent_a, exponent_of(b) + exponent_b)
    new = torch.where(new.isfinite(), new, exponent_a)
    return times_power_of_two(a, exponent_a - new) + times_power_of_two(b, exponent_b - new), new
