"""The LSTM, whose state is (h, c)."""

from typing import ClassVar

import torch
from torch import Tensor

from gradflow.cells.cell import State, TorchCell, plus_product
from gradflow.cells.forms import ShownRows
from gradflow.cells.slopes import empty_rows, sigmoid_slope, tanh_slope


class LSTMCell(TorchCell):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t): torch.nn.LSTM (Hochreiter & Schmidhuber 1997, Gers et al. 2000)."""

    state_names = ("h", "c")
    gate_names = ("i", "f", "g", "o")
    writes: ClassVar[dict[str, slice]] = {"h": slice(3, 4), "c": slice(0, 3)}

    def activations(self, projected: Tensor, h: Tensor, recurrent: tuple[Tensor, ...]) -> State:
        """Input, forget, candidate and output gate."""
        i, f, g, o = plus_product(projected, h, *recurrent).chunk(4, -1)
        return {"i": torch.sigmoid(i), "f": torch.sigmoid(f), "g": torch.tanh(g), "o": torch.sigmoid(o)}

    def update(self, gates: State, state: State) -> State:
        """The cell keeps by f and takes in i g; the hidden state shows o tanh c."""
        c = gates["f"] * state["c"] + gates["i"] * gates["g"]
        return {"h": gates["o"] * torch.tanh(c), "c": c}

    def coefficients(self, gates: State, state: State, previous: State) -> ShownRows:
        """Gates i, f, g write to c, and o to h, which shows c."""
        i, f, g, o = (gates[name] for name in self.gate_names)
        tanh_c = torch.tanh(state["c"])
        of_c, of_h = empty_rows(i, 3), empty_rows(o, 1)
        of_i, of_f, of_g = of_c.unbind(-2)
        sigmoid_slope(i, g, out=of_i)  # ∂c/∂a_i = i (1 - i) g
        sigmoid_slope(f, previous["c"], out=of_f)  # ∂c/∂a_f = f (1 - f) c_{t-1}
        tanh_slope(g, i, out=of_g)  # ∂c/∂a_g = (1 - g²) i
        sigmoid_slope(o, tanh_c, out=of_h.squeeze(-2))  # ∂h/∂a_o = o (1 - o) tanh c
        shown = tanh_slope(tanh_c, o, out=torch.empty_like(o))  # ∂h/∂c = (1 - tanh² c) o
        return ShownRows({"h": of_h, "c": of_c}, {("c", "c"): f}, shown=shown)
