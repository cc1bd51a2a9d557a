"""The state Jacobian J_t = ∂s_t/∂s_{t-1} of a recurrent layer, for all steps and examples at once, as an operator.

Nothing dense is formed unless asked: products with J and Jᵀ cost one matrix product with ``W_hh`` and a few
elementwise ones, and the exact Frobenius norm needs only the Gram matrices of the rows of ``W_hh``.

Shapes: T time steps, B examples, H hidden size, K gates, S state size (H, or 2H for the LSTM's (h, c)).
Past an example's length, norms and dense matrices are NaN and products are 0.
"""

from collections.abc import Mapping
from copy import copy
from itertools import combinations_with_replacement, pairwise
from typing import Any

import torch
from torch import Tensor

from gradflow.cells import Coefficients, State, TorchCell

_LN2 = 0.6931471805599453


class Jacobian:
    """J over batch dimensions [T, B], from the closed-form coefficients of a cell.

    Args:
        cell: the cell; its ``weight_hh`` [K·H, H] is used, not copied.
        coefficients: numbers of the closed form at every (t, b).
        valid: [T, B] bool, False past an example's length; None if every step is valid.
    """

    def __init__(self, cell: TorchCell, coefficients: Coefficients, valid: Tensor | None = None):
        hidden = cell.weight_hh.shape[1]
        self.state_names = cell.state_names
        self.weight_hh = cell.weight_hh.detach().view(-1, hidden, hidden)
        self.valid = valid
        self.coefficients = coefficients
        if valid is not None:
            self.coefficients = coefficients.map(lambda numbers: numbers.masked_fill(~_spread(valid, numbers), 0))

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""
        *batch, _, hidden = self.coefficients.rows["h"].shape
        size = hidden * len(self.state_names)
        return (*batch, size, size)

    def __getitem__(self, index: Any) -> "Jacobian":
        """The same operator on a part of the batch dimensions; ``J[t]`` has [B] left."""
        part = copy(self)
        part.valid = None if self.valid is None else self.valid[index]
        part.coefficients = self.coefficients.map(lambda numbers: numbers[index])
        return part

    def double(self) -> "Jacobian":
        """The same operator in float64."""
        wide = copy(self)
        wide.weight_hh = self.weight_hh.double()
        wide.coefficients = self.coefficients.map(Tensor.double)
        return wide

    def split(self, vector: Tensor) -> State:
        """[..., S] -> state name -> [..., H]."""
        return dict(zip(self.state_names, vector.chunk(len(self.state_names), -1), strict=True))

    def matvec(self, v: Tensor) -> Tensor:
        """J v for v [T, B, S]: how a change of the state that enters changes the one that leaves."""
        entering = self.split(v)
        products = self._recurrent_product(entering["h"])
        leaving = {name: (rows * products).sum(-2) for name, rows in self.coefficients.rows.items()}
        for (out, name), numbers in self.coefficients.diagonal.items():
            leaving[out] = leaving[out] + numbers * entering[name]
        return torch.cat([leaving[name] for name in self.state_names], -1)

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u for u [T, B, S]: how a gradient at the state that leaves arrives at the one that entered."""
        leaving = self.split(u)
        arriving = {name: torch.zeros_like(part) for name, part in leaving.items()}
        arriving["h"] = self._recurrent_adjoint(self.gate_gradients(leaving))
        for (out, name), numbers in self.coefficients.diagonal.items():
            arriving[name] = arriving[name] + numbers * leaving[out]
        return torch.cat([arriving[name] for name in self.state_names], -1)

    def _recurrent_product(self, h: Tensor) -> Tensor:
        """W_hh h of every gate, [..., K, H]."""
        return (h @ self.weight_hh.flatten(0, 1).t()).unflatten(-1, self.weight_hh.shape[:2])

    def _recurrent_adjoint(self, epsilon: Tensor) -> Tensor:
        """Σ_k W_kᵀ ε_k, [..., H]."""
        return epsilon.flatten(-2) @ self.weight_hh.flatten(0, 1)

    def gate_gradients(self, u: Mapping[str, Tensor], *, of_input: bool = False) -> Tensor:
        """ε: gradient at each gate's share W_hh h of its pre-activation (`of_input`: at W_ih x), [..., K, H].

        Args:
            u: state name -> [..., H], gradient at the states that leave.
            of_input: the two differ for torch's GRU, whose reset gate acts on the recurrent share alone.
        """
        rows = self.coefficients.rows
        if of_input and self.coefficients.input_rows is not None:
            rows = self.coefficients.input_rows
        first, *rest = self.state_names
        epsilon = rows[first] * u[first].unsqueeze(-2)
        for name in rest:
            epsilon.addcmul_(rows[name], u[name].unsqueeze(-2))
        return epsilon

    def block(self, out: str, name: str) -> Tensor:
        """The H×H block ∂out/∂name, such as ``block("c", "h")``, [T, B, H, H].

        Raises:
            KeyError: for a name that is no state of this cell.
        """
        for state in (out, name):
            if state not in self.state_names:
                raise KeyError(f"block: expected two of the states {self.state_names}, got {state!r}")
        hidden = self.weight_hh.shape[1]
        dense = (
            self._dense_h(out)
            if name == "h"
            else self.coefficients.rows[out].new_zeros(*self.shape[:-2], hidden, hidden)
        )
        if (out, name) in self.coefficients.diagonal:
            dense.diagonal(dim1=-2, dim2=-1).add_(self.coefficients.diagonal[out, name])
        return self._nan_past_length(dense)

    def _dense_h(self, out: str) -> Tensor:
        return torch.einsum("...ki,kij->...ij", self.coefficients.rows[out], self.weight_hh)

    def dense(self) -> Tensor:
        """[T, B, S, S]: derivative of the state produced at position t by the state that entered it."""
        rows = [torch.cat([self.block(out, name) for name in self.state_names], -1) for out in self.state_names]
        return torch.cat(rows, -2)

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64, in O(T·B·H·K²).

        Its square is Σ_i κ_iᵀ Γ_i κ_i, κ_i the coefficients of unit i and Γ_i the Gram matrix of row i of every W_k.
        """
        eye = torch.eye(self.weight_hh.shape[1], dtype=torch.float64, device=self.weight_hh.device)
        blocks = [*self.weight_hh.double(), eye]
        factors = [self._factors(out) for out in self.state_names]
        total = torch.zeros(self.shape[:-2], dtype=torch.float64, device=eye.device)
        for k, m in combinations_with_replacement(range(len(blocks)), 2):
            gram = (blocks[k] * blocks[m]).sum(1) * (1 if k == m else 2)
            for factor in factors:
                if max(k, m) < len(factor):
                    total += (factor[k] * factor[m]) @ gram
        for (_, name), numbers in self.coefficients.diagonal.items():
            if name != "h":
                total += numbers.double().square().sum(-1)
        return self._nan_past_length(total.clamp_min(0).sqrt())

    def _factors(self, out: str) -> list[Tensor]:
        diagonal = self.coefficients.diagonal.get((out, "h"))
        return [
            *self.coefficients.rows[out].double().unbind(-2),
            *([] if diagonal is None else [diagonal.double()]),
        ]

    def singular_values(self) -> Tensor:
        """Of the dense J, descending, [T, B, S] float64; NaN where J is not finite."""
        dense = self.dense().double()
        finite = dense.isfinite().all(-1).all(-1)
        values = torch.linalg.svdvals(dense.masked_fill(~finite[..., None, None], 0))
        return values.masked_fill(~finite[..., None], torch.nan)

    def spectral_norm(self) -> Tensor:
        """σ_1(J), [T, B] float64."""
        return self.singular_values()[..., 0]

    def _nan_past_length(self, values: Tensor) -> Tensor:
        return values if self.valid is None else values.masked_fill(~_spread(self.valid, values), torch.nan)

    def adjoint(self, direct: State, *, reverse: bool = False) -> tuple[State, Tensor]:
        """Total gradients by δ_{t-1} = J_tᵀ δ_t + g_{t-1}, without loss of range.

        The sweep runs in float64; where it came near the ends of that range it is done again with a scale of its own
        for every step and example, so that 1e-2000 is as exact as 1.

        Args:
            direct: state name -> [T, B, H], g_t; it must be 0 past an example's length.
            reverse: the layer runs from the last position to the first.

        Returns:
            State name -> [T, B, H] float64, and the natural log of the scale, [T, B] float64, that multiplies them.
        """
        wide = self.double()
        order = range(self.shape[0]) if reverse else range(self.shape[0] - 1, -1, -1)
        total = {name: part.double().clone() for name, part in direct.items()}
        wide._sweep(total, order)
        if _range_suffices(total, order):
            return total, torch.zeros(self.shape[:2], dtype=torch.float64, device=self.weight_hh.device)
        return wide._scaled_sweep({name: part.double() for name, part in direct.items()}, order)

    def _sweep(self, total: State, order: range) -> None:
        """Turn direct gradients into total ones, in place: the loop over time, so few operations a turn."""
        weight = self.weight_hh.flatten(0, 1)
        rows = {name: part.unbind(0) for name, part in self.coefficients.rows.items()}
        steps = {name: part.unbind(0) for name, part in total.items()}
        diagonal = {pair: part.unbind(0) for pair, part in self.coefficients.diagonal.items()}
        first, *rest = self.state_names
        for t, following in pairwise(order):
            epsilon = rows[first][t] * steps[first][t].unsqueeze(1)
            for name in rest:
                epsilon.addcmul_(rows[name][t], steps[name][t].unsqueeze(1))
            steps["h"][following].addmm_(epsilon.flatten(1), weight)
            for (out, name), numbers in diagonal.items():
                steps[name][following].addcmul_(numbers[t], steps[out][t])

    def _scaled_sweep(self, direct: State, order: range) -> tuple[State, Tensor]:
        stacked = torch.cat([direct[name] for name in self.state_names], -1)
        total = torch.zeros_like(stacked)
        exponents = stacked.new_zeros(stacked.shape[:2])
        carried, exponent = torch.zeros_like(stacked[0]), exponents[0].clone()
        for t in order:
            carried, exponent = _rescaled_sum(carried, exponent, stacked[t])
            total[t], exponents[t] = carried, exponent
            carried = self[t].rmatvec(carried)
        return self.split(total), exponents * _LN2


