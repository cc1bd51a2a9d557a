"""Gradient clipping that says what it did.

As in torch, with its arguments, but the norm is taken in float64 (torch's float32 norm of finite gradients of 1e25 is
inf, and the gradients silently become 0), sparse gradients are clipped as what they add up to, non-finite ones are left
alone and flagged, and every function returns a :class:`Clipping`. Order in a training step: backward → clip → record →
optimiser step.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite, nan

import torch
from torch import Tensor, nn

from gradflow.checks import check_flags, check_kind, listed, real_number

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


def gradient_norms(parameters: Iterable[Tensor], norm_type: float = 2.0) -> tuple[float, ...]:
    """Norm of every gradient there is, in float64, safe over the whole range of the dtype.

    Args:
        parameters: those without a gradient are passed over; sparse gradients are counted by what they add up to.
        norm_type: order p of the norm, positive; 2 is Euclidean, ``math.inf`` takes the largest entry.

    >>> weight = nn.Parameter(torch.zeros(64))
    >>> weight.grad = torch.full((64,), 1e25)
    >>> [f"{norm:.6g}" for norm in gradient_norms([weight])]
    ['8e+25']
    """
    entries = [entries_of(p.grad) for p in parameters if p.grad is not None]
    if not entries:
        return ()
    norms = in_numbers([_norm(g, norm_type) for g in entries])
    return tuple(_rescaled_norm(g, norm_type) if n in (0, inf) else n for g, n in zip(entries, norms, strict=True))


def in_numbers(norms: Sequence[Tensor]) -> list[float]:
    """Scalars as numbers; what lies on other devices is waited for once."""
    if all(norm.device.type == "cpu" for norm in norms):
        return [norm.item() for norm in norms]
    return torch.stack([norm.to(norms[0].device) for norm in norms]).tolist()


def norm_in_double(entries: Tensor) -> float:
    """Euclidean norm of one tensor in float64, safe over the whole range of the dtype."""
    norm = float(_norm(entries))
    return _rescaled_norm(entries, 2.0) if norm in (0, inf) else norm


def entries_of(gradient: Tensor) -> Tensor:
    """The entries of a gradient that may differ from 0: of a sparse one its sums by row; of complex ones the moduli."""
    gradient = gradient.detach()
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    return gradient.abs() if gradient.is_complex() else gradient


def _norm(entries: Tensor, norm_type: float = 2.0) -> Tensor:
    return torch.linalg.vector_norm(entries, norm_type, dtype=torch.float64)


def _rescaled_norm(entries: Tensor, norm_type: float) -> float:
    """For powers that leave the range of float64."""
    largest = float(entries.abs().max()) if entries.numel() else 0.0
    return largest * float(_norm(entries.double() / largest, norm_type)) if 0 < largest < inf else largest


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Clipping:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)): keeps the direction (Pascanu et al. 2013, algorithm 1).

    Args:
        parameters: those whose gradients are clipped in place; one that is given twice counts once.
        max_norm: threshold of the global norm; ``math.inf`` only measures.
        norm_type: order p of the norm that is held against `max_norm`, positive; ``math.inf`` takes the largest entry.
            The norms in the result stay Euclidean, so that they can be compared.
        error_if_nonfinite: raise instead of leaving gradients with NaN or Inf untouched.
        foreach: as in torch: False multiplies them one after the other; None and True together where torch can.

    Returns:
        What was done.

    Raises:
        TypeError: if `parameters` are not tensors.
        ValueError: if `max_norm` or `norm_type` is not positive, or there is no parameter to clip.
        RuntimeError: if a gradient is not finite and `error_if_nonfinite` is set.
    """
    max_norm = real_number("max_norm", max_norm, above=0, infinite=True)
    norm_type = real_number("norm_type", inf if norm_type == "inf" else norm_type, above=0, infinite=True)
    check_flags(error_if_nonfinite=error_if_nonfinite)
    parameters = _checked(parameters)
    norms = gradient_norms(parameters)
    measured = norms if norm_type == 2 else gradient_norms(parameters, norm_type)
    total = _total(measured, norm_type)
    if not all(map(isfinite, (total, *norms))):
        if error_if_nonfinite:
            raise RuntimeError(
                f"parameters: expected finite gradients, got a total norm of order {norm_type:g} that is {total}; look "
                f"for where it began, or pass error_if_nonfinite=False, which leaves such gradients untouched"
            )
        return _untouched(parameters, norms)
    coefficient = min(1.0, max_norm / (total + _EPS))
    if coefficient < 1:
        _scale(parameters, [coefficient] * len(norms), foreach)
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
        TypeError: if `parameters` are not tensors.
        ValueError: if `max_norm` is not positive, or there is no parameter to clip.
    """
    max_norm = real_number("max_norm", max_norm, above=0, infinite=True)
    parameters = _checked(parameters)
    norms = gradient_norms(parameters)
    if not all(map(isfinite, norms)):
        return _untouched(parameters, norms)
    factors = [min(1.0, max_norm / (n + _EPS)) for n in norms]
    smallest = min(factors, default=1.0)
    if smallest < 1:
        _scale(parameters, factors)
    after = tuple(n * f for n, f in zip(norms, factors, strict=True))
    return _done(parameters, norms, after, smallest, smallest < 1)


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float, foreach: bool | None = None) -> Clipping:
    """Clamp every element of the gradients to [-clip_value, clip_value]; the direction may change.

    Args:
        parameters: those whose gradients are clipped in place; one that is given twice counts once.
        clip_value: largest absolute value that is left alone.
        foreach: as in torch: False clamps them one after the other; None and True together where torch can.

    Returns:
        What was done.

    Raises:
        TypeError: if `parameters` are not tensors.
        ValueError: if `clip_value` is not positive, or there is no parameter to clip.
    """
    clip_value = real_number("clip_value", clip_value, above=0, infinite=True)
    parameters = _checked(parameters)
    norms = gradient_norms(parameters)
    if not all(map(isfinite, norms)):
        return _untouched(parameters, norms)
    clipped = any(bool((entries_of(p.grad).abs() > clip_value).any()) for p in parameters if p.grad is not None)
    if clipped:
        _clamp(parameters, clip_value, foreach)
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


def compared(before: Sequence[float], after: Sequence[float], tolerance: float) -> tuple[float, float]:
    """What happened to gradients in between, told by their norms alone.

    Args:
        before: norm of each gradient, as backward left it.
        after: norm of each, as the optimiser gets it.
        tolerance: relative rounding of a norm.

    Returns:
        coefficient: the factor, if it is the same for all; 1 where nothing changed; else NaN.
        clipped: 0 where nothing changed, 1 where gradients became smaller, NaN where one grew or is no longer finite:
            that is not clipping.
    """
    pairs = list(zip(before, after, strict=True))
    if all(a == b or (a != a and b != b) for b, a in pairs):
        return 1.0, 0.0
    if not all(isfinite(b) and isfinite(a) and a <= b * (1 + tolerance) for b, a in pairs):
        return nan, nan
    factors = [a / b for b, a in pairs if b > 0]
    is_uniform = max(factors) - min(factors) <= tolerance * max(factors)
    return (_total(after) / _total(before) if is_uniform else nan), 1.0


CLIPPINGS: dict[str, Callable[[Iterable[Tensor], float], Clipping]] = {
    "none": measure_grad_norm,
    "norm": clip_grad_norm_,
    "value": clip_grad_value_,
    "parameter": clip_grad_parameter_norm_,
}


def _checked(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    """Those that have a gradient, each once."""
    if isinstance(parameters, nn.Module):
        raise _no_tensors(f"a module, {type(parameters).__name__}", "pass model.parameters()")
    several = [parameters] if isinstance(parameters, Tensor) else listed("parameters", parameters, "tensors")
    given = list({id(p): p for p in several}.values())
    for part in given:
        if not isinstance(part, Tensor):
            raise _no_tensors(*_instead(part))
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


def _instead(part: object) -> tuple[str, str]:
    """What came instead of a parameter, and what to pass."""
    if isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], str):
        return "pairs of a name and a tensor", "pass model.parameters() instead of model.named_parameters()"
    if isinstance(part, dict) and "params" in part:
        return "parameter groups of an optimiser", "pass [p for group in groups for p in group['params']]"
    if isinstance(part, str):
        return f"names, such as {part!r}", "pass the values of the dictionary: parameters.values()"
    return f"a {type(part).__name__}", "pass model.parameters(), or a list of parameters"


def _no_tensors(got: str, advice: str) -> TypeError:
    return TypeError(f"parameters: expected a tensor or an iterable of tensors, got {got}; {advice}")


def _total(norms: Sequence[float], norm_type: float = 2.0) -> float:
    """The norm of the norms, scaled so that it neither over- nor underflows."""
    largest = max(norms, default=0.0)
    if any(n != n for n in norms):
        return nan
    if largest == 0 or inf in (largest, norm_type):
        return largest
    return largest * sum((n / largest) ** norm_type for n in norms) ** (1 / norm_type)


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


def _scale(parameters: list[Tensor], factors: list[float], foreach: bool | None = None) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    if foreach is False:
        for gradient, factor in zip(gradients, factors, strict=True):
            gradient.mul_(factor)
    else:
        torch._foreach_mul_(gradients, factors)


def _clamp(parameters: list[Tensor], limit: float, foreach: bool | None) -> None:
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:  # entries of one row are summed before
            parameter.grad = parameter.grad.coalesce()
    gradients = [p.grad.values() if p.grad.is_sparse else p.grad for p in parameters if p.grad is not None]
    if foreach is False:
        for gradient in gradients:
            gradient.clamp_(-limit, limit)
    else:
        torch._foreach_clamp_min_(gradients, -limit)
        torch._foreach_clamp_max_(gradients, limit)
