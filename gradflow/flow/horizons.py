"""Long horizons: products of many Jacobians, Lyapunov exponents, gradients lag by lag. Natural logs, any range.

Multiplied as they are, long products lose all but their largest singular value, and then the range of float64. Here
they are triangularised step by step, J Q = Q' R with J applied to Q going forward in time, and the logs of the diagonal
are summed (Benettin et al. 1980; for all singular values Dieci & Van Vleck 1995).

Shapes: T time steps, B examples, S state size. ∂s_T/∂s_0 = J_T … J_1, latest leftmost. In the reverse direction the
first step is the last position. Positions past an example's length act as the identity.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gradflow.checks import check_kind, whole_number
from gradflow.flow.adjoint import state_gradients
from gradflow.flow.metrics import log_norm
from gradflow.flow.replay import Trace
from gradflow.flow.scaled import LN2
from gradflow.jacobian import lanczos
from gradflow.jacobian.operator import Jacobian

_ROUNDING = 8  # units of float64 relative to the norm of J, below which a triangular factor's diagonal is zero
_SWEEPS = 8
_WINDOW, _MARGIN = 15.0, 4.0  # nats
_STEPS_AT_ONCE = 32  # products whose norms are found together


def jacobian_product(J: Jacobian, start: int, stop: int) -> Tensor:
    """Log singular values of ∂s_stop/∂s_start = J_stop … J_{start+1}.

    One triangularisation leaves the product as Q D U, D diagonal in logs, U unit upper triangular and tame. Some sweeps
    of QR over D U and its transpose pull its scales apart, until values further apart than some nats no longer meet;
    the singular values are then those of blocks within the precision of float64.

    Args:
        J: with batch dimensions [T, B].
        start: position of the earlier state; -1 is the initial state, in both directions.
        stop: position of the later state; in the reverse direction before `start`.

    Returns:
        [B, S] float64, nats, descending; -inf for zero singular values (that is, below rounding in one of the steps),
        NaN for examples with a Jacobian on the way that is not finite; zeros if `start` is `stop`.

    Raises:
        ValueError: if the positions do not exist or `stop` comes before `start` in the direction of the layer.

    >>> from gradflow import LinearRNN, trace
    >>> layer = LinearRNN(3, 2)
    >>> _ = torch.nn.init.eye_(layer.weight_hh_l0).data.mul_(0.5)
    >>> jacobian_product(trace(layer, torch.zeros(1000, 1, 3))[0, 0].jacobian, -1, 999) / 1000
    tensor([[-0.6931, -0.6931]], dtype=torch.float64)
    """
    _check_jacobian(J)
    steps = _steps_between(J, whole_number("start", start, -1), whole_number("stop", stop, -1))
    batch, size = J.shape[1], J.shape[-1]
    log_scale = torch.zeros(batch, size, dtype=torch.float64, device=J.like.device)
    unit = torch.eye(size, dtype=torch.float64, device=log_scale.device).expand(batch, -1, -1)
    for factor in _triangular_factors(J, steps, size):
        log_scale, shape = _rescaled(factor, log_scale)
        unit = shape @ unit
    return torch.stack([_log_singular_values(logs, shape) for logs, shape in zip(log_scale, unit, strict=True)])


def product_norms(J: Jacobian) -> Tensor:
    """Natural log of the spectral norm of ∂s_last/∂s_t for every t, in one backward recursion.

    Args:
        J: with batch dimensions [T, B]; S² numbers are kept per step and example, so a few examples.

    Returns:
        [T, B] float64: 0 at each example's last state, -inf for a zero product, NaN past an example's length and from
        a Jacobian that is not finite backward. Relative error of the norms at most 1e-5, tested by the residual.

    >>> from gradflow import trace
    >>> product_norms(trace(torch.nn.RNN(3, 2), torch.zeros(5, 4, 3))[0, 0].jacobian)[-1]
    tensor([0., 0., 0., 0.], dtype=torch.float64)
    """
    _check_jacobian(J)
    time, batch, size, _ = J.shape
    wide, order = J.double(), _order(J)[::-1]
    product = torch.eye(size, dtype=torch.float64, device=J.like.device).unsqueeze(1).expand(-1, batch, -1)
    exponent = product.new_zeros(batch)
    norms = product.new_empty(time, batch)
    for first in range(0, time, _STEPS_AT_ONCE):
        positions = order[first : first + _STEPS_AT_ONCE]
        products, exponents = [], []
        for t in positions:
            products.append(product)
            exponents.append(exponent)
            moved = wide[t].rmatvec(product)
            product = moved if wide.valid is None else torch.where(wide.valid[t, :, None], moved, product)
            product, shift = _near_one(product, (0, 2))
            exponent = exponent + shift
        stacked = torch.stack(products).permute(0, 2, 1, 3).flatten(0, 1)
        largest = lanczos.leading_singular_values(_Dense(stacked), 1, torch.float64, stacked.device)
        norms[positions] = largest.view(-1, batch).log() + torch.stack(exponents) * LN2
    return norms if J.valid is None else norms.masked_fill(~J.valid, torch.nan)


def lyapunov_exponents(J: Jacobian, burn_in: int = 0, count: int | None = None) -> Tensor:
    """Lyapunov exponents, nats per step: mean logs of the diagonals of the triangular factors (Benettin et al. 1980).

    They are those of the sequence that the Jacobian comes from, so driven by its input; a trace with zero input gives
    the autonomous system's. At finite T they are not the log singular values of the product over T.

    Args:
        J: with batch dimensions [T, B].
        burn_in: first steps of every example that are left out of the mean.
        count: how many of the largest, 1 to S; None: all. Few are cheap: only as many directions are followed, and
            they need the burn-in to find the leading ones.

    Returns:
        [B, count] float64, descending; all of them sum without `burn_in` to the mean of ln|det J_t|. Each example over
        its own length; NaN where no step is left or a Jacobian is not finite, -inf where one is singular.

    Raises:
        ValueError: if `burn_in` is negative or leaves no step, or for another `count`.
    """
    _check_jacobian(J)
    time, batch, size, _ = J.shape
    if whole_number("burn_in", burn_in, 0) >= time:
        raise ValueError(f"burn_in: expected 0 to {time - 1} of {time} steps, got {burn_in}; pass a longer sequence")
    count = size if count is None else whole_number("count", count, 1)
    if count > size:
        raise ValueError(f"count: expected 1 to {size} exponents of a {size} x {size} Jacobian, got {count}")
    total = torch.zeros(batch, count, dtype=torch.float64, device=J.like.device)
    steps, order = total.new_zeros(batch), _order(J)
    for t, factor in zip(order, _triangular_factors(J, order, count), strict=True):
        valid = total.new_ones(batch) if J.valid is None else J.valid[t].double()
        steps = steps + valid
        counted = valid * (steps > burn_in)
        total = total + torch.where(counted.unsqueeze(-1) > 0, factor.diagonal(dim1=-2, dim2=-1).abs().log(), 0.0)
    return (total / (steps - burn_in).clamp_min(0).unsqueeze(-1)).sort(-1, descending=True).values


def lag_resolved_gradients(trace: Trace, output_gradient: Tensor | None = None, direction: int = 0) -> Tensor:
    """ln‖∂L_s/∂h_t‖ for every pair of positions, where the loss is L = Σ_s L_s and L_s reads the output at s only.

    The total gradient is their sum over s, in which short lags mask vanished long ones. What the loss takes from the
    final states counts as part of the last one. Only of the top layer: to lower layers, L_s arrives on many ways
    (:mod:`gradflow.flow.anchors` goes them all, for a few s).

    Args:
        trace: a forward pass; without `output_gradient`, one through which a backward pass went.
        output_gradient: dL/d output in the layer's own layout, as for :func:`state_gradients`.
        direction: 0 forward, 1 reverse.

    Returns:
        [T, T, B] float64, the position s of the loss first, natural logs without limit of range: -inf for an exact
        zero, NaN where h_t comes after s and past an example's length.

    Raises:
        ValueError: if there is no gradient at all, or no such direction.

    >>> from gradflow import trace
    >>> seen = trace(torch.nn.RNN(3, 2), torch.zeros(5, 4, 3))
    >>> lag_resolved_gradients(seen, torch.ones(5, 4, 2)).shape
    torch.Size([5, 5, 4])
    """
    check_kind("trace", trace, Trace, "what gradflow.trace returned")
    most = int(trace.call.layer.bidirectional)
    direction = whole_number("direction", direction, 0, " (forward, reverse)", most=most)
    key = trace.call.layer.num_layers - 1, direction
    unrolled = trace[key]
    direct = torch.cat(list(state_gradients(trace, output_gradient)[key].direct.values()), -1).double()
    time, batch, _ = direct.shape
    norms = direct.new_full((time, time, batch), torch.nan)
    for t, sources, vectors, exponents in _each_loss(unrolled.jacobian, direct):
        of_h = unrolled.jacobian.split(vectors)["h"]
        norms[sources, t] = log_norm(of_h) + exponents * LN2
    if unrolled.valid is not None:
        norms = norms.masked_fill(~(unrolled.valid.unsqueeze(1) & unrolled.valid), torch.nan)
    return norms


def _each_loss(J: Jacobian, direct: Tensor) -> Iterator[tuple[int, list[int], Tensor, Tensor]]:
    """Against the layer's direction: t, the positions s from t on, ∂L_s/∂s_t [s, B, S] and its power of two [s, B].

    Args:
        J: with batch dimensions [T, B].
        direct: [T, B, S] float64, ∂L_s/∂s_s.
    """
    wide, sources = J.double(), []
    vectors, exponents = direct[:0], direct.new_zeros(0, direct.shape[1])
    for t in _order(J)[::-1]:
        sources.append(t)
        scaled, exponent = _near_one(direct[t : t + 1], (2,))
        vectors, exponents = torch.cat((vectors, scaled)), torch.cat((exponents, exponent))
        yield t, list(sources), vectors, exponents
        vectors, shift = _near_one(wide[t].rmatvec(vectors), (2,))
        exponents = exponents + shift


def _check_jacobian(J: Any) -> None:
    if not isinstance(J, Jacobian):
        raise TypeError(f"J: expected a Jacobian, got {type(J).__name__}; pass trace[layer, direction].jacobian")


class _Dense:
    """Matrices [N, S, S] as an operator."""

    def __init__(self, matrices: Tensor):
        self.matrices = matrices

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.matrices.shape)

    def __getitem__(self, index: Tensor) -> "_Dense":
        return _Dense(self.matrices[index])

    def matvec(self, v: Tensor) -> Tensor:
        return (self.matrices @ v.unsqueeze(-1)).squeeze(-1)

    def rmatvec(self, u: Tensor) -> Tensor:
        return (self.matrices.mT @ u.unsqueeze(-1)).squeeze(-1)

    def dense(self) -> Tensor:
        return self.matrices


def _order(J: Jacobian) -> list[int]:
    """Positions in the direction of the layer."""
    positions = list(range(J.shape[0]))
    return positions[::-1] if J.reverse else positions


def _steps_between(J: Jacobian, start: int, stop: int) -> list[int]:
    time = J.shape[0]
    for name, position, lowest in (("start", start, -1), ("stop", stop, 0 if start >= 0 else -1)):
        if not lowest <= position < time:
            raise ValueError(f"{name}: expected a position from {lowest} to {time - 1} of {time} steps, got {position}")
    order = _order(J)
    first, last = (order.index(position) + 1 if position >= 0 else 0 for position in (start, stop))
    if first > last:
        raise ValueError(
            f"stop: expected a state that comes after start={start} in the {'reverse' if J.reverse else 'forward'} "
            f"direction, got {stop}; swap the two"
        )
    return order[first:last]


def _triangular_factors(J: Jacobian, steps: Sequence[int], count: int) -> Iterator[Tensor]:
    """R of J Q = Q' R step by step, [B, p, p] float64; identity past an example's length, NaN where J is not finite.

    The first Q [S, p] is random, always the same: nothing of the product may lie across it.
    """
    wide, size = J.double(), J.shape[-1]
    random = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    q = torch.linalg.qr(random[:, :count]).Q.to(J.like.device).expand(J.shape[1], -1, -1)
    identity = torch.eye(count, dtype=torch.float64, device=q.device)
    for t in steps:
        image = wide[t].matvec(q.permute(2, 0, 1)).permute(1, 2, 0)
        finite = image.isfinite().flatten(1).all(1)
        moves = finite if wide.valid is None else finite & wide.valid[t]
        onward, factor = torch.linalg.qr(torch.where(moves[:, None, None], image, q))
        q = torch.where(moves[:, None, None], onward, q)
        size_of = torch.linalg.matrix_norm(factor)
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        # What a singular J leaves on the diagonal is rounding; its log would be taken for a very small singular value.
        diagonal[diagonal.abs() <= _ROUNDING * torch.finfo(factor.dtype).eps * size_of.unsqueeze(-1)] = 0
        factor = torch.where(moves[:, None, None], factor, identity)
        yield factor.masked_fill(~finite[:, None, None], torch.nan)


def _rescaled(factor: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Upper triangular R · diag(exp(log_scale)) as diag(exp(new)) · unit triangular matrix; rows of zeros stay so."""
    new = log_scale + factor.diagonal(dim1=-2, dim2=-1).abs().log()
    # Ratios of scales, never scales: tame above the diagonal; below it, where R is zero, they may overflow.
    ratio = (log_scale.unsqueeze(-2) - new.unsqueeze(-1)).exp().masked_fill((new == -torch.inf).unsqueeze(-1), 0)
    return new, (factor * torch.where(torch.ones_like(factor).triu() > 0, ratio, 0)).triu()


