"""The state Jacobian of the original GRU, which holds a product of two weight matrices.

Shapes: T time steps, B examples, H hidden size, K = 3 gates.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.cells.forms import ResetRows
from gradflow.jacobian.rows import WeightedJacobian


@final
class ResetBeforeJacobian(WeightedJacobian[ResetRows]):
    """J of the original GRU, whose reset gate acts before the product (Cho et al. 2014).

    J = diag(z) + diag(κ_z) U_z + diag(κ_n) U_n (diag(r) + diag(κ_r) U_r), with κ of
    :meth:`gradflow.cells.gru.GRUBeforeCell.coefficients`. It contains a matrix product, so its exact Frobenius norm is
    taken from the dense matrix, O(H³) per step and example.
    """

    norm_is_dense = True

    def _recurrent_product(self, h: Tensor) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        inner = self.coefficients.reset * h + self.rows["h"][..., 0, :] * (h @ u_r.t())
        return torch.stack((torch.zeros_like(h), h @ u_z.t(), inner @ u_n.t()), -2)

    def _recurrent_adjoint(self, epsilon: Tensor) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        r, z, n = epsilon.unbind(-2)
        return r @ u_r + z @ u_z + self.coefficients.reset * (n @ u_n)

    def _gate_gradients(self, within: State, rows: State) -> Tensor:
        """That of r arrives through the candidate."""
        epsilon = rows["h"] * within["h"].unsqueeze(-2)
        epsilon[..., 0, :] = self.rows["h"][..., 0, :] * (epsilon[..., 2, :] @ self.weight_hh[2].to(epsilon.dtype))
        return epsilon

    def _dense_h(self, out: str) -> Tensor:
        u_r, u_z, u_n = self.weight_hh
        of_r, of_z, of_n = (numbers.unsqueeze(-1) for numbers in self.rows["h"].unbind(-2))
        inner = u_n * self.coefficients.reset.unsqueeze(-2) + u_n @ (of_r * u_r)
        return of_z * u_z + of_n * inner

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64, a time step at a time from the dense matrix."""
        norms = [torch.linalg.matrix_norm(self[t].dense().double()) for t in range(self.shape[0])]
        return torch.stack(norms)

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """See :meth:`gradflow.jacobian.operator.Jacobian.backward_`."""
        epsilon = torch.empty_like(self.rows["h"])
        for t, following in pairwise([*order, len(order)]):
            if at_each is not None:
                at_each(t)
            step, arriving = self[t], {"h": total["h"][t]}
            epsilon[t] = step.gate_gradients(arriving)
            total["h"][following] += step.rmatvec(arriving["h"])
        return epsilon
