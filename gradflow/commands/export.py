"""Writes the tables of a run or a sweep in formats of other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from gradflow.commands.columns import told
from gradflow.commands.words import OneOf, Words, runs_in

if TYPE_CHECKING:
    from gradflow.runlog import Run, Sweep

EXAMPLES = (
    "gradflow export outputs/train/DATE --format csv",
    "gradflow export outputs/compare/DATE --format netcdf --out tables",
    "gradflow export outputs/train/DATE --format tensorboard --out events     then: tensorboard --logdir events",
)


def csv(source: Run | Sweep) -> dict[str, bytes]:
    """A file for each table that has rows; of a sweep, its runs and their settings are columns."""
    from gradflow.figures.output import csv_of
    from gradflow.runlog.schema import TABLES

    frames = {table: source.frame(table) for table in TABLES}
    return {f"{table}.csv": csv_of(frame) for table, frame in frames.items() if len(frame)}


def netcdf(source: Run | Sweep) -> dict[str, bytes]:
    """A file (netCDF-3) for each table that has rows, with units and long names; settings are an attribute in JSON."""
    from gradflow import __version__
    from gradflow.runlog.schema import TABLES

    files = {}
    for table in TABLES:
        dataset = source.dataset(table)
        if all(dataset.sizes.values()):
            settings = json.dumps(getattr(source, "config", {}), ensure_ascii=False)
            dataset.attrs = {"source": f"gradflow {__version__}", "table": table, "settings": settings}
            files[f"{table}.nc"] = bytes(dataset.to_netcdf(engine="scipy"))
    return files


def tensorboard(source: Run | Sweep) -> dict[str, bytes]:
    """The scalars as TensorBoard's events: one file, of a sweep one in the folder of each run."""
    from gradflow.adapters.tensorboard import write_scalars

    members = {"": source} if hasattr(source, "scalars") else dict(zip(source.runs["run"], source.members, strict=True))
    files = {}
    for name, run in members.items():
        scalars = run.scalars.drop(columns="wall_time")
        try:
            began = datetime.fromisoformat(run.meta.get("created", "")).timestamp()
        except ValueError:
            began = 0.0
        times = began + run.scalars["wall_time"].fillna(0.0)
        rows = zip(scalars.index, times, scalars.to_dict("records"), strict=True)
        with TemporaryDirectory(prefix="gradflow-") as folder:
            write_scalars(rows, folder)
            [events] = Path(folder).iterdir()
            files[str(Path(name) / "events.out.tfevents.gradflow")] = events.read_bytes()
    return files


FORMATS: dict[str, Callable[[Run | Sweep], dict[str, bytes]]] = {
    "csv": csv,
    "netcdf": netcdf,
    "tensorboard": tensorboard,
}


def opened(path: Path) -> Run | Sweep:
    """The run in a folder, or the readable ones below it."""
    import gradflow as gf
    from gradflow.runlog.reader import is_run

    return gf.open_run(path) if is_run(path) else gf.open_sweep(path).readable


def place(out: str, source: Path, kind: str) -> Path:
    """Where the files go: the folder that was asked for, or `export/FORMAT` in that of the runs.

    Raises:
        ValueError: A link there leads elsewhere: whoever made the runs is not to choose where files are written.
    """
    folder = source / "export" / kind
    for each in (folder.parent, folder):
        if not out and each.is_symlink():
            raise ValueError(f"out: expected a folder for the files, got the link {each}; choose one by out=FOLDER")
    return Path(out) if out else folder


@click.command("export", cls=Words, examples=EXAMPLES)
@runs_in("path")
@click.option("--format", type=OneOf(tuple(FORMATS)), required=True, help="What to write.")
@click.option("--out", default="", help="Folder that files go to; export/FORMAT in that of the runs, if left out.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(path: str, format: str, out: str, force: bool) -> None:
    """Write the tables of a run or of a sweep: a CSV or netCDF file for each, or scalars for TensorBoard.

    All files are written, or none. netCDF is what `run.dataset(table)` gives, with units; TensorBoard needs the extra
    `tensorboard`.
    """
    from gradflow.files import write_files

    try:
        folder = place(out, Path(path), format)
        files = {folder / name: content for name, content in FORMATS[format](opened(Path(path))).items()}
        there = [file for file in files if file.exists()]
        if there and not force:
            raise ValueError(f"out: expected a folder without {there[0].name}, got {folder}; --force replaces it")
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        write_files(files)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(told(error))
    for file in files:
        print(told(ValueError(str(file))))
