"""The LSTM, whose state is (h, c)."""

from typing import ClassVar

import torch
from torch import Tensor

from gradflow.cells.cell import State, TorchCell
from gradflow.cells.forms import ShownRows


class LSTMCell(TorchCell):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t): torch.nn.LSTM (Hochreiter & Schmidhuber 1997, Gers et al. 2000)."""

    state_names = ("h", "c")
    gate_names = ("i", "f", "g", "o")
    writes: ClassVar[dict[str, slice]] = {"h": slice(3, 4), "c": slice(0, 3)}

    def activations(self, projected: Tensor, h: Tensor) -> State:
        """Input, forget, candidate and output gate."""
        i, f, g, o = self.recur(h).add_(projected).chunk(4, -1)
        return {"i": torch.sigmoid(i), "f": torch.sigmoid(f), "g": torch.tanh(g), "o": torch.sigmoid(o)}

    def update(self, gates: State, state: State) -> State:
        """The cell keeps by f and takes in i g; the hidden state shows o tanh c."""
        c = gates["f"] * state["c"] + gates["i"] * gates["g"]
        return {"h": gates["o"] * torch.tanh(c), "c": c}

    def coefficients(self, gates: State, state: State, previous: State) -> ShownRows:
        """Gates i, f, g write to c, and o to h, which shows c."""
        i, f, g, o = (gates[name] for name in self.gate_names)
        tanh_c = torch.tanh(state["c"])
        into_c = torch.stack((i * (1 - i) * g, f * (1 - f) * previous["c"], (1 - g * g) * i), -2)
        into_h = o * (1 - o) * tanh_c
        return ShownRows({"h": into_h.unsqueeze(-2), "c": into_c}, {("c", "c"): f}, shown=(1 - tanh_c * tanh_c) * o)
