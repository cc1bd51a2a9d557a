"""How runs ended: in one line, and as a table with a row per run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradflow as gf
from gradflow.commands.sweeping.standing import DONE, standing
from gradflow.foreign import printable

if TYPE_CHECKING:
    import pandas as pd

    from gradflow.runlog import Run, Sweep

COLUMNS = {"test_accuracy": "test accuracy", "test_loss": "test loss", "wall_time": "seconds"}
LONGEST = {"run": 255}  # characters of a folder's name in the table
LONGEST_ERROR = 60  # characters in the table; the run's status.json has it all


def summary(run: Run) -> dict[str, object]:
    """Status, iterations and proof of a run, the last test accuracy, loss and seconds, and when it solved its task."""
    try:
        return _summary(run)
    except gf.runlog.Unreadable:
        unknown = dict.fromkeys(COLUMNS.values(), float("nan"))
        return {"status": "unreadable", "iterations": 0, "proof": "unproved", **unknown, "solved at": ""}


def _summary(run: Run) -> dict[str, object]:
    from gradflow.analysis.results import last_measured

    last = {name: last_measured(run, column) for column, name in COLUMNS.items()}
    solved = gf.analysis.solved_at(run)
    return {
        "status": standing(run.path) if run.status == "running" else run.status,
        "iterations": run.table("scalars", []).num_rows,
        "proof": run.proof,
        **last,
        "solved at": "" if solved is None else solved,
    }


def describe(run: Run) -> str:
    """How a run ended, such as `finished, 500 iterations, test accuracy 0.930, 3.1 s`, or its error."""
    try:
        return _described(run)
    except gf.runlog.Unreadable as damage:
        return f"unreadable: {damage}"


def _described(run: Run) -> str:
    if run.error:
        return f"{run.status}: {printable(run.error)}"
    values = _summary(run)
    if values["status"] == "lost":
        return (
            f"lost: its process ended without a word (killed? out of memory? disk full?), "
            f"{values['iterations']} iterations can be read"
        )
    proof = ", proof of the record failed" if values["proof"] == "failed" else ""
    return (
        f"{values['status']}, {values['iterations']} iterations, "
        f"test accuracy {values['test accuracy']:.3f}, {values['seconds']:.1f} s{proof}"
    )


def table(sweep: Sweep) -> pd.DataFrame:
    """A row per run, sorted: the settings that vary (the run's folder, if none do), how it ended, and any error."""
    import pandas as pd

    runs = sweep.runs
    settings = runs.drop(columns=["path", "status", "iteration", "proof", "error"])
    if len(settings.columns) > 1:
        settings = settings.drop(columns="run")
    ends = pd.DataFrame([summary(run) for run in sweep.members])
    errors = runs["error"].fillna("").map(_shortened)
    settings = settings.rename(columns={name: f"{name} (set)" for name in [*ends, "error"]})
    rows = settings.join(ends)
    return (rows.join(errors) if errors.any() else rows).sort_values([*settings.columns], key=_sortable)


def printed(table: pd.DataFrame) -> str:
    """The table as text."""
    shown = table.apply(lambda column: column.map(lambda value: _cell(value, LONGEST.get(column.name, LONGEST_ERROR))))
    shown = shown.rename(columns=lambda name: printable(str(name), LONGEST_ERROR))
    return shown.to_string(index=False, float_format="{:.3g}".format)


def _cell(value: Any, longest: int) -> Any:
    return printable(value, longest) if isinstance(value, str) else value


def not_done(sweep: Sweep) -> list[str]:
    """A line for each run that did not come to its end, and one that says how many are on their way."""
    statuses = {run: _status(run) for run in sweep.members}
    ended = [run for run, status in statuses.items() if status not in (*DONE, "running")]
    running = list(statuses.values()).count("running")
    lines = [f"{printable(str(run.path))}: {describe(run)}" for run in ended]
    return lines + [f"{running} of {len(sweep.members)} runs are still running"] * bool(running)


def not_proved(sweep: Sweep) -> list[str]:
    """A line if the proof of any record failed."""
    failed = [run.path for run in sweep.members if _proof(run) == "failed"]
    if not failed:
        return []
    return [
        f"proof of the record failed for {len(failed)} of {len(sweep.members)} runs: gradients may be wrong; "
        f"which: gradflow.open_run({str(failed[0])!r}).frame('proof')"
    ]


def _status(run: Run) -> str:
    try:
        run.table("scalars", [])
        return run.status
    except gf.runlog.Unreadable:
        return "unreadable"


def _proof(run: Run) -> str:
    try:
        return run.proof
    except gf.runlog.Unreadable:
        return "unproved"


def _sortable(column: pd.Series) -> pd.Series:
    """As it is, or as text where it holds several kinds of things."""
    return column if len({type(value) for value in column.dropna()}) <= 1 else column.map(str)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"
