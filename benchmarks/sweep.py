"""What a sweep costs beyond its trainings: wall time of a sweep over that of the same trainings in one warm process.

    python benchmarks/sweep.py [rounds] [iterations]      # prints, and writes outputs/benchmarks/sweep.csv

A round is, one after the other: 24 trainings (three cells, eight seeds, the default recipe) as
plain calls of gradflow.training.loop.train in this process, then the same as a sweep under launcher=local, and under
launcher=processes. Whole commands are timed, with the start of Python and the table at the end. The median over the
rounds is printed with the extremes. Other work on the machine spoils the ratio of launcher=processes, which wants both
cores; so the load is printed, and beside each ratio that of processor time, which is disturbed less.
"""

import logging
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gradflow.config import CellConfig, CellName, Config, TrainConfig
from gradflow.training.loop import train

ROOT = Path(__file__).parents[1]
CELLS, SEEDS = ("lstm", "gru", "rnn"), range(8)
LAUNCHERS = ("local", "processes")
FOLDER = Path("outputs/benchmarks")


def now() -> np.ndarray:
    """Wall time and processor time, of this process and of those it has waited for."""
    times = os.times()
    return np.array([times.elapsed, times.user + times.system + times.children_user + times.children_system])


def bare(folder: Path, iterations: int) -> np.ndarray:
    """Seconds of the trainings alone, by wall and by processor."""
    start = now()
    for cell in CELLS:
        for seed in SEEDS:
            config = Config(cell=CellConfig(CellName(cell)), train=TrainConfig(iterations=iterations), seed=seed)
            train(config, folder / f"{cell}-{seed}", progress=False)
    return now() - start


def sweep(folder: Path, launcher: str, iterations: int) -> np.ndarray:
    """Seconds of the command, by wall and by processor."""
    grid = [f"cell={','.join(CELLS)}", f"seed={','.join(map(str, SEEDS))}", f"train.iterations={iterations}"]
    command = [sys.executable, str(ROOT / "experiments" / "train.py"), "-m", *grid]
    start = now()
    subprocess.run([*command, f"launcher={launcher}", f"hydra.sweep.dir={folder}"], check=True, capture_output=True)
    return now() - start


def measure(iterations: int) -> dict[str, float]:
    """One round: seconds of the trainings, and what each launcher takes over that."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = bare(Path(folder, "bare"), iterations)
        ratios: dict[str, float] = {}
        for name in LAUNCHERS:
            ratios[name], ratios[f"{name}, processor"] = sweep(Path(folder, name), name, iterations) / seconds
    return {"trainings, s": seconds[0], **ratios, "load": os.getloadavg()[0]}


def main() -> None:
    """Print round by round, then the medians; write the table."""
    logging.disable()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as experiments/job.py has it
    torch.backends.mkldnn.enabled = False
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    iterations = int(sys.argv[2]) if len(sys.argv) > 2 else TrainConfig().iterations
    with tempfile.TemporaryDirectory() as folder:
        train(Config(train=TrainConfig(iterations=10)), folder, progress=False)
    rows = []
    for _ in range(rounds):
        rows.append(measure(iterations))
        print("   ".join(f"{name}: {value:.2f}" for name, value in rows[-1].items()), flush=True)
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name}: {statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]")
    FOLDER.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(FOLDER / "sweep.csv", index=False)


if __name__ == "__main__":
    main()
