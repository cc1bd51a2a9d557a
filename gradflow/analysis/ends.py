"""How a run ended, or how far it is: one reading of it for tables, pages and lines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gradflow.analysis.modules import check_run
from gradflow.analysis.results import last_measured, solved_at
from gradflow.analysis.runs import Run, once, scalar_columns
from gradflow.analysis.settings import group, value_of

MEASURED = ("loss", "test_accuracy", "test_loss", "wall_time")
"""Columns of the scalars of which the last value is told."""


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        status: As in :attr:`gradflow.runlog.Run.status`, or `unreadable`.
        iterations: How many are on disk.
        wanted: How many its settings ask for; None: they do not say.
        last: The last value of each of MEASURED; NaN where there is none.
        solved: The iteration at which the criterion of its task was met, None if it was not or there is none.
        proof: "proved", "unproved" or "failed".
        error: What went wrong, of an unreadable run with which file; empty if nothing did.
    """

    status: str
    iterations: int
    wanted: int | None
    last: Mapping[str, float]
    solved: int | None
    proof: str
    error: str


def ending(run: Run) -> Ending:
    """How a run ended, whatever became of it.

    Args:
        run: A run; of one with a damaged file the status is `unreadable`.
    """
    check_run(run)
    try:
        return once(run, "ending", _read)
    except ValueError as damage:
        return Ending("unreadable", 0, None, dict.fromkeys(MEASURED, math.nan), None, "unproved", str(damage))


def _read(run: Run) -> Ending:
    iterations, last = len(scalar_columns(run)[0]), {name: last_measured(run, name) for name in MEASURED}
    wanted = value_of(group(run.config or {}, "train"), "iterations", int, None)
    return Ending(run.status, iterations, wanted, last, solved_at(run), run.proof, run.error or "")
