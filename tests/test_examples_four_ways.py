"""One question in pandas, polars, DuckDB and xarray: the same numbers, and the right ones."""

import numpy as np
import pytest

import gradflow as gf
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter

RATES = {("lstm", "default"): (-0.4, -0.3), ("lstm", "remember"): (0.01, 0.0), ("rnn", "default"): (-0.6, -0.5)}


@pytest.fixture(scope="module")
def example(script):
    return script("examples/four_ways.py")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Rates at first and at last, to which the seed adds; some runs end later, and cells differ in their columns."""
    folder = tmp_path_factory.mktemp("sweep")
    for (cell, init), (first, last) in RATES.items():
        for seed in range(4):
            quantities = ["log_relative_gradient", *(["log_cell_path"] if cell == "lstm" else ["log_state_gradient"])]
            config = {"cell": {"name": cell}, "init": {"name": init}, "seed": seed}
            path = folder / cell / f"{init}-{seed}"
            writer = RunWriter(path, meta={}, config=config, quantities=labels(quantities))
            for iteration in (0, 10, 20 + seed % 2):
                rate = (first if iteration == 0 else 99.0 if iteration == 10 else last) + 0.01 * seed
                rows = {"module": "net.rnn", "call": 0, "layer": 0, "direction": 0, "lag": np.arange(25)}
                writer.append("lag", iteration, rows | {"log_relative_gradient_q50": rate * np.arange(25)})
                writer.flush()
            writer.close()
    return gf.open_sweep(folder)


@pytest.mark.parametrize("way", ["pandas", "polars", "duckdb", "xarray"])
def test_all_ways_give_the_same_numbers(example, sweep, way):
    if way in ("polars", "duckdb"):
        pytest.importorskip(way, reason=f"{way} is not installed")
    answer = example.WAYS[way](sweep)
    assert list(answer) == ["cell", "init", "first", "last"]
    found = {(row.cell, row.init): (row.first, row.last) for row in answer.itertuples()}
    assert found.keys() == RATES.keys()
    for setting, rates in RATES.items():
        assert found[setting] == pytest.approx([20 * (rate + 0.015) for rate in rates], rel=1e-5)


def test_every_way_is_asked(example):
    assert list(example.WAYS) == ["pandas", "polars", "duckdb", "xarray"]
