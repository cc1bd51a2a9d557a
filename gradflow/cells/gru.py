"""The GRU, torch's and the original, which differ in where the reset gate acts."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gradflow.cells.cell import State, TorchCell
from gradflow.cells.forms import ResetRows, Rows
from gradflow.cells.slopes import empty_rows, sigmoid_slope, tanh_slope


class GRUCell(TorchCell):
    """torch.nn.GRU: the reset gate acts after the product, n = tanh(W_in x + b_in + r (W_hn h + b_hn))."""

    gate_names = ("r", "z", "n")

    def activations(self, projected: Tensor, h: Tensor) -> State:
        """Reset gate, update gate (which keeps) and candidate."""
        x_r, x_z, x_n = projected.chunk(3, -1)
        h_r, h_z, h_n = self.recur(h).chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        return {"r": r, "z": z, "n": torch.tanh(x_n + r * h_n)}

    def update(self, gates: State, state: State) -> State:
        """What z keeps of the old state, and 1 - z of the candidate."""
        z = gates["z"]
        return {"h": (1 - z) * gates["n"] + z * state["h"]}

    def coefficients(self, gates: State, state: State, previous: State) -> Rows:
        """W_hn h + b_hn is formed anew, one product for all steps."""
        r, z, n = (gates[name] for name in self.gate_names)
        h, size = previous["h"], self.weight_hh.shape[1]
        bias = None if self.bias_hh is None else self.bias_hh[2 * size :]
        h_n = F.linear(h, self.weight_hh[2 * size :], bias)
        rows, renewed = empty_rows(r, 3), 1 - z
        of_r, of_z, of_n = rows.unbind(-2)
        tanh_slope(n, of_n).mul_(renewed)  # ∂h/∂a_n = (1 - n²) (1 - z), which meets W_hn h through r
        sigmoid_slope(r, of_r).mul_(h_n).mul_(of_n)  # ∂h/∂a_r = r (1 - r) (W_hn h + b_hn) ∂h/∂a_n
        torch.sub(h, n, out=of_z).mul_(z).mul_(renewed)  # ∂h/∂a_z = (h - n) z (1 - z)
        of_n.mul_(r)
        return Rows({"h": rows}, {("h", "h"): z})

    def input_rows(self, gates: State, rows: State) -> State:
        """Of the candidate without r, which acts on W_hn h + b_hn alone."""
        of_input = rows["h"].clone()
        tanh_slope(gates["n"], of_input[..., 2, :]).mul_(1 - gates["z"])
        return {"h": of_input}


class GRUBeforeCell(TorchCell):
    """The original GRU (Cho et al. 2014): the reset gate acts before the product.

    n = tanh(W_in x + b_in + W_hn (r h) + b_hn). Its Jacobian holds a product of two weight matrices, so it has
    a form of its own, :class:`gradflow.jacobian.reset_before.ResetBeforeJacobian`.
    """

    gate_names = ("r", "z", "n")

    def activations(self, projected: Tensor, h: Tensor) -> State:
        """Reset gate, update gate (which keeps) and candidate."""
        size = self.weight_hh.shape[1]
        x_rz, x_n = projected[..., : 2 * size], projected[..., 2 * size :]
        b_rz, b_n = (None, None) if self.bias_hh is None else (self.bias_hh[: 2 * size], self.bias_hh[2 * size :])
        r, z = torch.sigmoid(x_rz + F.linear(h, self.weight_hh[: 2 * size], b_rz)).chunk(2, -1)
        return {"r": r, "z": z, "n": torch.tanh(x_n + F.linear(r * h, self.weight_hh[2 * size :], b_n))}

    update = GRUCell.update

    def coefficients(self, gates: State, state: State, previous: State) -> ResetRows:
        """∂h/∂z and ∂h/∂n with their activations, and in the place of r the derivative of r h, h r (1 - r)."""
        r, z, n = (gates[name] for name in self.gate_names)
        h = previous["h"]
        rows = torch.stack((h * r * (1 - r), (h - n) * z * (1 - z), (1 - z) * (1 - n * n)), -2)
        return ResetRows({"h": rows}, {("h", "h"): z}, reset=r)

    def multiplied(self, gates: State, previous: State) -> Tensor:
        """Blocks r and z multiply h_{t-1}, the candidate's r h_{t-1}."""
        h = previous["h"]
        return torch.stack((h, h, gates["r"] * h), -2)
