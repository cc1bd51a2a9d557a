"""Leading singular values of many operators at once, from products with J and Jᵀ alone.

Golub-Kahan bidiagonalisation in its one-sided form, Lanczos on JᵀJ (Golub & Van Loan 2013, sections 10.1-10.4; Simon &
Zha 2000 on why one side is enough): by itself for one value, in blocks with full re-orthogonalisation for several. All
operators advance together; those that have converged leave.

Shapes: N operators, S state size, p vectors per block, k vectors so far.
"""

from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-6
_FIRST_CHECK, _CHECK_AGAIN = 8, 1.3  # vectors; trained networks take about 10, fresh ones 30
_INVERSE_ITERATIONS, _ABOVE = 6, 1 + 1e-10
_ROUNDING = 10  # units of the dtype
_MOST_VECTORS = 32  # and S / 4 more, for each value: beyond that a dense decomposition costs no more
_CHUNK_NUMBERS = 2**17  # N x S of the operators that advance together: their vectors stay in the processor's cache
_DENSE_NUMBERS = 100_000  # N x S², below which decomposing the matrices is quicker; and so it is
_DENSE_SIZE, _DENSE_SIZE_EACH = 24, 64  # for S below the first, and for several values with S below the second for each
_DENSE_CHUNK = 2**24  # numbers of the dense matrices decomposed together