class ResetBeforeJacobian(Jacobian):
    """J of the original GRU, whose reset gate acts before the product (Cho et al. 2014).

    J = diag(z) + diag(κ_z) U_z + diag(κ_n) U_n (diag(r) + diag(κ_r) U_r), with κ of
    :meth:`gradflow.cells.GRUBeforeCell.coefficients`. It contains a matrix product, so its exact Frobenius norm is
    taken from the dense matrix, O(H³) per step and example.
    """

    def _recurrent_product(self, h: Tensor) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        inner = self._reset * h + self.coefficients.rows["h"][..., 0, :] * (h @ u_r.t())
        return torch.stack((torch.zeros_like(h), h @ u_z.t(), inner @ u_n.t()), -2)

    def _recurrent_adjoint(self, epsilon: Tensor) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        r, z, n = epsilon.unbind(-2)
        return r @ u_r + z @ u_z + self._reset * (n @ u_n)

    def gate_gradients(self, u: Mapping[str, Tensor], *, of_input: bool = False) -> Tensor:
        """See :meth:`Jacobian.gate_gradients`; that of r arrives through the candidate."""
        epsilon = self.coefficients.rows["h"] * u["h"].unsqueeze(-2)
        epsilon[..., 0, :] = self.coefficients.rows["h"][..., 0, :] * (epsilon[..., 2, :] @ self.weight_hh[2])
        return epsilon

    def _dense_h(self, out: str) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        of_r, of_z, of_n = (numbers.unsqueeze(-1) for numbers in self.coefficients.rows["h"].unbind(-2))
        inner = u_n * self._reset.unsqueeze(-2) + u_n @ (of_r * u_r)
        return of_z * u_z + of_n * inner

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64, a time step at a time from the dense matrix."""
        norms = [torch.linalg.matrix_norm(self[t].dense().double()) for t in range(self.shape[0])]
        return torch.stack(norms)

    @property
    def _reset(self) -> Tensor:
        assert self.coefficients.reset is not None
        return self.coefficients.reset

    def _sweep(self, total: State, order: range) -> None:
        for t, following in pairwise(order):
            total["h"][following] += self[t].rmatvec(total["h"][t])


def _spread(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(*mask.shape, *[1] * (like.dim() - mask.dim()))


def _range_suffices(total: State, order: range) -> bool:
    """False if a gradient fell below (or rose above) what float64 holds although it was there one step before."""
    largest = torch.stack([part.abs().amax(-1) for part in total.values()]).amax(0)[list(order)]
    lost = (largest < 1e-290) & (largest.cummax(0).values > 0)
    return not bool((lost | (largest > 1e290)).any())


def _rescaled_sum(carried: Tensor, exponent: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """(carried·2^exponent + added) as a number near 1 and an exponent, per example; NaN and Inf keep the old scale."""
    own = _exponent(carried) + exponent
    new = torch.maximum(torch.where(carried.eq(0).all(-1), -torch.inf, own), _exponent(added))
    new = torch.where(new.isfinite(), new, exponent)
    shifted = torch.ldexp(carried, (exponent - new).unsqueeze(-1)) + torch.ldexp(added, -new.unsqueeze(-1))
    return shifted, new


def _exponent(vector: Tensor) -> Tensor:
    largest = vector.abs().amax(-1)
    exponent = torch.frexp(largest).exponent.to(vector.dtype)
    return torch.where(largest.isfinite() & (largest > 0), exponent, -torch.inf)
