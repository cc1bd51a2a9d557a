"""Gradient clipping that says what it did.

As in torch, but the norm is taken in float64 (torch's float32 norm of finite gradients of 1e25 is inf, and the
gradients silently become 0), non-finite gradients are left alone and flagged, and every function returns a
:class:`Clipping`. Order in a training step: backward → clip → record → optimiser step.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import inf, isfinite, nan

import torch
from torch import Tensor, nn

from gradflow.checks import check_kind, listed, real_number

_EPS = 1e-6  # torch's, in the denominator of the coefficient


@dataclass(frozen=True)
class Clipping:
    """What one clipping did; norms are Euclidean, float64.

    Attributes:
        norm_before: of all gradients together.
        norm_after: the same after clipping.
        coefficient: the factor on all gradients (norm clipping); the smallest factor on any parameter (per-parameter);
            NaN where there is none (clipping by value).
        clipped: whether any gradient was changed.
        non_finite: whether any gradient holds NaN or Inf; nothing is changed then.
        parameter_norms_before: one per parameter with a gradient, in the order given.
        parameter_norms_after: the same after clipping.
        parameter_ids: ``id()`` of these parameters, so that each norm can be given its name.
    """

    norm_before: float
    norm_after: float
    coefficient: float
    clipped: bool
    non_finite: bool
    parameter_norms_before: tuple[float, ...]
    parameter_norms_after: tuple[float, ...]
    parameter_ids: tuple[int, ...] = field(default=(), repr=False)


def gradient_norms(parameters: Iterable[Tensor]) -> tuple[float, ...]:
    """Euclidean norm of every gradient there is, in float64, safe over the whole range of the dtype.

    >>> weight = nn.Parameter(torch.zeros(64))
    >>> weight.grad = torch.full((64,), 1e25)
    >>> [f"{norm:.6g}" for norm in gradient_norms([weight])]
    ['8e+25']
    """
    gradients = [p.grad.detach() for p in parameters if p.grad is not None]
    if not gradients:
        return ()
    norms = torch.stack([_norm(g).to(gradients[0].device) for g in gradients]).tolist()
    return tuple(_rescaled_norm(g) if n == 0 or n == inf else n for g, n in zip(gradients, norms, strict=True))


def _norm(gradient: Tensor) -> Tensor:
    return torch.linalg.vector_norm(gradient, dtype=torch.float64)


def _rescaled_norm(gradient: Tensor) -> float:
    """For squares that leave the range of float64."""
    largest = float(gradient.abs().max())
    return largest * float(_norm(gradient.double() / largest)) if largest > 0 and isfinite(largest) else largest


def clip_grad_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float) -> Clipping:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)): keeps the direction (Pascanu et al. 2013, algorithm 1).

    Args:
        parameters: those whose gradients are clipped in place; one that is given twice counts once.
        max_norm: threshold of the global norm; ``math.inf`` only measures.

    Returns:
        What was done.

    Raises:
        ValueError: if `max_norm` is not positive, or there is no parameter to clip.
    """
    parameters = _checked(parameters, "max_norm", max_norm)
    norms = gradient_norms(parameters)
    total = _total(norms)
    if not isfinite(total):
        return _untouched(parameters, norms)
    coefficient = min(1.0, max_norm / (total + _EPS))
    if coefficient < 1:
        _scale(parameters, [coefficient] * len(norms))
    after = tuple(n * coefficient for n in norms)
    return _done(parameters, norms, after, coefficient, coefficient < 1)


