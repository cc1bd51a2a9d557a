"""What recording costs as models grow, and in memory: outputs/benchmarks/{growth,memory}.csv, growth.{png,pdf,svg}.

    python benchmarks/cost.py [quick]

Growth: time of a training iteration with recording over the time without (as in recording.py: side by side, one torch
thread, processor time), for the default recording and for every iteration, while one of T, B, H and the number of
layers grows and the others stay. Each is the ratio of the totals of 100 iterations or more, in the default recording
weight spectra and spectral norms included, at every iteration not.

Memory: how far training raises the highest resident memory of a fresh process above that after its imports, in MiB,
without recording and with every iteration recorded, 32 examples of it or all. Read from Linux's /proc: ru_maxrss would
start at the memory of the process that launched this one.
"""

import logging
import statistics
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from recording import Training, everything

from gradflow.figures.layout import finish
from gradflow.figures.output import save
from gradflow.figures.theme import BLACK, look, new_figure, style, thin

CELLS = ("rnn", "gru", "lstm")
BASE = {"T": 50, "B": 32, "H": 64, "layers": 1}
SIZES = {"T": (12, 25, 50, 100, 200, 400), "B": (8, 16, 32, 64, 128, 256), "H": (16, 32, 64, 128, 256)}
SIZES |= {"layers": (1, 2, 3, 4)}
QUICK = {"T": (12, 50), "B": (8, 32), "H": (16, 64), "layers": (1, 2)}
MEMORY_SHAPES = ((100, 4, 64), (64, 100, 128), (32, 784, 128), (128, 400, 256))
QUICK_MEMORY_SHAPES = ((64, 50, 64),)
RECORDINGS = ("default", "every iteration")
ROUNDS, BLOCK_SECONDS = 10, 0.05
FOLDER = Path("outputs/benchmarks")


def main() -> None:
    """Measure both, and leave tables and figure in FOLDER."""
    logging.disable()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if sys.argv[1:2] == ["peak"]:
        cell, examples, *shape = sys.argv[2:]
        print(*peak(cell, int(examples), tuple(map(int, shape))))
        return
    quick = sys.argv[1:] == ["quick"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    table = memory(QUICK_MEMORY_SHAPES if quick else MEMORY_SHAPES)
    table.to_csv(FOLDER / "memory.csv", index=False)
    print(table.to_string(index=False, float_format="%.2f"))
    data = growth(QUICK if quick else SIZES)
    for path in save(draw(data), FOLDER / "growth", data=data):
        print(path)


def memory(shapes: tuple[tuple[int, int, int], ...]) -> pd.DataFrame:
    """A row per cell and shape (B, T, H): MiB without recording, with 32 examples, with all; ratios of the process."""
    rows = []
    for shape in shapes:
        for cell in CELLS:
            row = {"cell": cell, **dict(zip("BTH", shape, strict=True))}
            for name, examples in (("plain", 0), ("32 examples", 32), ("all examples", shape[0])):
                command = [sys.executable, __file__, "peak", cell, str(examples), *map(str, shape)]
                printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                row[name], imported = map(float, printed.split())
            for name in ("32 examples", "all examples"):
                row[f"process, {name}"] = (imported + row[name]) / (imported + row["plain"])
            rows.append(row)
    return pd.DataFrame(rows)


def peak(cell: str, examples: int, shape: tuple[int, int, int]) -> tuple[float, float]:
    """MiB by which training raises this process, and what it has after its imports; examples = 0 does not record."""
    recording = {"every": 1, "examples": examples} if examples else {}
    with tempfile.TemporaryDirectory() as folder:
        train(cell, (2, 3, 4), Path(folder, "imports"), every=1)  # what is imported or made at first use
        Path("/proc/self/clear_refs").write_text("5")  # the highest is now the present one
        before = resident("VmRSS")
        train(cell, shape, Path(folder, "run"), **recording)
        return (resident("VmHWM") - before) / 1024, before / 1024


def train(cell: str, shape: tuple[int, int, int], folder: Path, **recording: int) -> None:
    """A few iterations, and the end of the recording."""
    training = Training(cell, shape, folder, **recording)
    training.block(4)
    if training.recorder:
        training.recorder.__exit__(None, None, None)


def resident(name: str) -> int:
    """VmRSS (now) or VmHWM (highest) of this process, KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name)))


def growth(sizes: dict[str, tuple[int, ...]]) -> pd.DataFrame:
    """A row per cell, axis and size: milliseconds of a plain iteration, and the two ratios."""
    rows = []
    for cell in CELLS:
        for axis, values in sizes.items():
            for size in values:
                row = {"cell": cell, "axis": axis, "size": size, **overhead(cell, **BASE | {axis: size})}
                print({name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()})
                rows.append(row)
    return pd.DataFrame(rows)


@cache
def overhead(cell: str, T: int, B: int, H: int, layers: int) -> dict[str, float]:
    """Milliseconds of a plain iteration, and time with each recording over time without."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"plain": {}, "default": {"every": 10}, "every iteration": everything(cell)}
        ways = {
            name: Training(cell, (B, T, H), Path(folder, name), num_layers=layers, **recording)
            for name, recording in options.items()
        }
        warm = [way.block(10) for way in ways.values()]
        iterations = 10 * max(1, round(BLOCK_SECONDS / warm[0] / 10))
        blocks = [{name: way.block(iterations) for name, way in ways.items()} for _ in range(ROUNDS)]
        for name in RECORDINGS:
            ways[name].recorder.__exit__(None, None, None)
    mean = {name: statistics.mean(block[name] for block in blocks) for name in ways}
    return {"plain_ms": 1e3 * mean["plain"], **{name: mean[name] / mean["plain"] for name in RECORDINGS}}


def draw(data: pd.DataFrame) -> Figure:
    """Ratios against each size: every iteration solid, the default recording dashed."""
    titles = {"T": "time steps T", "B": "batch size B", "H": "hidden size H", "layers": "layers"}
    with style():
        figure = new_figure(1.3, 0.85)
        for axes, (axis, title) in zip(figure.subplots(1, 4, sharey=True), titles.items(), strict=True):
            for cell, rows in data[data["axis"] == axis].groupby("cell", sort=False):
                for name, dashes in zip(RECORDINGS, ("--", "-"), strict=True):
                    label = f"{str(cell).upper()}, {name}"
                    axes.plot(
                        rows["size"], rows[name], dashes, color=look(cell).colour, marker=look(cell).marker, label=label
                    )
            axes.axhline(1, color=BLACK, linewidth=thin(0.5))
            if axis != "layers":
                axes.set_xscale("log", base=2)
            sizes = sorted(data.loc[data["axis"] == axis, "size"].unique())
            axes.set_xticks(sizes, labels=map(str, sizes))
            axes.minorticks_off()
            axes.set_xlabel(title)
        figure.axes[0].set_ylabel("time, recorded / plain")
        figure.axes[0].set_ylim(bottom=0)
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(CELLS), handlelength=3.4
        )
        finish(figure)
    return figure


if __name__ == "__main__":
    main()
