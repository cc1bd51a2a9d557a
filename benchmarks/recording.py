"""What recording costs, and what the same knowledge costs otherwise: ratios of times measured side by side in one run.

    python benchmarks/recording.py [rounds] [cell ...]      # prints, and writes outputs/benchmarks/recording.csv

For each cell and shape (B, T, H) blocks of iterations alternate in one process: plain torch.nn; with a recorder to
which nothing is due, so with its hooks alone; with the default recording; with everything but spectral norms, products
and weight spectra at every iteration, of 32 examples and of all; with all that the default recording does once in 100
iterations (spectra, proof, spectral norms) at every one; and the usual way, a loop over torch's cells with
``retain_grad`` on every state. Each ratio is that of neighbouring blocks; the median over the rounds is printed with
its quartiles. Then, per Jacobian, the time of dense ones by ``torch.func.vmap(jacrev)`` over that of the exact
Frobenius norm here, and of dense ones with their singular values over that of the spectral norm here. One torch
thread, float32, Adam, clipping by norm throughout; processor time, so that other work on the machine disturbs less.
Denormal numbers are flushed to zero, as `gradflow train` does: a processor multiplies them several times slower, which
would make plain training dear, and the more so the longer it goes on, wherever gradients vanish.
"""

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from usual_loop import dense_jacobians, spectral_norms, state_gradient_norms, usual_cell, usual_iteration

import gradflow as gf
from gradflow.recording.quantities import QUANTITIES, quantities_of

