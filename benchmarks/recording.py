"""What recording costs: time of a training iteration with recording over the time without, measured side by side.

    python benchmarks/recording.py [rounds]

For each cell and shape (B, T, H), blocks of iterations without a recorder, with the default recording, and with every
iteration recorded alternate in one process. Each ratio is that of neighbouring blocks; the median over the rounds is
printed with its quartiles. One torch thread, float32, Adam, clipping by norm in all three; processor time, so that
other work on the machine disturbs less.
"""

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import gradflow as gf

SHAPES = ((100, 4, 64), (64, 100, 128))
INPUT_SIZE = 32
LAYERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "linear": gf.LinearRNN,
    "rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


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

    def __init__(self, cell: str, shape: tuple[int, int, int], folder: Path, *, num_layers: int = 1, **recording: int):
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
            loss = nn.functional.cross_entropy(self.model(self.x), self.y)
            self.optimizer.zero_grad()
            loss.backward()
            clipping = gf.clip_grad_norm_(self.model.parameters(), 1.0)
            if self.recorder:
                self.recorder.step(loss.item(), clipping)
            else:
                loss.item()
            self.optimizer.step()
        return (time.process_time() - start) / iterations


def compare(cell: str, shape: tuple[int, int, int], rounds: int, iterations: int) -> None:
    """Print one line: plain time, and the two ratios."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Training(cell, shape, Path(folder))
        default = Training(cell, shape, Path(folder) / "default", every=10)
        always = Training(cell, shape, Path(folder) / "always", every=1)
        times, ratios = [], ([], [])
        for _ in range(rounds):
            times.append(plain.block(iterations))
            for found, training in zip(ratios, (default, always), strict=True):
                found.append(training.block(iterations) / times[-1])
        for training in (default, always):
            training.recorder.__exit__(None, None, None)
    texts = [f"{statistics.median(r):5.2f} [{spread(r)}]" for r in ratios]
    print(f"{cell:7}{shape!s:17}{statistics.median(times) * 1e3:9.2f}   {texts[0]:22}{texts[1]}", flush=True)


def spread(values: list[float]) -> str:
    """The quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.2f}-{high:.2f}"


def main() -> None:
    """Print the table."""
    logging.disable()
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(f"{'cell':7}{'(B, T, H)':17}{'plain ms':>9}   {'default / plain':22}every iteration / plain")
    for shape in SHAPES:
        for cell in LAYERS:
            compare(cell, shape, rounds, iterations=100 if shape[1] < 10 else 20)


if __name__ == "__main__":
    main()
