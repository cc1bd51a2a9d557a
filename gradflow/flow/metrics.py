"""Numbers out of tensors: safe norms and summaries over examples.

Norms and logs are float64: in float32 the norm of a vanished gradient is exactly 0 below about 1e-23 and inf above
about 1e19, because squares under- and overflow. Logs are natural.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gradflow.flow.scaled import LN2


def log_norm(vectors: Tensor) -> Tensor:
    """Natural log of the Euclidean norm over the last dimension, [...] float64, over the whole range of the dtype.

    Returns:
        -inf for exactly zero, inf for an infinite and NaN for a NaN element.

    >>> log_norm(torch.full((64,), 1e-25)).exp()
    tensor(8.0000e-25, dtype=torch.float64)
    """
    low, high, most = _SAFE.get(vectors.dtype, (torch.inf, 0.0, 0))
    ends = _at_ends(vectors)
    if not any(ends) and _largest(vectors) == 0:  # as where the loss reads the last step alone
        return torch.full_like(vectors[..., 0], -torch.inf, dtype=torch.float64)
    power = _power(ends, low, high, most)
    norm = torch.linalg.vector_norm(vectors * 2.0**power if power else vectors, dim=-1)
    if all_between(norm, low, high) or _is_zero_elsewhere(vectors, norm, low, high):
        return norm.double().log_().sub_(power * LN2) if power else norm.double().log()
    # Squares may have left the range, or a norm is not finite.
    if vectors.dtype != torch.float64:  # the squares of narrower numbers cannot leave the range of float64
        return torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float64).log()
    doubtful = ~((norm > low) & (norm < high))
    return (norm.log() - power * LN2).index_put((doubtful,), _scaled_log_norm(vectors[doubtful]))


def _at_ends(vectors: Tensor) -> list[float]:
    """How large the first and the last of some vectors are; one number of each will do, unless it is 0."""
    if not vectors.numel():
        return [1.0]
    ends = [abs(float(vectors[(end,) * vectors.dim()])) for end in (0, -1)]
    return ends if all(ends) else [_largest(vectors[end]) for end in (0, -1)]


def _power(ends: list[float], low: float, high: float, most: int) -> int:
    """The power of two, up to 2^±most, that brings the ends of some vectors, and those between them, into the limits.

    A guess, since it need not be checked: a norm beyond the limits is taken anew. But that takes long, as do squares
    that underflow. In a sequence the gradients at its ends are mostly the smallest and the largest.
    """
    known = [end for end in ends if 0 < end < math.inf]
    if not known or (low * 1e4 < min(known) and max(known) < high * 1e-4):
        return 0
    middle = sum(math.frexp(end)[1] for end in known) // len(known)
    return max(-most, min(most, -middle))


def _is_zero_elsewhere(vectors: Tensor, norm: Tensor, low: float, high: float) -> bool:
    """Whether all vectors whose norm is beyond the limits are exactly zero."""
    doubtful = ~((norm > low) & (norm < high))
    return not bool((doubtful & (vectors.abs().amax(-1) != 0)).any())


def _largest(values: Tensor) -> float:
    """The largest absolute value; NaN if one is NaN."""
    if not values.numel():
        return 0.0
    least, most = torch.aminmax(values)
    return max(-float(least), float(most))


def all_between(values: Tensor, low: float, high: float) -> bool:
    """Whether every value lies between two limits, as NaN does not."""
    if not values.numel():
        return True
    least, most = torch.aminmax(values)
    return low < float(least) and float(most) < high


_SAFE = {torch.float32: (1e-14, 1e18, 120), torch.float64: (1e-140, 1e140, 1000)}
"""Norms between which squares lose nothing, and the largest power of two whose inverse has full digits as well."""


def _scaled_log_norm(vectors: Tensor) -> Tensor:
    largest = vectors.abs().amax(-1)
    usable = (largest > 0) & largest.isfinite()
    safe = torch.where(usable, largest, 1.0)
    scaled = torch.linalg.vector_norm(vectors / safe.unsqueeze(-1), dim=-1)
    return torch.where(usable, scaled.log() + safe.log(), largest.log())


QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}


def summarise(values: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Mean and quantiles over the examples, of the finite values only; the others are counted.

    Args:
        values: [..., B] natural logs (-inf is an exact zero) or linear numbers.
        valid: [..., B] bool, broadcastable but for B: False where an example has no such position; it counts nowhere.

    Returns:
        ``mean, q10, q50, q90`` (NaN where nothing is finite) and the counts ``zeros`` (values of -inf) and
        ``non_finite`` (NaN or +inf), each [...].

    >>> {name: float(number) for name, number in summarise(np.array([0.0, 2.0, -np.inf, np.nan])).items()}
    {'mean': 1.0, 'q10': 0.2, 'q50': 1.0, 'q90': 1.8, 'zeros': 1.0, 'non_finite': 1.0}
    """
    if valid is None:
        return summarise_sorted(np.sort(values, -1), values.shape[-1])
    return summarise_sorted(np.sort(np.where(valid, values, np.nan), -1), valid.sum(-1))


