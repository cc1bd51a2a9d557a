"""What a sweep costs beyond its trainings: wall time of a sweep over that of the same trainings in one warm process.

    python benchmarks/sweep.py [rounds] [iterations]      # prints, and writes outputs/benchmarks/sweep.csv

A round is, one after the other: 24 trainings (three cells, eight seeds, the default recipe) as
plain calls of gradflow.training.train in this process, then the same as a sweep under launcher=local, and under
launcher=processes. Whole commands are timed, with the start of Python and the table at the end. The median over the
rounds is printed with the extremes. The load of the machine is printed, too: above the number of cores, the ratio of
launcher=processes says little.
"""

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from gradflow.config import CellConfig, CellName, Config, TrainConfig
from gradflow.training import train

ROOT = Path(__file__).parents[1]
CELLS, SEEDS = ("lstm", "gru", "rnn"), range(8)
LAUNCHERS = ("local", "processes")
FOLDER = Path("outputs/benchmarks")


def bare(folder: Path, iterations: int) -> float:
    """Seconds of the trainings alone."""
    start = time.perf_counter()
    for cell in CELLS:
        for seed in SEEDS:
            config = Config(cell=CellConfig(CellName(cell)), train=TrainConfig(iterations=iterations), seed=seed)
            train(config, folder / f"{cell}-{seed}", progress=False)
    return time.perf_counter() - start


def sweep(folder: Path, launcher: str, iterations: int) -> float:
    """Seconds of the command."""
    grid = [f"cell={','.join(CELLS)}", f"seed={','.join(map(str, SEEDS))}", f"train.iterations={iterations}"]
    command = [sys.executable, str(ROOT / "experiments" / "train.py"), "-m", *grid]
    start = time.perf_counter()
    subprocess.run([*command, f"launcher={launcher}", f"hydra.sweep.dir={folder}"], check=True, capture_output=True)
    return time.perf_counter() - start


def measure(iterations: int) -> dict[str, float]:
    """One round: seconds of the trainings, and what each launcher takes over that."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = bare(Path(folder, "bare"), iterations)
        ratios = {name: sweep(Path(folder, name), name, iterations) / seconds for name in LAUNCHERS}
    return {"trainings, s": seconds, **ratios, "load": os.getloadavg()[0]}


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