class Operator(Protocol):
    """N square matrices known by their products with vectors [..., N, S]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S)."""

    def __getitem__(self, index: Any) -> Self:
        """Some of them."""

    def matvec(self, v: Tensor) -> Tensor:
        """J v."""

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u."""

    def dense(self) -> Tensor:
        """[N, S, S]."""


def leading_singular_values(operator: Operator, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The largest singular values of each operator, to a relative error of 1e-5.

    The residual that is tested, to 1e-6, proves a singular value there. That it is the largest one is as sure as that
    the random start vector holds some of its vector: of 92,160 Jacobians of default cells none was off by 1e-7, but
    where the largest values lie within 1e-4 of each other (tanh, orthogonal weights) a neighbour may stand for it.

    Args:
        operator: N of them.
        count: how many values.
        dtype: of the products.
        device: of the operator.

    Returns:
        [N, count] float64, descending; NaN where J is not finite. The dense matrices are decomposed where that is
        quicker, and where the iteration does not get there within 32 + S / 4 vectors per value, or with `dtype`.
    """
    number, size, _ = operator.shape
    start = _start(count, size).to(device, dtype)
    seen = operator.matvec(start.unsqueeze(1).expand(-1, number, -1))
    finite = seen.isfinite().all(-1).all(0)
    values = torch.full((number, count), torch.nan, dtype=torch.float64, device=device)
    values[finite & (seen == 0).all(-1).all(0)] = 0  # nothing comes of vectors without a zero: the matrix is zero
    open_ = (finite & values[:, 0].isnan()).nonzero().squeeze(1)
    if len(open_) * size**2 > _DENSE_NUMBERS and size >= (_DENSE_SIZE if count == 1 else _DENSE_SIZE_EACH * count):
        for part in open_.split(max(1, _CHUNK_NUMBERS // size)):
            values[part] = _iterate_one(operator[part], start[0]) if count == 1 else _iterate(operator[part], start)
        open_ = open_[values[open_].isnan().any(-1)]
    for part in open_.split(max(1, _DENSE_CHUNK // size**2)) if len(open_) else ():
        values[part] = _decomposed(operator[part].dense(), count)
    return values


def _decomposed(matrices: Tensor, count: int) -> Tensor:
    """The leading singular values of dense finite matrices [N, S, S], [N, count] float64.

    For the largest alone the eigenvalues of JᵀJ are precise enough, also in float32, and found in half the time.
    """
    if count > 1:
        return torch.linalg.svdvals(matrices.double())[:, :count]
    largest = matrices.abs().amax((1, 2), keepdim=True)
    scaled = matrices / largest  # JᵀJ squares the numbers: unscaled they would leave the range of float32
    return torch.linalg.eigvalsh(scaled.mT @ scaled)[:, -1:].double().clamp_min(0).sqrt() * largest.squeeze(-1)


def _is_found(ritz: Tensor, residual: Tensor, dtype: torch.dtype) -> Tensor:
    """[N] bool: all Ritz values [N, p] of JᵀJ are as near to an eigenvalue as asked for.

    Within the residual ρ of a Ritz value θ lies an eigenvalue, and σ = √θ: the relative error is at most ρ / 2θ. For a
    value alone it is far smaller, ρ² / gap; ρ itself is asked for lest a value be taken for the largest before the
    largest one's vector, of which the start vectors may hold next to nothing, has emerged.
    """
    rounding = torch.finfo(dtype).eps
    error = (residual + rounding * ritz[:, :1]) / (2 * ritz)
    return (error <= TOLERANCE).all(-1) & (ritz[:, 0] > torch.finfo(dtype).tiny / rounding**1.5)


def _unsettled(ritz: Tensor, done: Tensor) -> Tensor:
    """Places of the operators to go on with: neither found nor beyond the range of their dtype."""
    return (~done & ritz.isfinite().all(-1)).nonzero().squeeze(1)


def _iterate_one(operator: Operator, start: Tensor) -> Tensor:
    """Lanczos on JᵀJ from `start` [S]: the largest singular values, [N, 1]; NaN where they are not found.

    One pass of re-orthogonalisation after the three-term recurrence: without it a copy of a value appears beside it as
    it converges (Paige 1980), and the residual of neither gets small.
    """
    number, size = operator.shape[0], len(start)
    values = start.new_full((number, 1), torch.nan, dtype=torch.float64)
    active = torch.arange(number, device=start.device)
    limit, check = min(size, _MOST_VECTORS + size // 4), _FIRST_CHECK
    diagonal, beside = start.new_zeros(2, limit, number, dtype=torch.float64)
    before, vector = torch.zeros_like(start), start.expand(number, -1)
    basis = start.new_empty(number, 2 * _FIRST_CHECK, size)
    for k in range(limit):
        if k == basis.shape[1]:
            basis = torch.cat((basis, torch.empty_like(basis)), 1)
        basis[:, k] = vector
        image = operator.rmatvec(operator.matvec(vector))
        inside = (image * vector).sum(-1, keepdim=True)
        rest = torch.addcmul(image, inside, vector, value=-1)
        if k:
            rest = rest.addcmul_(beside[k - 1].unsqueeze(-1).to(rest.dtype), before, value=-1)
        so_far, row = basis[:, : k + 1], rest.unsqueeze(1)
        rest = torch.baddbmm(row, row @ so_far.mT, so_far, alpha=-1).squeeze(1)
        norm = torch.linalg.vector_norm(rest, dim=-1)
        # The basis is complete where only rounding is left: normalised, that would be a vector of noise.
        mere_rounding = norm <= _ROUNDING * torch.finfo(start.dtype).eps * torch.linalg.vector_norm(image, dim=-1)
        before, vector = vector, rest.mul_(torch.where(mere_rounding, 0, 1 / norm).unsqueeze(-1))
        diagonal[k], beside[k] = inside.squeeze(-1), norm
        if k + 1 < min(check, limit):  # the Ritz values cost more than a step, so they are seen at growing intervals
            continue
        check = int(k * _CHECK_AGAIN) + 1
        found = _ritz_value(diagonal[: k + 1].cpu().numpy(), beside[:k].cpu().numpy(), beside[k].cpu().numpy())
        ritz, residual = (torch.from_numpy(numbers).unsqueeze(1).to(start.device) for numbers in found)
        done = _is_found(ritz, residual, start.dtype)
        values[active[done]] = ritz[done].sqrt()
        stay = _unsettled(ritz, done)
        if len(stay) == 0:
            break
        if len(stay) < len(active):
            active, operator, before, vector = active[stay], operator[stay], before[stay], vector[stay]
            diagonal, beside = diagonal[:, stay], beside[:, stay]
            basis[: len(stay), : k + 1] = basis[stay, : k + 1]
            basis = basis[: len(stay)]
    return values


def _iterate(operator: Operator, start: Tensor) -> Tensor:
    """Block Lanczos on JᵀJ from `start` [p, S]: the p largest singular values, [N, p]; NaN where they are not found."""
    number, (count, size) = operator.shape[0], start.shape
    values = start.new_full((number, count), torch.nan, dtype=torch.float64)
    active = torch.arange(number, device=start.device)
    limit = min(size, (_MOST_VECTORS + size // 4) * count) // count * count
    basis = start.new_empty(number, limit, size)
    bands = start.new_zeros(number, limit, 2 * count, dtype=torch.float64)
    block, check = start.expand(number, -1, -1), max(_FIRST_CHECK, 3 * count)
    for k in range(count, limit + 1, count):
        basis[:, k - count : k] = block
        image = operator.rmatvec(operator.matvec(block.transpose(0, 1))).transpose(0, 1)
        recent = min(k, 2 * count)
        rest, bands[:, k - count : k, -recent:] = _orthogonal(image, basis[:, :k], recent)
        block, onward = _orthonormal(rest, torch.linalg.vector_norm(image, dim=-1, dtype=torch.float64))
        if k < min(check, limit):
            continue
        check = int(k * _CHECK_AGAIN) + 1
        ritz, residual = _ritz_values(bands[:, :k], onward)
        done = _is_found(ritz, residual, start.dtype)
        values[active[done]] = ritz[done].sqrt()
        stay = _unsettled(ritz, done)
        if len(stay) == 0:
            break
        if len(stay) < len(active):
            active, operator, block = active[stay], operator[stay], block[stay]
            basis[: len(stay), :k], bands[: len(stay), :k] = basis[stay, :k], bands[stay, :k]
            basis, bands = basis[: len(stay)], bands[: len(stay)]
    return values


def _start(count: int, size: int) -> Tensor:
    """Orthonormal [count, S] float64, from a generator of its own: that of training is left alone."""
    vectors = torch.randn(size, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    return torch.linalg.qr(vectors).Q.t()


def _orthogonal(vectors: Tensor, basis: Tensor, recent: int) -> tuple[Tensor, Tensor]:
    """Vectors [N, p, S] without their part in the basis [N, k, S], and its coefficients in the `recent` last of these.

    But for rounding all of it lies in those: taking that away first is what makes the second time, over all, precise.
    """
    near = basis[:, -recent:]
    coefficients = vectors @ near.mT
    vectors = torch.baddbmm(vectors, coefficients, near, alpha=-1)
    rounding = vectors @ basis.mT
    return torch.baddbmm(vectors, rounding, basis, alpha=-1), coefficients + rounding[..., -recent:]


def _orthonormal(vectors: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Gram-Schmidt: [N, p, S] to orthonormal ones, and the factor R [N, p, p] float64.

    Of what is mere rounding of vectors whose norms were `before` [N, p], nothing is kept: zeros.
    """
    width, rounding = vectors.shape[1], _ROUNDING * torch.finfo(vectors.dtype).eps
    factor = torch.zeros(len(vectors), width, width, dtype=torch.float64, device=vectors.device)
    ready: list[Tensor] = []
    for i, vector in enumerate(vectors.unbind(1)):
        for _ in range(2 if ready else 0):  # once is not orthogonal to rounding where much cancels, twice is enough
            for j, other in enumerate(ready):
                part = (vector * other).sum(-1, keepdim=True)
                vector = vector - part * other
                factor[:, j, i] += part.squeeze(-1)
        norm = torch.linalg.vector_norm(vector, dim=-1, dtype=torch.float64)
        factor[:, i, i] = norm
        inverse = torch.where(norm > rounding * before[:, i], 1 / norm, 0).to(vector.dtype)
        ready.append(vector * inverse.unsqueeze(-1))
    return torch.stack(ready, 1), factor


def _ritz_values(bands: Tensor, onward: Tensor) -> tuple[Tensor, Tensor]:
    """The p leading eigenvalues of the projected JᵀJ and the residuals of their vectors, [N, p] float64 each.

    Args:
        bands: [N, k, 2p], column by column the last numbers of its upper triangle by blocks.
        onward: [N, p, p], how the last block goes on beyond the basis.
    """
    size, width = bands.shape[1], onward.shape[1]
    projected = bands.new_zeros(len(bands), size, size)
    for k in range(width, size + 1, width):
        depth = min(k, 2 * width)
        projected[:, k - width : k, k - depth : k] = bands[:, k - width : k, -depth:]
    broken = ~projected.isfinite().flatten(1).all(1)
    eigenvalues, vectors = torch.linalg.eigh(projected.masked_fill(broken[:, None, None], 0))
    values, last = eigenvalues[:, -width:].flip(-1), vectors[:, -width:, -width:].flip(-1)
    return values.masked_fill(broken[:, None], torch.nan), torch.linalg.vector_norm(onward @ last, dim=1)


def _ritz_value(diagonal: np.ndarray, beside: np.ndarray, onward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for p = 1, where the projected JᵀJ is tridiagonal, [k, N] and [k - 1, N], and goes on by `onward` [N].

    Inverse iteration, y_new = (x - T)⁻¹ y, with x just above the largest eigenvalue, so that every pivot is positive. A
    pivot that is not tells that there is an eigenvalue above θ + residual: then the residual is infinite. In numpy,
    whose small operations take a third of the time of torch's.
    """
    edge = np.zeros_like(diagonal[:1])
    highest = (diagonal + np.abs(np.concatenate((edge, beside))) + np.abs(np.concatenate((beside, edge)))).max(0)
    x, y = highest * _ABOVE, np.ones_like(diagonal)  # highest: Gershgorin
    with np.errstate(all="ignore"):
        for iteration in range(_INVERSE_ITERATIONS):
            y, lowest = _solve_tridiagonal(x - diagonal, -beside, y)
            y /= np.sqrt(np.square(y).sum(0))
            image = diagonal * y
            image[1:] += beside * y[:-1]
            image[:-1] += beside * y[1:]
            theta = (image * y).sum(0)
            inside, beyond = np.sqrt(np.square(image - theta * y).sum(0)), onward * np.abs(y[-1])
            if iteration == 2 and (beyond > 1000 * TOLERANCE * theta).all():
                break  # none of them is near
            x = np.where(lowest > 0, np.minimum(theta + inside, highest), highest) * _ABOVE
        return theta, np.where(lowest > 0, np.hypot(inside, beyond), np.inf)


def _solve_tridiagonal(diagonal: np.ndarray, beside: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric tridiagonal systems [k, N] by elimination without pivoting: solutions [k, N], smallest pivots [N]."""
    pivots, solution = diagonal.copy(), right.copy()
    for j in range(1, len(diagonal)):
        factor = beside[j - 1] / pivots[j - 1]
        pivots[j] -= factor * beside[j - 1]
        solution[j] -= factor * solution[j - 1]
    solution[-1] /= pivots[-1]
    for j in reversed(range(len(beside))):
        solution[j] -= beside[j] * solution[j + 1]
        solution[j] /= pivots[j]
    return solution, pivots.min(0)