def summarise_sorted(ordered: np.ndarray, present: int | np.ndarray) -> dict[str, np.ndarray]:
    """The same of rows in ascending order, [..., B], -inf first and NaN last, of which `present` [...] count."""
    size = ordered.shape[-1]
    least, most = ordered[..., 0], ordered[..., -1]
    whole = (least > -np.inf) & (most < np.inf)
    zeros, usable = np.where(most == -np.inf, size, 0), np.full(whole.shape, size)
    if whole.all():
        return _of_finite(ordered) | {"zeros": zeros, "non_finite": zeros + present - size}
    with np.errstate(invalid="ignore"):
        summary = {name: np.asarray(numbers) for name, numbers in _of_finite(ordered).items()}
    mixed = ~whole & (most > -np.inf) | np.isnan(most)
    if mixed.any():
        rows = ordered[mixed]
        zeros[mixed], usable[mixed] = (rows == -np.inf).sum(-1), (rows < np.inf).sum(-1)
        for name, numbers in _of_some(rows, zeros[mixed], (usable - zeros)[mixed]).items():
            summary[name][mixed] = numbers
    for numbers in summary.values():
        numbers[zeros == size] = np.nan
    return summary | {"zeros": zeros, "non_finite": present - usable}


def _of_finite(ordered: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and quantiles of whole sorted rows, by linear interpolation (numpy's default)."""
    size = ordered.shape[-1]
    places = [(size - 1) * quantile for quantile in QUANTILES.values()]
    low = [int(place) for place in places]
    below, above = ordered[..., low], ordered[..., [min(place + 1, size - 1) for place in low]]
    quantiles = np.moveaxis(below + np.subtract(places, low) * (above - below), -1, 0)
    return {"mean": ordered.sum(-1) / np.float64(size)} | dict(zip(QUANTILES, quantiles, strict=True))


def _of_some(ordered: np.ndarray, first: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """The same among the finite numbers: `count` [...] of each row, from place `first` on."""
    last = np.maximum(count - 1, 0)[..., None]
    place = last * np.array(list(QUANTILES.values()))
    low = np.floor(place).astype(int)
    places = np.concatenate((low, np.minimum(low + 1, last)), -1) + first[..., None]
    around = np.take_along_axis(ordered, np.minimum(places, ordered.shape[-1] - 1), -1)
    below, above = np.split(around, 2, -1)
    total = np.where(np.isfinite(ordered), ordered, 0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        quantiles = np.moveaxis(below + (place - low) * (above - below), -1, 0)
        found = {"mean": total / count} | dict(zip(QUANTILES, quantiles, strict=True))
    return {name: np.where(count > 0, number, np.nan) for name, number in found.items()}
