"""How runs ended: in one line, and as a table with a row per run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradflow as gf
from gradflow.commands.sweeping.standing import DONE, standing
from gradflow.foreign import printable, printable_lines

if TYPE_CHECKING:
    import pandas as pd

    from gradflow.analysis.ends import Ending
    from gradflow.runlog import Run, Sweep

COLUMNS = {"test_accuracy": "test accuracy", "test_loss": "test loss", "wall_time": "seconds"}
LONGEST = {"run": 255}  # characters of a folder's name in the table
LONGEST_ERROR = 60  # characters in the table; the run's status.json has it all


def end_of(run: Run) -> Ending:
    """How a run ended; one that says `running` under the number of this process, which does not hold it, is lost."""
    end = gf.analysis.ending(run)
    return replace(end, status=standing(run.path) or end.status) if end.status == "running" else end


def _cells(end: Ending) -> dict[str, object]:
    """Status, iterations and proof of a run, the last test accuracy, loss and seconds, and when it solved its task."""
    last = {name: end.last[column] for column, name in COLUMNS.items()}
    solved = "" if end.solved is None else end.solved
    return {"status": end.status, "iterations": end.iterations, "proof": end.proof, **last, "solved at": solved}


def describe(run: Run) -> str:
    """How a run ended, such as `finished, 500 iterations, test accuracy 0.930, 3.1 s`, or its error."""
    return _described(end_of(run))


def _described(end: Ending) -> str:
    if end.error:
        return f"{end.status}: {printable_lines(end.error)}"
    if end.status == "lost":
        return (
            f"lost: its process ended without a word (killed? out of memory? disk full?), "
            f"{end.iterations} iterations can be read"
        )
    known = {name: value for name, value in end.last.items() if not math.isnan(value)}
    result = next((name for name in ("test_accuracy", "test_loss") if name in known), None)
    words = [end.status, progress(end), *([f"{COLUMNS[result]} {known[result]:.3f}"] if result else [])]
    words += [f"{known['wall_time']:.1f} s"] if "wall_time" in known else []
    return ", ".join(words + ["proof of the record failed"] * (end.proof == "failed"))


def progress(end: Ending) -> str:
    """How far a run is, such as `120 of 500 iterations`; of one that came to its end, how far that was."""
    whole = end.wanted is None or end.iterations >= end.wanted
    return f"{end.iterations:,} iterations" if whole else f"{end.iterations:,} of {end.wanted:,} iterations"


def table(sweep: Sweep) -> pd.DataFrame:
    """A row per run, sorted: the settings that vary (the run's folder, if none do), how it ended, and any error."""
    import pandas as pd

    runs = sweep.runs
    settings = runs.drop(columns=["path", "status", "iteration", "proof", "error"])
    if len(settings.columns) > 1:
        settings = settings.drop(columns="run")
    ends = pd.DataFrame([_cells(end_of(run)) for run in sweep.members])
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
    ends = {run: end_of(run) for run in sweep.members}
    ended = {run: end for run, end in ends.items() if end.status not in (*DONE, "running")}
    running = sum(end.status == "running" for end in ends.values())
    lines = [f"{printable(str(run.path))}: {_described(end)}" for run, end in ended.items()]
    return lines + [f"{running} of {len(sweep.members)} runs are still running"] * bool(running)


def not_proved(sweep: Sweep) -> list[str]:
    """A line if the proof of any record failed."""
    failed = [run.path for run in sweep.members if end_of(run).proof == "failed"]
    if not failed:
        return []
    return [
        f"proof of the record failed for {len(failed)} of {len(sweep.members)} runs: gradients may be wrong; "
        f"which: gradflow.open_run({str(failed[0])!r}).frame('proof')"
    ]


def _sortable(column: pd.Series) -> pd.Series:
    """As it is, or as text where it holds several kinds of things."""
    return column if len({type(value) for value in column.dropna()}) <= 1 else column.map(str)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"
