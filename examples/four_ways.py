"""One question to one log, in pandas, polars, DuckDB's SQL and xarray, with the same answer.

    python examples/four_ways.py [FOLDER]

How much gradient comes back 20 steps, by cell and initialisation, before training and after it? Median over examples,
then over seeds. pandas and xarray get labelled tables from gradflow; polars and DuckDB read the Parquet files as they
are (of runs that have ended: files of one that goes on may vanish into larger ones), and are left out where they are
not installed. If there is no FOLDER a small sweep is recorded there first.
"""

import os
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc

import gradflow as gf
from gradflow.runlog import Sweep

ITERATIONS = int(os.environ.get("ITERATIONS", 100))
CELLS, INITS, SEEDS = ("RNN", "LSTM"), ("default", "remember"), range(3)
STEPS, BATCH_SIZE, HIDDEN_SIZE = 25, 32, 32
MEDIAN, LAG = "log_relative_gradient_q50", 20
PARTS = "**/gradients/lag/*.parquet"


def with_pandas(sweep: Sweep) -> pd.DataFrame:
    """Only the rows of one lag, only one column of values: `where` and `columns` decide what is read."""
    frame = sweep.frame("lag", columns=[MEDIAN], params=["cell", "init"], where=pc.field("lag") == LAG)
    iterations = frame.groupby("run")["iteration"]
    ends = {"first": iterations.transform("min"), "last": iterations.transform("max")}
    groups = {
        name: frame[frame["iteration"] == end].groupby(["cell", "init"])[MEDIAN].median() for name, end in ends.items()
    }
    return pd.DataFrame(groups).reset_index()


def with_polars(sweep: Sweep) -> pd.DataFrame:
    """A lazy query over the files; their paths say which run they are of, the table of runs says its settings."""
    import polars as pl

    runs = pl.DataFrame(sweep.runs[["path", "cell", "init"]].to_dict("list")).lazy()
    rows = pl.scan_parquet(f"{sweep.path}/{PARTS}", include_file_paths="path", extra_columns="ignore")
    ends = [
        pl.col(MEDIAN).sort_by("iteration").first().alias("first"),
        pl.col(MEDIAN).sort_by("iteration").last().alias("last"),
    ]
    by_run = (
        rows.filter(pl.col("lag") == LAG)
        .with_columns(pl.col("path").str.replace(r"/gradients/lag/[^/]*$", ""))
        .group_by("path")
        .agg(ends)
    )
    by_setting = by_run.join(runs, on="path").group_by("cell", "init").agg(pl.median("first", "last"))
    return pd.DataFrame(by_setting.sort("cell", "init").collect().to_dict(as_series=False))


def with_duckdb(sweep: Sweep) -> pd.DataFrame:
    """SQL over the files; `runs` is the table of runs."""
    import duckdb

    query = f"""
        WITH by_run AS (
            SELECT regexp_replace(filename, '/gradients/lag/[^/]*$', '') AS path,
                   arg_min({MEDIAN}, iteration) AS first,
                   arg_max({MEDIAN}, iteration) AS last
            FROM read_parquet('{sweep.path}/{PARTS}', filename = true, union_by_name = true)
            WHERE lag = {LAG}
            GROUP BY 1
        )
        SELECT cell, init, median(first) AS first, median(last) AS last
        FROM by_run JOIN runs USING (path)
        GROUP BY cell, init
        ORDER BY cell, init
    """
    with duckdb.connect() as connection:
        connection.register("runs", sweep.runs[["path", "cell", "init"]])
        return connection.sql(query).df()


def with_xarray(sweep: Sweep) -> pd.DataFrame:
    """Labelled dimensions; where a run recorded no such iteration the value is missing."""
    dataset = sweep.dataset("lag", [MEDIAN], ["cell", "init"], where=pc.field("lag") == LAG)
    values = dataset[MEDIAN].squeeze(["lag", "module", "call", "layer", "direction"], drop=True)
    there = values.notnull()
    ends = {"first": there.argmax("iteration"), "last": there.cumsum("iteration").argmax("iteration")}
    groups = {
        name: values.isel(iteration=end).set_index(run=["cell", "init"]).groupby("run").median().to_series()
        for name, end in ends.items()
    }
    return pd.DataFrame(groups).rename_axis(["cell", "init"]).reset_index()


WAYS = {"pandas": with_pandas, "polars": with_polars, "duckdb": with_duckdb, "xarray": with_xarray}


def record_sweep(folder: Path) -> None:
    """Small networks that are to tell the sign of the first of 25 numbers."""
    import torch
    from torch import nn

    for cell in CELLS:
        for init in INITS:
            for seed in SEEDS:
                torch.manual_seed(seed)
                layer, read_out = getattr(nn, cell)(1, HIDDEN_SIZE), nn.Linear(HIDDEN_SIZE, 2)
                gf.initialise_(layer, init)
                model = nn.ModuleList([layer, read_out])
                optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
                config = {"cell": {"name": cell}, "init": {"name": init}, "seed": seed}
                with gf.record(model, folder / f"{cell}-{init}-{seed}", config=config, seed=seed) as recorder:
                    for _ in range(ITERATIONS):
                        x = torch.randn(STEPS, BATCH_SIZE, 1)
                        scores = read_out(layer(x)[0][-1])
                        loss = nn.functional.cross_entropy(scores, (x[0, :, 0] > 0).long())
                        optimizer.zero_grad()
                        loss.backward()
                        recorder.step(loss.item())
                        optimizer.step()


def main() -> None:
    """Record if need be, then ask."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else f"outputs/four_ways/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    if not folder.exists():
        print(f"There is no {folder}: a small sweep is recorded there first ...", flush=True)
        record_sweep(folder)
    sweep = gf.open_sweep(folder)
    if sweep.frame("lag", columns=[MEDIAN], where=pc.field("lag") == LAG).empty:
        sys.exit(
            f"FOLDER: expected sequences of more than {LAG} steps, got none; set LAG at the top of this script lower"
        )
    print(f"The log is in {folder}: {len(sweep.members)} runs. ln of the gradient at lag {LAG} over that at lag 0:")
    for name, way in WAYS.items():
        start = time.perf_counter()
        try:
            answer = way(sweep)
        except ModuleNotFoundError as error:
            print(f"\n{name}: left out, {error.name} is not installed")
            continue
        print(f"\n{name}, {time.perf_counter() - start:.2f} s\n{answer.to_string(index=False, float_format='%.3f')}")


if __name__ == "__main__":
    main()
