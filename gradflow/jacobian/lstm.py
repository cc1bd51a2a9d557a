"""The state Jacobian of the LSTM, whose h is a view of c.

Shapes: T time steps, B examples, H hidden size, K = 4 gates.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.cells.forms import ShownRows
from gradflow.jacobian.operator import log_abs_det_of
from gradflow.jacobian.rows import WeightedJacobian


@final
class LSTMJacobian(WeightedJacobian[ShownRows]):
    """J of the LSTM, whose state is (h, c): gates i, f, g write to c, and h_t = o tanh(c_t) shows it.

    J = (I + diag(τ) from c to h) (rows of gates · W_hh + diag(f) from c to c), τ = ∂h_t/∂c_t.
    """

    @property
    def shown(self) -> Tensor:
        """τ, [T, B, H]."""
        return self.coefficients.shown

    def _show(self, leaving: State) -> None:
        leaving["h"] = leaving["h"] + self.shown * leaving["c"]

    def _within(self, leaving: State) -> State:
        return {"h": leaving["h"], "c": torch.addcmul(leaving["c"], self.shown, leaving["h"])}

    def _gate_gradients(self, within: State, rows: State) -> Tensor:
        *batch, hidden = within["c"].shape
        epsilon = within["c"].new_empty(*batch, len(self.weight_hh), hidden)
        for name, gates in self.writes.items():
            torch.mul(rows[name], within[name].unsqueeze(-2), out=epsilon[..., gates, :])
        return epsilon

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """See :meth:`gradflow.jacobian.operator.Jacobian.backward_`."""
        weight, rows, of_c = self.weight_hh.flatten(0, 1), self.rows, torch.empty_like(total["c"][0])
        *batch, hidden = total["h"][:-1].shape
        epsilon = total["h"].new_empty(*batch, len(self.weight_hh), hidden)
        epsilons = {name: epsilon[:, :, gates].unbind(0) for name, gates in self.writes.items()}
        rows_c, rows_h, flat = rows["c"].unbind(0), rows["h"].unbind(0), epsilon.flatten(2).unbind(0)
        shown, kept, h, c = (part.unbind(0) for part in (self.shown, self._kept, total["h"], total["c"]))
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
        return own if out == "c" else own + self.shown.unsqueeze(-1) * super()._block("c", name)

    def log_abs_det(self) -> Tensor:
        """A row operation leaves a triangular matrix of blocks: Σ ln|∂h/∂a_o| + ln|det W_o| + Σ ln f."""
        of_o, f = self.rows["h"].squeeze(-2).double(), self._kept.double()
        logs = (of_o.abs().log() + f.abs().log()).sum(-1)
        return self._nan_past_length(logs + log_abs_det_of(self.weight_hh[3].double()))

    def _frobenius_squares(self) -> Tensor:
        """Row i of h is its own and τ times that of c, so Γ meets the pairs of c with 1 + τ², those across with τ."""
        into_c, into_h, shown = self.rows["c"], self.rows["h"], self.shown
        weight = 1 + shown.square()
        others = torch.empty(*into_c.shape[:-2], 4, into_c.shape[-1], dtype=into_c.dtype, device=into_c.device)
        torch.mul(into_c, weight.unsqueeze(-2), out=others[..., self.writes["c"], :])
        torch.mul(into_h, shown.unsqueeze(-2), out=others[..., self.writes["h"], :])
        own = into_h.squeeze(-2).square().mul_(self.gram[3, 3])
        return self._squares_by_unit(into_c, others).add_(own).addcmul_(self._kept.square(), weight).sum(-1)
