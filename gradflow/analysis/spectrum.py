"""The recurrent weights of one gate in the log, and their largest singular value."""

import pandas as pd

from gradflow.analysis.runs import Run, recorded
from gradflow.cells.facts import CANDIDATE_GATES
from gradflow.checks import require


def of_gate(frame: pd.DataFrame, gate: str | None = None) -> pd.DataFrame:
    """The rows of one gate out of rows of the `spectrum` table; None is the candidate, or the only matrix.

    Raises:
        ValueError: The gate is not there.
    """
    gates = list(frame["gate"].unique())
    wanted = gate or next((name for name in CANDIDATE_GATES if name in gates), gates[0])  # stacked they say nothing
    require(isinstance(wanted, str) and wanted in gates, "gate", f"one of {gates}", wanted)
    return frame[frame["gate"] == wanted]


def largest_singular_value(run: Run, *, layer: int | None = None, direction: int = 0) -> pd.Series:
    """The largest singular value of the recurrent weights (of a gated cell, of its candidate), by iteration recorded.

    Empty where none was recorded.
    """
    try:
        [(_, frame)] = recorded([run], "spectrum", ["singular_value"], layer=layer, direction=direction)
    except ValueError:
        return pd.Series(dtype=float)
    return of_gate(frame).groupby("iteration")["singular_value"].max()
