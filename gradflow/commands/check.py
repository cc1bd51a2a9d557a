"""Checks runs: is every file there and readable, are the rows complete, is the record proved?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradflow.commands.columns import told
from gradflow.commands.words import Words, runs_in

if TYPE_CHECKING:
    from gradflow.runlog import Run

OK, BAD, UNKNOWN = "ok", "wrong", "unknown"
EXAMPLES = ("gradflow check outputs/train/DATE", "gradflow check outputs/compare/DATE", "gradflow check outputs")
Row = tuple[str, str, str]
"""What was checked, how it is, and in words."""


def rows_of(run: Run) -> list[Row]:
    """A row for each thing that is checked of a run."""
    from gradflow.runlog.schema import TABLES

    checks: dict[str, Callable[[], tuple[str, str]]] = {
        "run.json": lambda: _description(run),
        "status.json": lambda: _status(run),
        **{f"table {table}": lambda table=table: _table(run, table) for table in TABLES},  # type: ignore[misc]
        "proof": lambda: _proof(run),
        "model.safetensors": lambda: _weights(run.path / "model.safetensors"),
        "vocabulary.json": lambda: _vocabulary(run.path / "vocabulary.json"),
    }
    rows = []
    for name, check in checks.items():
        if name.startswith(("model", "vocabulary")) and not (run.path / name).exists():
            continue  # of a script's own run there is none
        try:
            rows.append((name, *check()))
        except (ValueError, OSError) as error:
            rows.append((name, BAD, told(error)))
    return rows


def _description(run: Run) -> tuple[str, str]:
    from gradflow.runlog.schema import SCHEMA_VERSION

    version = run.meta.get("schema_version")
    if version is None:
        return BAD, "missing: the run ended before anything was recorded"
    by = run.meta.get("versions", {}).get("gradflow", "an unknown version")
    return OK, f"schema version {version} (this gradflow reads up to {SCHEMA_VERSION}), written by gradflow {by}"


def _status(run: Run) -> tuple[str, str]:
    status = run.status
    words = f"{status}: {run.error}" if run.error else status
    return (BAD if run.error or status in ("failed", "lost") else OK), words


def _table(run: Run, table: str) -> tuple[str, str]:
    """All of it is read, with its checksums; then the iterations that should be there are looked for."""
    rows = run.table(table)
    iterations = set(rows["iteration"].to_pylist())
    if not iterations:
        needed = table == "scalars"
        return (BAD if needed else OK), "no rows"
    missing = sorted(set(_due(run, table)) - iterations)
    count = f"{len(rows):,} rows of {len(iterations):,} iterations"
    if missing:
        return BAD, f"{count}; {len(missing):,} that were due are missing, the first is {missing[0]}"
    return OK, f"{count}, {min(iterations)} to {max(iterations)}"


def _due(run: Run, table: str) -> Iterator[int]:
    """The iterations of which a table should have rows, up to the last that is on disk."""
    last = max(run.table("scalars", [])["iteration"].to_pylist(), default=-1)
    every = {"scalars": 1, "spectrum": run.meta.get("spectrum_every")}.get(table, run.meta.get("every"))
    several = len(run.meta.get("optimizers", {})) > 1  # each step is of some layers only
    if table == "proof" or (several and table != "scalars") or run.status == "running":
        return
    if isinstance(every, int) and every > 0:
        yield from range(0, last + 1, every)
    elif isinstance(every, list):
        yield from (iteration for iteration in every if isinstance(iteration, int) and 0 <= iteration <= last)


def _proof(run: Run) -> tuple[str, str]:
    words = {
        "proved": (OK, "the recorded gradients are those of the training"),
        "failed": (BAD, "recorded gradients are not those of the training; frame('proof') says where"),
        "unproved": (UNKNOWN, "it was not asked of every layer, as in old logs and after divergence"),
    }
    return words[run.proof]


def _weights(file: Path) -> tuple[str, str]:
    from safetensors import SafetensorError, safe_open

    from gradflow.runlog.seal import check_weights

    try:
        check_weights(file.read_bytes())
        with safe_open(file, "numpy") as weights:
            return OK, f"{len(weights.keys())} tensors"
    except (SafetensorError, ValueError) as error:
        return BAD, f"{file}: expected weights in safetensors, got others ({error}); train the model anew"


def _vocabulary(file: Path) -> tuple[str, str]:
    json.loads(file.read_text(encoding="utf-8"))
    return OK, "readable"


def summary(rows: list[Row]) -> tuple[str, str]:
    """How the run as a whole is, in one word and a few."""
    verdicts = [verdict for _, verdict, _ in rows]
    worst = next((verdict for verdict in (BAD, UNKNOWN) if verdict in verdicts), OK)
    return worst, f"{verdicts.count(OK)} of {len(rows)} checks passed"


@click.command("check", cls=Words, examples=EXAMPLES)
@runs_in("path")
def command(path: str) -> None:
    """Check a run, or every run of a sweep: files readable, schema version, rows complete by schedule, proof.

    Of a single run there is a row for each thing checked; of a sweep a row for each run, and one for each thing that is
    not well. The exit status is 1 if something is wrong or unproved.
    """
    import gradflow as gf
    from gradflow.commands.terminal import print_rows

    try:
        runs = gf.open_sweep(Path(path)).members
    except (FileNotFoundError, ValueError) as error:
        sys.exit(told(error))
    found: dict[Any, list[Row]] = {run: rows_of(run) for run in runs}
    if len(runs) == 1:
        [rows] = found.values()
        print_rows((verdict, name, words) for name, verdict, words in rows)
    else:
        for run, rows in found.items():
            verdict, words = summary(rows)
            print_rows([(verdict, str(run.path), words)])
            print_rows(("", each, name, why) for name, each, why in rows if each != OK)
    if any(verdict != OK for rows in found.values() for _, verdict, _ in rows):
        sys.exit(1)
