"""What opening costs: a sweep of 200 runs of 500 iterations, opened, read and grouped; one very large run.

    python benchmarks/opening.py [runs] [iterations]      # prints, and writes outputs/benchmarks/opening.csv

The runs are synthetic rows in real logs: the columns and the schedule of the default recording of a vanilla RNN whose
loss reads the last step (lags and positions of 30 steps every 10 iterations, the spectrum of 64 singular values and a
proof every 100, scalars at every one). The median of five rounds in one process is printed with the extremes; the files
are in the page cache, as they are after a sweep. `python -X importtime` says what the imports cost, which are not
counted here.
"""

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

import gradflow as gf
from gradflow.recording.quantities import QUANTITIES, labels
from gradflow.runlog import RunWriter
from gradflow.runlog.schema import COUNTS, STATISTICS

CELLS, INITS = ("linear", "rnn", "lstm", "gru"), ("default", "orthogonal", "remember", "sparse", "identity")
OF_AN_LSTM = ("log_cell_gradient", "log_joint_gradient", "log_cell_path", "log_product_spectral")
RECORDED = [name for name in QUANTITIES if name not in OF_AN_LSTM and QUANTITIES[name].of_anchors is None]
PARAMETERS = ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "recurrent.bias_ih_l0", "recurrent.bias_hh_l0"]
STEPS, HIDDEN_SIZE, ROUNDS = 30, 64, 5
LARGE = (5000, 1000)
MEDIAN = "log_relative_gradient_q50"
FOLDER = Path("outputs/benchmarks")


def write(folder: Path, runs: int, iterations: int) -> None:
    """A sweep of cells, initialisations and seeds."""
    settings = itertools.product(range(-(-runs // (len(CELLS) * len(INITS)))), CELLS, INITS)
    for seed, cell, init in itertools.islice(settings, runs):
        config = {"cell": {"name": cell, "num_layers": 1, "hidden_size": HIDDEN_SIZE}, "init": {"name": init}}
        config |= {"clip": {"name": "norm", "threshold": 1.0}, "data": {"source": "generated"}, "seed": seed}
        write_run(folder / f"cell={cell},init={init},seed={seed}", config, iterations)


def write_run(path: Path, config: dict, iterations: int) -> None:
    """One run of random rows."""
    random = np.random.default_rng(config["seed"])
    scalars, spectrum = ["test_accuracy"], np.linspace(1.2, 0.0, HIDDEN_SIZE)
    writer = RunWriter(
        path,
        meta={"proof_tolerance": 1e-4},
        config=config,
        seed=config["seed"],
        parameters=PARAMETERS,
        scalars=scalars,
        quantities=labels(RECORDED),
    )
    names = [f"log_grad_{when}" for when in ("norm_before", "norm_after", *(f"after.{name}" for name in PARAMETERS))]
    place = {"module": "recurrent", "layer": 0, "direction": 0}
    for iteration in range(iterations):
        row = dict(zip(names, random.standard_normal(len(names)), strict=True))
        writer.append("scalars", iteration, row | {"loss": random.random(), "lr": 1e-3, "clipped": 0.0})
        if iteration % 10 == 0 or iteration == iterations - 1:
            for table, key in (("time", "time"), ("lag", "lag")):
                rows = positions(random)
                writer.append(table, iteration, place | {"call": 0, key: np.arange(STEPS)} | rows)
        for gate in {"lstm": "ifgo", "gru": "rzn"}.get(config["cell"]["name"], "h") if iteration % 100 == 0 else "":
            rows = {"gate": gate, "index": np.arange(HIDDEN_SIZE), "singular_value": spectrum}
            writer.append("spectrum", iteration, place | rows | {"eigenvalue_re": spectrum, "eigenvalue_im": 0.0})
        if iteration % 100 == 0:
            proof = {"call": 0, "forward_residual": 0.0, "backward_residual": 1e-7}
            writer.append("proof", iteration, place | proof)
    writer.close()


def write_large(path: Path) -> None:
    """Five million rows of the table `time`."""
    writer = RunWriter(path, meta={}, quantities=labels(["log_state_gradient"]))
    values = np.random.default_rng(0).standard_normal(LARGE[1], np.float32)
    rows = {"module": "recurrent", "call": 0, "layer": 0, "direction": 0, "time": np.arange(LARGE[1])}
    for iteration in range(LARGE[0]):
        statistics = {f"log_state_gradient_{key}": values for key in STATISTICS}
        writer.append("time", iteration, rows | {"valid": np.full(LARGE[1], 32, np.int32)} | statistics)
    writer.close()


def positions(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Values of every column of `time` or `lag` at one iteration."""
    values = {f"{name}_{key}": random.standard_normal(STEPS, np.float32) for name in RECORDED for key in STATISTICS}
    counts = {f"{name}_{key}": np.zeros(STEPS, np.int32) for name in RECORDED for key in COUNTS}
    return {"valid": np.full(STEPS, 32, np.int32), **values, **counts}


def far_gradient(sweep: "gf.Sweep") -> pd.Series:
    """The median gradient at every lag, first to last iteration, by cell and initialisation."""
    frame = sweep.frame("lag", columns=[MEDIAN], params=["cell", "init"])
    return frame.groupby(["cell", "init", "iteration", "lag"])[MEDIAN].median()


def final_loss(sweep: "gf.Sweep") -> pd.Series:
    """Mean loss of every setting."""
    return sweep.frame("scalars", columns=["loss"], params=["cell", "init"]).groupby(["cell", "init"])["loss"].mean()


QUESTIONS: dict[str, Callable[[Path], object]] = {
    "open": gf.open_sweep,
    "open, table of runs": lambda path: gf.open_sweep(path).runs,
    "open, one column of scalars, group": lambda path: final_loss(gf.open_sweep(path)),
    "open, one column of lag, group": lambda path: far_gradient(gf.open_sweep(path)),
    "open, all columns of lag": lambda path: gf.open_sweep(path).frame("lag"),
}
OF_THE_LARGE_RUN: dict[str, Callable[[Path], object]] = {
    "large run, last iteration": lambda path: gf.open_run(path).frame(
        "time", columns=["log_state_gradient_q50"], where=pc.field("iteration") == LARGE[0] - 1
    ),
    "large run, one column": lambda path: gf.open_run(path).table("time", columns=["log_state_gradient_q50"]),
    "large run, status and last iteration": lambda path: (gf.open_run(path).status, gf.open_run(path).iteration),
}


def seconds(question: Callable[[Path], object], path: Path) -> float:
    start = time.perf_counter()
    question(path)
    return time.perf_counter() - start


def main() -> None:
    """Write the logs, then ask each question five times."""
    runs, iterations = (int(number) for number in (sys.argv[1:] + ["200", "500"][len(sys.argv) - 1 :])[:2])
    with tempfile.TemporaryDirectory() as folder:
        sweep, large = Path(folder, "sweep"), Path(folder, "large")
        write(sweep, runs, iterations)
        write_large(large)
        asked = [(sweep, *item) for item in QUESTIONS.items()] + [(large, *item) for item in OF_THE_LARGE_RUN.items()]
        rows = [{name: seconds(question, path) for path, name, question in asked} for _ in range(ROUNDS)]
    table = pd.DataFrame(rows)
    for name, values in table.items():
        print(f"{name}: {statistics.median(values):.3f} s [{values.min():.3f}-{values.max():.3f}]")
    FOLDER.mkdir(parents=True, exist_ok=True)
    table.to_csv(FOLDER / "opening.csv", index=False)


if __name__ == "__main__":
    main()