def _log_singular_values(log_scale: Tensor, unit: Tensor) -> Tensor:
    """Of diag(exp(log_scale)) U for one example, [S] and [S, S] -> [S] descending."""
    values = torch.full_like(log_scale, -torch.inf)
    if bool(log_scale.isnan().any()):
        return values.fill_(torch.nan)
    present = log_scale > -torch.inf
    logs, unit = log_scale[present], unit[present]
    if len(logs) == 0:
        return values
    # QR of the transpose, again and again, is the QR iteration: its diagonal tends to the singular values.
    for _ in range(_SWEEPS):
        logs, unit = _rescaled(torch.linalg.qr(unit.t(), mode="r").R, logs)
    ordered, found = logs.sort(descending=True).values, 0
    # A window keeps within the digits of float64; its margin takes in what still mixes with the values at its edges.
    while found < len(logs):
        core = ordered[found:][ordered[found:] > ordered[found] - _WINDOW]
        near = (logs < core[0] + _MARGIN) & (logs > core[-1] - _MARGIN)
        above = int((near & (logs > core[0])).sum())
        block = (logs[near] - core[0]).exp().unsqueeze(-1) * unit[near][:, near]
        values[found : found + len(core)] = torch.linalg.svdvals(block)[above : above + len(core)].log() + core[0]
        found += len(core)
    return values


def _near_one(values: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The values divided by the power of two that brings the largest of each to about 1, and that power (0 if none)."""
    largest = values.abs().amax(dims, keepdim=True)
    exponent = torch.frexp(largest).exponent.masked_fill(~(largest.isfinite() & (largest > 0)), 0)
    return torch.ldexp(values, -exponent), exponent.squeeze(dims).double()
