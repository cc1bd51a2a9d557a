"""Jacobians of cells whose closed form is more than a sum of weight rows: the LSTM and the original GRU."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.jacobian.operator import Jacobian, log_abs_det_of


class LSTMJacobian(Jacobian):
    """J of the LSTM, whose state is (h, c): gates i, f, g write to c, and h_t = o tanh(c_t) shows it.

    J = (I + diag(τ) from c to h) (rows of gates · W_hh + diag(f) from c to c), τ = ∂h_t/∂c_t.
    """

    @property
    def _shown(self) -> Tensor:
        assert self.coefficients.shown is not None
        return self.coefficients.shown

    def _show(self, leaving: State) -> None:
        leaving["h"] = leaving["h"] + self._shown * leaving["c"]

    def _within(self, leaving: State) -> State:
        return {"h": leaving["h"], "c": leaving["c"] + self._shown * leaving["h"]}

    def _gate_gradients(self, within: State, rows: State) -> Tensor:
        return torch.cat([rows[name] * within[name].unsqueeze(-2) for name in ("c", "h")], -2)

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """See :meth:`Jacobian.backward_`."""
        weight, rows, of_c = self.weight_hh.flatten(0, 1), self.coefficients.rows, torch.empty_like(total["c"][0])
        *batch, hidden = total["h"][:-1].shape
        epsilon = total["h"].new_empty(*batch, len(self.weight_hh), hidden)
        epsilons = {name: epsilon[:, :, gates].unbind(0) for name, gates in self.writes.items()}
        rows_c, rows_h, flat = rows["c"].unbind(0), rows["h"].unbind(0), epsilon.flatten(2).unbind(0)
        shown, kept, h, c = (part.unbind(0) for part in (self._shown, self._kept, total["h"], total["c"]))
        across_c, across_h = of_c.unsqueeze(1), total["h"].unsqueeze(2).unbind(0)
        for t, following in pairwise([*order, len(order)]):
            if at_each is not None:
                at_each(t)
            torch.addcmul(c[t], shown[t], h[t], out=of_c)
            torch.mul(rows_c[t], across_c, out=epsilons["c"][t])
            torch.mul(rows_h[t], across_h[t], out=epsilons["h"][t])
            h[following].addmm_(flat[t], weight)
            c[following].addcmul_(kept[t], of_c)
        return epsilon

    @property
    def _kept(self) -> Tensor:
        return self.coefficients.diagonal["c", "c"]

    def _block(self, out: str, name: str) -> Tensor:
        own = super()._block(out, name)
        return own if out == "c" else own + self._shown.unsqueeze(-1) * super()._block("c", name)

    def log_abs_det(self) -> Tensor:
        """A row operation leaves a triangular matrix of blocks: Σ ln|∂h/∂a_o| + ln|det W_o| + Σ ln f."""
        of_o, f = self.coefficients.rows["h"].squeeze(-2).double(), self._kept.double()
        logs = (of_o.abs().log() + f.abs().log()).sum(-1)
        return self._nan_past_length(logs + log_abs_det_of(self.weight_hh[3].double()))

    def _frobenius_squares(self) -> Tensor:
        """Row i of h is its own and τ times that of c, so Γ meets the pairs of c with 1 + τ², those across with τ."""
        into_c, into_h, shown = self.coefficients.rows["c"], self.coefficients.rows["h"], self._shown
        weight = 1 + shown.square()
        others = torch.empty(*into_c.shape[:-2], 4, into_c.shape[-1], dtype=into_c.dtype, device=into_c.device)
        torch.mul(into_c, weight.unsqueeze(-2), out=others[..., self.writes["c"], :])
        torch.mul(into_h, shown.unsqueeze(-2), out=others[..., self.writes["h"], :])
        own = into_h.squeeze(-2).square() @ self.gram[3, 3]
        return self._row_squares(into_c, others) + own + (self._kept.square() * weight).sum(-1)


class ResetBeforeJacobian(Jacobian):
    """J of the original GRU, whose reset gate acts before the product (Cho et al. 2014).

    J = diag(z) + diag(κ_z) U_z + diag(κ_n) U_n (diag(r) + diag(κ_r) U_r), with κ of
    :meth:`gradflow.cells.gru.GRUBeforeCell.coefficients`. It contains a matrix product, so its exact Frobenius norm is
    taken from the dense matrix, O(H³) per step and example.
    """

    norm_is_dense = True

    def _recurrent_product(self, h: Tensor) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        inner = self._reset * h + self.coefficients.rows["h"][..., 0, :] * (h @ u_r.t())
        return torch.stack((torch.zeros_like(h), h @ u_z.t(), inner @ u_n.t()), -2)

    def _recurrent_adjoint(self, epsilon: Tensor) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        r, z, n = epsilon.unbind(-2)
        return r @ u_r + z @ u_z + self._reset * (n @ u_n)

    def _gate_gradients(self, within: State, rows: State) -> Tensor:
        """That of r arrives through the candidate."""
        epsilon = rows["h"] * within["h"].unsqueeze(-2)
        epsilon[..., 0, :] = self.coefficients.rows["h"][..., 0, :] * (
            epsilon[..., 2, :] @ self.weight_hh[2].to(epsilon.dtype)
        )
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

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """See :meth:`Jacobian.backward_`."""
        epsilon = torch.empty_like(self.coefficients.rows["h"])
        for t, following in pairwise([*order, len(order)]):
            if at_each is not None:
                at_each(t)
            step, arriving = self[t], {"h": total["h"][t]}
            epsilon[t] = step.gate_gradients(arriving)
            total["h"][following] += step.rmatvec(arriving["h"])
        return epsilon
