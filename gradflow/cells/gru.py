"""The GRU, torch's and the original, which differ in where the reset gate acts."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gradflow.cells.cell import State, TorchCell, plus_product
from gradflow.cells.forms import ResetRows, Rows
from gradflow.cells.slopes import empty_rows, sigmoid_slope, tanh_slope


def product(h: Tensor, transposed: Tensor, bias: Tensor | None = None) -> Tensor:
    """W h + b, [..., H]."""
    return h @ transposed if bias is None else plus_product(bias, h, transposed)


class ResetCell(TorchCell):
    """What both have in common: the gates r and z, and how z mixes what was with the candidate n."""

    gate_names = ("r", "z", "n")

    def recurrent(self) -> tuple[Tensor, ...]:
        """W_hhᵀ of the two gates [H, 2H], and of the candidate [H, H]."""
        return self.weight_hh.t().split((2 * self.hidden_size, self.hidden_size), -1)

    def activations(self, projected: Tensor, h: Tensor, recurrent: tuple[Tensor, ...]) -> State:
        """Reset gate, update gate (which keeps) and candidate."""
        of_gates, *of_candidate = recurrent
        x_rz, x_n = projected.split((2 * self.hidden_size, self.hidden_size), -1)
        r, z = torch.sigmoid(plus_product(x_rz, h, of_gates)).chunk(2, -1)
        return {"r": r, "z": z, "n": self.candidate(x_n, r, h, *of_candidate)}

    def candidate(self, x_n: Tensor, r: Tensor, h: Tensor, *recurrent: Tensor) -> Tensor:
        """n, [..., H], from its parts of what :meth:`project` and :meth:`recurrent` gave."""
        raise NotImplementedError

    def update(self, gates: State, state: State) -> State:
        """What z keeps of the old state, and 1 - z of the candidate."""
        n = gates["n"]
        return {"h": n + gates["z"] * (state["h"] - n)}

    def summands(self, gates: State) -> State:
        """N + z (h - n) has the rounding of n, however little of it 1 - z lets in."""
        return {"h": gates["n"]}

    def cancels(self, gates: State) -> Tensor:
        """1 / (1 - z): what reaches the gates is g (1 - z), which autograd finds as g - g z; nothing where z is 1."""
        return (1 / (1 - gates["z"])).nan_to_num_(posinf=0.0)


class GRUCell(ResetCell):
    """torch.nn.GRU: the reset gate acts after the product, n = tanh(W_in x + b_in + r (W_hn h + b_hn))."""

    @property
    def added_bias(self) -> Tensor | None:
        """b_ih + b_hh without b_hn, on which the reset gate acts."""
        if self.bias_ih is None or self.bias_hh is None:
            return None
        return self.bias_ih + F.pad(self.bias_hh[: -self.hidden_size], (0, self.hidden_size))

    def recurrent(self) -> tuple[Tensor, ...]:
        """W_hhᵀ of the two gates and of the candidate, and b_hn [H], if there are biases."""
        weights = super().recurrent()
        return weights if self.bias_hh is None else (*weights, self.bias_hh[-self.hidden_size :])

    def candidate(self, x_n: Tensor, r: Tensor, h: Tensor, *recurrent: Tensor) -> Tensor:
        """The reset gate acts on W_hn h + b_hn."""
        return torch.tanh(x_n + r * product(h, *recurrent))

    def coefficients(self, gates: State, state: State, previous: State) -> Rows:
        """W_hn h + b_hn is formed anew, one product for all steps, unless it is given as the gate "hn"."""
        r, z, n = (gates[name] for name in self.gate_names)
        h = previous["h"]
        h_n = gates["hn"] if "hn" in gates else product(h, *self.recurrent()[1:])
        rows, renewed = empty_rows(r, 3), 1 - z
        of_r, of_z, of_n = rows.unbind(-2)
        tanh_slope(n, renewed, out=of_n)  # ∂h/∂a_n = (1 - n²) (1 - z), which meets W_hn h through r
        sigmoid_slope(r, torch.mul(h_n, of_n, out=of_r), out=of_r)  # ∂h/∂a_r = r (1 - r) (W_hn h + b_hn) ∂h/∂a_n
        sigmoid_slope(z, torch.sub(h, n, out=of_z), out=of_z)  # ∂h/∂a_z = (h - n) z (1 - z)
        of_n.mul_(r)
        return Rows({"h": rows}, {("h", "h"): z})

    def input_rows(self, gates: State, rows: State) -> State:
        """Of the candidate without r, which acts on W_hn h + b_hn alone."""
        of_input = rows["h"].clone()
        tanh_slope(gates["n"], 1 - gates["z"], out=of_input[..., 2, :])
        return {"h": of_input}


class GRUBeforeCell(ResetCell):
    """The original GRU (Cho et al. 2014): the reset gate acts before the product.

    n = tanh(W_in x + b_in + W_hn (r h) + b_hn). Its Jacobian holds a product of two weight matrices, so it has
    a form of its own, :class:`gradflow.jacobian.reset_before.ResetBeforeJacobian`.
    """

    def candidate(self, x_n: Tensor, r: Tensor, h: Tensor, *recurrent: Tensor) -> Tensor:
        """The reset gate acts on h."""
        return torch.tanh(plus_product(x_n, r * h, *recurrent))

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
