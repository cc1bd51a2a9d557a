"""Cells of one's own, recorded while they learn to remember a symbol: ``python examples/own_cell.py [folder]``."""

import sys
import time
from pathlib import Path

import torch
from torch import nn

import gradflow as gf

SYMBOLS, TIME, HIDDEN, BATCH, ITERATIONS = 4, 30, 32, 64, 120
SIZES = (2 * SYMBOLS, HIDDEN)


class MinGRU(gf.Cell):
    """h_t = (1 - z_t) h_{t-1} + z_t h̃_t, where z and h̃ see the input alone (Feng et al. 2024)."""

    def __init__(self, input_size: int, hidden_size: int, bias: float = 0.0):
        super().__init__()
        self.hidden_size = hidden_size
        self.update, self.candidate = nn.Linear(input_size, hidden_size), nn.Linear(input_size, hidden_size)
        nn.init.constant_(self.update.bias, bias)  # below 0 it keeps from the start

    def gates(self, x_t, state):
        """In the log, f is a gate that keeps: 1 - z here."""
        return {"f": 1 - torch.sigmoid(self.update(x_t)), "n": self.candidate(x_t)}

    def step(self, x_t, state):
        """Keep f of the old state, take 1 - f of the candidate."""
        f, n = self.gates(x_t, state).values()
        return {"h": f * state["h"] + (1 - f) * n}

    def coefficients(self, gates, state, previous):
        """∂h_t/∂h_{t-1} = diag(1 - z)."""
        return gf.Coefficients(diagonal={("h", "h"): gates["f"]})


class LRU(gf.Cell):
    """s_t = λ s_{t-1} + γ B x_t, complex diagonal λ = exp(-exp ν + i exp θ), γ² = 1 - |λ|² (Orvieto et al. 2023)."""

    state_names = output_names = ("re", "im")

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size
        modulus, angle = 0.9 + 0.099 * torch.rand(hidden_size), 0.3 * torch.rand(hidden_size)
        self.nu, self.theta = nn.Parameter(torch.log(-torch.log(modulus))), nn.Parameter(torch.log(angle))
        self.input = nn.Linear(input_size, 2 * hidden_size, bias=False)

    def eigenvalues(self):
        """The real and the imaginary part of λ, [H] each, and γ."""
        modulus, angle = torch.exp(-torch.exp(self.nu)), torch.exp(self.theta)
        return modulus * torch.cos(angle), modulus * torch.sin(angle), torch.sqrt(1 - modulus**2)

    def step(self, x_t, state):
        """Turn and shrink, and take in the input."""
        a, b, gamma = self.eigenvalues()
        x_re, x_im = self.input(x_t).chunk(2, -1)
        re, im = a * state["re"] - b * state["im"], b * state["re"] + a * state["im"]
        return {"re": re + gamma * x_re, "im": im + gamma * x_im}

    def coefficients(self, gates, state, previous):
        """[[a, -b], [b, a]] for every unit, λ = a + ib."""
        a, b, _ = self.eigenvalues()
        return gf.Coefficients(diagonal={("re", "re"): a, ("re", "im"): -b, ("im", "re"): b, ("im", "im"): a})


class Memory(nn.Module):
    """A recurrent layer and a read-out of its last output."""

    def __init__(self, cell: gf.Cell):
        super().__init__()
        self.recurrent = gf.Recurrent(cell)
        self.read_out = nn.Linear(HIDDEN * len(cell.output_names), SYMBOLS)

    def forward(self, x):
        """Scores [B, SYMBOLS]."""
        return self.read_out(self.recurrent(x)[0][-1])


def batch():
    """A symbol to remember and others to be ignored, one-hot [T, B, 2 SYMBOLS]; and the first."""
    symbols = torch.randint(SYMBOLS, (TIME, BATCH)) + SYMBOLS * (torch.arange(TIME) > 0).unsqueeze(1)
    return nn.functional.one_hot(symbols, 2 * SYMBOLS).float(), symbols[0]


def train(cell: gf.Cell, folder: Path) -> None:
    """An ordinary training loop, with two lines more."""
    model = Memory(cell)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with gf.record(model, folder) as recorder:  # the first
        for _ in range(ITERATIONS):
            x, first = batch()
            loss = nn.functional.cross_entropy(model(x), first)
            optimizer.zero_grad()
            loss.backward()
            recorder.step(loss=loss.item())  # the second
            optimizer.step()


def report(folder: Path) -> None:
    """What the log says: the factor on the gradient for every step back, at the first and the last iteration."""
    run, median = gf.open_run(folder), "log_relative_gradient_q50"
    lags = run.frame("lag", columns=[median]).groupby("iteration")
    first, *_, last = (gf.analysis.factor_per_step(at["lag"].to_numpy(), at[median].to_numpy()) for _, at in lags)
    loss = run.scalars["loss"].iloc[-1]
    print(f"{folder}: gradient x {first:.3f} per step back, after training x {last:.3f}; last loss {loss:.2f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    root = Path(sys.argv[1] if len(sys.argv) > 1 else f"outputs/own_cell/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    cells = {"minGRU": MinGRU(*SIZES), "minGRU that keeps": MinGRU(*SIZES, bias=-3.0), "LRU": LRU(*SIZES)}
    for name, cell in cells.items():
        gf.testing.check_cell(cell, input_size=2 * SYMBOLS)
        train(cell, root / name)
        report(root / name)