SHAPES = ((100, 4, 64), (64, 100, 128), (32, 784, 128), (128, 400, 256))
INPUT_SIZE = 32
DENSE_NUMBERS = 2**26  # of the dense Jacobians that are formed, a part of the whole where it is large
LAYERS: dict[str, Callable[..., nn.Module]] = {"linear": gf.LinearRNN, "rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
LAYERS |= {"gf.LSTM": gf.LSTM}  # its steps lie in the graph, where torch's is one kernel
CELLS = ("rnn", "gru", "lstm", "gf.LSTM")
FOLDER = Path("outputs/benchmarks")


class Model(nn.Module):
    """A recurrent layer and a read-out of its last output."""

    def __init__(self, layer: nn.Module, hidden: int):
        super().__init__()
        self.recurrent, self.read_out = layer, nn.Linear(hidden, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [B, 2] of x [T, B, D]."""
        return self.read_out(self.recurrent(x)[0][-1])


class Training:
    """A model with its optimiser, and a recorder or none."""

    def __init__(self, cell: str, shape: tuple[int, int, int], folder: Path, num_layers: int = 1, **recording: Any):
        batch, steps, hidden = shape
        torch.manual_seed(0)
        self.model = Model(LAYERS[cell](INPUT_SIZE, hidden, num_layers), hidden)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.x, self.y = torch.randn(steps, batch, INPUT_SIZE), torch.randint(0, 2, (batch,))
        self.recorder = gf.record(self.model, folder, **recording) if recording else None
        if self.recorder:
            self.recorder.__enter__()

    def block(self, iterations: int) -> float:
        """Seconds of processor time per iteration."""
        start = time.process_time()
        for _ in range(iterations):
            self.iteration()
        return (time.process_time() - start) / iterations

    def iteration(self) -> None:
        """One update."""
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        clipping = gf.clip_grad_norm_(self.model.parameters(), 1.0)
        if self.recorder:
            self.recorder.step(loss.item(), clipping)
        else:
            loss.item()
        self.optimizer.step()


class UsualWay(Training):
    """The same model as a loop over torch's cells, which gives the norms of the state gradients and no more."""

    def __init__(self, cell: str, shape: tuple[int, int, int], folder: Path):
        super().__init__(cell, shape, folder)
        self.cell = usual_cell(cell, self.model.recurrent)

    def iteration(self) -> None:
        """One update."""
        output, states = usual_iteration(self.cell, self.x)
        loss = nn.functional.cross_entropy(self.model.read_out(output[-1]), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        gf.clip_grad_norm_(self.model.parameters(), 1.0)
        loss.item()
        state_gradient_norms(states)
        self.optimizer.step()


def everything(cell: str) -> dict[str, Any]:
    """Options of a recording of everything at every iteration but spectral norms, products and weight spectra."""
    names = [name for name in quantities_of(LAYERS[cell](1, 1)) if QUANTITIES[name].of_block]
    return {"every": 1, "spectrum_every": 10**9, "quantities": names}


def compare(cell: str, shape: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """One row of the table; each ratio as median [quartiles]."""
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Training] = {
            "plain": Training(cell, shape, Path(folder)),
            "hooks": Training(cell, shape, Path(folder, "hooks"), every=10**9, spectrum_every=10**9),
            "default": Training(cell, shape, Path(folder, "default"), every=10),
            "every, 32": Training(cell, shape, Path(folder, "32"), examples=32, **everything(cell)),
            "every, all": Training(cell, shape, Path(folder, "all"), examples=shape[0], **everything(cell)),
            "spectra": Training(cell, shape, Path(folder, "spectra"), every=1, spectrum_every=1),
            "usual": UsualWay(cell, shape, Path(folder)),
        }
        for way in ways.values():
            way.block(1)
        ways["default"].block(9)
        iterations = 10 * max(1, round(0.2 / ways["plain"].block(2) / 10))
        lengths = {name: iterations // 10 if name == "spectra" else iterations for name in ways}
        blocks = [{name: way.block(lengths[name]) for name, way in ways.items()} for _ in range(rounds)]
        for way in ways.values():
            if way.recorder:
                way.recorder.__exit__(None, None, None)
    row: dict[str, Any] = {"cell": cell, "(B, T, H)": shape}
    row["plain ms"] = f"{1e3 * statistics.median(block['plain'] for block in blocks):.2f}"
    for name in ("hooks", "default", "every, 32", "every, all", "spectra"):
        row[f"{name} / plain"] = summary([block[name] / block["plain"] for block in blocks])
    row["usual / every, 32"] = summary([block["usual"] / block["every, 32"] for block in blocks])
    return row | dense(cell, shape)


def dense(cell: str, shape: tuple[int, int, int]) -> dict[str, str]:
    """Dense Jacobians against the norms here, time per Jacobian: three measurements of each."""
    batch, steps, hidden = shape
    layer, x = LAYERS[cell](INPUT_SIZE, hidden), torch.randn(steps, batch, INPUT_SIZE)
    with torch.no_grad():
        step = gf.trace(layer, x)[0, 0]
        states, jacobian = {name: list(state.unbind(0)) for name, state in step.states.items()}, step.jacobian
        size = jacobian.shape[-1]
        part = slice(max(1, min(steps, DENSE_NUMBERS // (batch * size**2))))
        few = slice(max(1, min(batch, DENSE_NUMBERS // size**2)))
        some = {name: [state[few] for state in kept[part]] for name, kept in states.items()}
        x_some = x[part, few]
        formed, norm, spectral, decomposed = [], [], [], []
        for _ in range(3):
            formed.append(timed(lambda: dense_jacobians(usual_cell(cell, layer), x_some, some)) / len_of(x_some))
            norm.append(timed(lambda: gf.trace(layer, x)[0, 0].jacobian.frobenius_norm()) / (batch * steps))
            spectral.append(timed(lambda: jacobian[part, few].spectral_norm()) / len_of(x_some))
        matrices = dense_jacobians(usual_cell(cell, layer), x_some[:1, :16], {n: [k[0][:16]] for n, k in some.items()})
        decomposed = [timed(lambda: spectral_norms(matrices)) / len_of(x_some[:1, :16]) for _ in range(3)]
    both = statistics.median(formed) + statistics.median(decomposed)
    return {
        "dense / Frobenius": f"{statistics.median(formed) / statistics.median(norm):.0f}",
        "dense + SVD / spectral": f"{both / statistics.median(spectral):.0f}",
    }


def len_of(x: torch.Tensor) -> int:
    """Number of Jacobians."""
    return x.shape[0] * x.shape[1]


def timed(work: Callable[[], Any]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def summary(values: list[float]) -> str:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.2f} [{low:.2f}-{high:.2f}]"


def main() -> None:
    """Print the table row by row, and write it."""
    logging.disable()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    rows = []
    for shape in SHAPES:
        for cell in sys.argv[2:] or CELLS:
            rows.append(compare(cell, shape, rounds if shape[1] < 200 else min(rounds, 3)))
            print("   ".join(f"{name}: {value}" for name, value in rows[-1].items()), flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(FOLDER / "recording.csv", index=False)


if __name__ == "__main__":
    main()