def clip_grad_parameter_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float) -> Clipping:
    """Clip the gradient of each parameter by its own norm, as Paddle's ClipGradByNorm does; the direction may change.

    Args:
        parameters: those whose gradients are clipped in place; one that is given twice counts once.
        max_norm: threshold of each parameter's norm.

    Returns:
        What was done.

    Raises:
        ValueError: if `max_norm` is not positive, or there is no parameter to clip.
    """
    parameters = _checked(parameters, "max_norm", max_norm)
    norms = gradient_norms(parameters)
    if not all(map(isfinite, norms)):
        return _untouched(parameters, norms)
    factors = [min(1.0, max_norm / (n + _EPS)) for n in norms]
    smallest = min(factors, default=1.0)
    if smallest < 1:
        _scale(parameters, factors)
    after = tuple(n * f for n, f in zip(norms, factors, strict=True))
    return _done(parameters, norms, after, smallest, smallest < 1)


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> Clipping:
    """Clamp every element of the gradients to [-clip_value, clip_value]; the direction may change.

    Args:
        parameters: those whose gradients are clipped in place; one that is given twice counts once.
        clip_value: largest absolute value that is left alone.

    Returns:
        What was done.

    Raises:
        ValueError: if `clip_value` is not positive, or there is no parameter to clip.
    """
    parameters = _checked(parameters, "clip_value", clip_value)
    norms = gradient_norms(parameters)
    if not all(map(isfinite, norms)):
        return _untouched(parameters, norms)
    gradients = [p.grad for p in parameters if p.grad is not None]
    clipped = any(bool((g.abs() > clip_value).any()) for g in gradients)
    if clipped:
        for gradient in gradients:
            gradient.clamp_(-clip_value, clip_value)
    return _done(parameters, norms, gradient_norms(parameters) if clipped else norms, nan, clipped)


def measure_grad_norm(parameters: Iterable[Tensor] | Tensor, threshold: float = inf) -> Clipping:
    """The no-clipping among the ways to clip: only measures; the coefficient is 1.

    Args:
        parameters: those whose gradients are measured.
        threshold: has no effect.

    Returns:
        Equal norms before and after.
    """
    return clip_grad_norm_(parameters, inf)


CLIPPINGS: dict[str, Callable[[Iterable[Tensor], float], Clipping]] = {
    "none": measure_grad_norm,
    "norm": clip_grad_norm_,
    "value": clip_grad_value_,
    "parameter": clip_grad_parameter_norm_,
}


def _checked(parameters: Iterable[Tensor] | Tensor, name: str, threshold: float) -> list[Tensor]:
    """Those that have a gradient, each once."""
    real_number(name, threshold, above=0, infinite=True)
    several = [parameters] if isinstance(parameters, Tensor) else listed("parameters", parameters, "tensors")
    given = list({id(p): p for p in several}.values())
    if not given:
        raise ValueError(
            "parameters: expected at least one, got none, so that nothing would be clipped; a generator such as "
            "model.parameters() can be gone through only once: call it anew for each clipping, or keep a list of it"
        )
    for parameter in given:
        check_kind("parameters", parameter, Tensor, "tensors, such as those of model.parameters()")
        if parameter.grad is None and not (parameter.requires_grad or isinstance(parameter, nn.Parameter)):
            raise ValueError(
                f"parameters: expected tensors that are trained, got one of shape {tuple(parameter.shape)} that needs "
                f"no gradient; pass the parameter, not its .grad"
            )
    return [parameter for parameter in given if parameter.grad is not None]


def _total(norms: tuple[float, ...]) -> float:
    """Square root of the sum of squares, scaled so that it neither over- nor underflows."""
    largest = max(norms, default=0.0)
    if any(n != n for n in norms):
        return nan
    if largest == 0 or largest == inf:
        return largest
    return largest * sum((n / largest) ** 2 for n in norms) ** 0.5


def _untouched(parameters: list[Tensor], norms: tuple[float, ...]) -> Clipping:
    return replace(_done(parameters, norms, norms, 1.0, False), non_finite=True)


def _done(
    parameters: list[Tensor],
    before: tuple[float, ...],
    after: tuple[float, ...],
    coefficient: float,
    clipped: bool,
) -> Clipping:
    ids = tuple(map(id, parameters))
    return Clipping(_total(before), _total(after), coefficient, clipped, False, before, after, ids)


def _scale(parameters: list[Tensor], factors: list[float]) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    torch._foreach_mul_(gradients, factors)
