"""Runs in the order of what they achieved."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.results import final_accuracy, solved_at
from gradflow.analysis.runs import IDENTITY, Run, binned, collect, runs_of
from gradflow.checks import require

BEST = {"accuracy": "highest", "loss": "lowest", "solved_at": "lowest"}
"""What runs are ranked by, and which is best."""

_BROKEN = ("diverged", "failed", "lost")


def ranking(source: Any, by: str = "accuracy") -> pd.DataFrame:
    """A row per run, the best first.

    Args:
        source: A run, a sweep, or a sequence of runs, whatever became of them.
        by: `accuracy` (the last on the test set), `loss` (of training, the median over the last sixtieth of the
            iterations) or `solved_at` (the first iteration at which the criterion of the task was met on the test set).

    Returns:
        The columns IDENTITY, rank (from 1; equal runs share the better one), status, iteration (the last in the log),
        accuracy, loss, solved_at. Runs without the number come last without a rank; so do those that diverged, failed
        or were lost, unless they had solved the task.

    Raises:
        ValueError: `by` is none of these.
    """
    require(isinstance(by, str) and by in BEST, "by", f"one of {', '.join(BEST)}", by)
    data = collect([(run, _achieved(run)) for run in runs_of(source)])
    counted = data[by].where(np.isfinite(data[by]))
    if by != "solved_at":
        counted = counted.mask(data["status"].isin(_BROKEN))
    rank = counted.rank(method="min", ascending=BEST[by] == "lowest").astype("Int64")
    data.insert(len(IDENTITY), "rank", rank)
    return data.sort_values("rank", kind="stable", na_position="last", ignore_index=True)


def _achieved(run: Run) -> pd.DataFrame:
    losses, solved = run.frame("scalars", columns=["loss"]).set_index("iteration")["loss"], solved_at(run)
    last = binned(losses, points=60)["value"]
    row = {"status": run.status, "iteration": losses.index.max() if len(losses) else -1}
    row |= {"accuracy": final_accuracy(run)[0], "loss": last.iloc[-1] if len(last) else float("nan")}
    return pd.DataFrame([row | {"solved_at": float("nan") if solved is None else float(solved)}])
