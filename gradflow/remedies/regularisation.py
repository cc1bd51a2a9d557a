"""Regularisers of the gradient flow, as gradients that are added after ``loss.backward()``.

Shapes: T time steps, B examples, H hidden size.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from gradflow.cells.layers import suffix
from gradflow.cells.rnn import LinearCell
from gradflow.checks import check_flags, real_number
from gradflow.flow.adjoint import descend, in_time
from gradflow.flow.backward import check_traces, leaf_weight
from gradflow.flow.calls import plain_arithmetic, torch_cell_class
from gradflow.flow.metrics import log_norm
from gradflow.flow.replay import Trace, Unrolled


def add_omega_gradient_(traces: Sequence[Trace], weight: float, squared: bool = False) -> float:
    """Add weight · ∂Ω/∂W_hh to ``weight_hh.grad``: gradients are to keep their norm from step to step.

    Ω = Σ_k (‖ε_{k+1} ∂a_{k+1}/∂a_k‖ / ‖ε_{k+1}‖ - 1)² with a the pre-activations (the paper's x) and ε = dL/da the
    *total* gradients, summed over the steps, layers, directions and traces, mean over the examples (Pascanu et al.
    2013, equation 9). Of its gradient the immediate part alone is taken (section 3.3): ε and φ' are held fixed,

        ∂Ω/∂W_hh = Σ_k 2 (r_k - 1) / r_k · u_{k+1} ⊗ φ'_k v_k,    u = ε/‖ε‖, v_k = φ'_k (W_hhᵀ u_{k+1}), r_k = ‖v_k‖

    a closed form on torch's own kernels: one pass over time, and no second backward pass. A vanished ε counts like any
    other, however small, since the ratio does not depend on its scale; one that is exactly zero counts nothing.

    The authors' program (trainingRNNs, RNN.py) differs from their equation: squared norms, gradients at the states
    instead of the pre-activations, and the *mean* over the steps and examples where ‖dL/dh‖² is at least 1e-20, so
    that its α is about weight · T here.

    Args:
        traces: of this step: what ``take()`` of :func:`gradflow.watch_backward` gave, or those of
            :func:`gradflow.trace` after the backward pass. Each call is a sequence of its own: of chunks of a longer
            one, the step from chunk to chunk does not count.
        weight: factor of Ω beside the loss; 0 only measures.
        squared: ratios of squared norms instead of norms, ‖·‖²/‖·‖² - 1.

    Returns:
        Ω, without the weight. NaN if a step was left out because its ε or ratio was NaN or infinite; the others are in
        ``.grad``.

    Raises:
        TypeError: for a cell with gates, or one of your own.
        ValueError: if no gradient has reached the traces, or `weight` is negative or not finite.
        NotImplementedError: for a parametrized ``weight_hh`` (weight_norm, pruning, ...).

    With a GradScaler call it after ``scaler.unscale_``; in each of several processes that train together, average
    ``.grad`` over them afterwards.

    >>> from gradflow import trace
    >>> seen = trace(torch.nn.RNN(3, 2), torch.zeros(5, 4, 3))
    >>> seen.output[-1].sum().backward()
    >>> 0 < add_omega_gradient_([seen], weight=1.0) < 4  # four steps from pre-activation to pre-activation
    True
    """
    check_traces(traces)
    real_number("weight", weight, least=0)
    check_flags(squared=squared)
    omega, is_whole = 0.0, True
    for trace in traces:
        _check_cell(trace)
        if not trace.call.gradients:
            continue
        with plain_arithmetic(trace.output.data.device):
            for (layer, direction), blocks in descend(trace, trace.call.gradients):
                unrolled = trace[layer, direction]
                epsilon = in_time([block.epsilon.squeeze(-2) for block in blocks], unrolled)
                value, gradient, is_finite = _omega(unrolled, epsilon, squared)
                omega, is_whole = omega + float(value) / trace.call.batch_size, is_whole and bool(is_finite)
                _add(trace, "weight_hh" + suffix(layer, direction), gradient * (weight / trace.call.batch_size))
    return omega if is_whole else math.nan


def _omega(unrolled: Unrolled, epsilon: Tensor, squared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_k of all examples, its gradient by W_hh [H, H], and whether all steps with a gradient could be counted.

    Args:
        unrolled: of a cell without gates.
        epsilon: [T, B, H] gradients at the pre-activations, each on a scale of its own.
        squared: see :func:`add_omega_gradient_`.
    """
    before, after = (slice(1, None), slice(-1)) if unrolled.reverse else (slice(-1), slice(1, None))
    epsilon, cell = epsilon[after], cast(LinearCell, unrolled.cell)
    weight_hh, slope = cell.weight_hh.to(epsilon.dtype), cell.derivative(unrolled.states["h"][before])
    log_epsilon = log_norm(epsilon)
    unit = epsilon * log_epsilon.neg().exp().to(epsilon.dtype).unsqueeze(-1)
    carried = (unit @ weight_hh).mul_(slope)
    ratio = log_norm(carried).exp()
    present = ~(log_epsilon <= math.log(torch.finfo(epsilon.dtype).tiny))  # beneath it no digit is left
    if unrolled.valid is not None:
        present &= unrolled.valid[before]
    counted = present & ratio.isfinite()
    distance = (ratio.square() if squared else ratio) - 1
    factor = 4 * distance if squared else torch.where(ratio > 0, 2 * distance / ratio, 0.0)
    through = carried.mul_(slope).mul_(factor.to(carried.dtype).unsqueeze(-1))
    if not bool(counted.all()):
        unit, through = (part.masked_fill(~counted.unsqueeze(-1), 0) for part in (unit, through))
    gradient = unit.flatten(0, 1).t() @ through.flatten(0, 1)
    return distance.masked_fill(~counted, 0).square().sum(), gradient, (counted == present).all()


def _check_cell(trace: Trace) -> None:
    kind = torch_cell_class(trace.call.layer, "traces")
    if not kind.gateless:
        raise TypeError(
            f"traces: Ω is that of cells without gates (torch.nn.RNN, gradflow.RNN, LinearRNN), got "
            f"{type(trace.call.layer).__name__}, whose gates carry gradients in other ways; watch the other layers only"
        )


def _add(trace: Trace, name: str, gradient: Tensor) -> None:
    weight = leaf_weight(trace, name)
    if not weight.requires_grad:
        return
    weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
    weight.grad += gradient.to(weight.dtype)
