"""Whether what a table shows can be believed: the proofs of the records behind it."""

from typing import Any

import pandas as pd

from gradflow.analysis.runs import UNNAMED, claim, identity, runs_of
from gradflow.checks import shown

RECORD_PROVED = "record_proved"


def proof_claims(source: Any, data: pd.DataFrame) -> list[dict[str, Any]]:
    """That no record behind a table failed its proof; nothing is claimed where that is so.

    Args:
        source: What the table was made of: a run, a sweep, or a sequence of runs.
        data: The table. Runs of cells that it does not show are passed over.

    Returns:
        Nothing, or one claim that does not hold: `value` runs out of `total` failed (see `run.proof`).
    """
    if "cell" not in getattr(data, "columns", ()):
        raise ValueError(f"data: expected the table of a figure, with a column cell, got {shown(data)}")
    cells = {UNNAMED, *data["cell"]}
    behind = [run for run in runs_of(source) if identity(run)["cell"] in cells]
    failed = sum(run.proof == "failed" for run in behind)
    return [claim(RECORD_PROVED, failed, "0", False, total=len(behind))] if failed else []
