"""What a run came to: its final test result, when it solved its task, whether it learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.modules import check_run
from gradflow.analysis.runs import Run, chance, once, scalar_columns
from gradflow.analysis.settings import group, value_of
from gradflow.checks import real_number, whole_number

FINAL = ("test_accuracy", "test_loss")
"""What a task is judged by at the end; see :func:`judged_by`."""


CLEARLY_BELOW = 0.9  # of a constant answer's loss: by which a test set of some hundred examples cannot deceive


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in n trials (Wilson 1927, JASA 22, 209-212).

    Raises:
        ValueError: The share is not from 0 to 1, n no number of trials, or z not positive.

    Example:
        >>> [round(bound, 3) for bound in wilson_interval(0.5, 1000)]
        [0.469, 0.531]
    """
    share, n, z = real_number("share", share, least=0, most=1), whole_number("n", n, 1), real_number("z", z, above=0)
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def final_accuracy(run: Run) -> tuple[float, float, float]:
    """The last test accuracy measured, and Wilson's 95 % interval over the test set; NaN where there is none."""
    measured = measurements(run, "test_accuracy")
    size = value_of(group(run.config or {}, "data"), "test_size", int, 0)
    if measured.empty:
        return float("nan"), float("nan"), float("nan")
    value = float(measured.iloc[-1])
    if not (isinstance(size, int) and size > 0 and 0 <= value <= 1):
        return value, float("nan"), float("nan")
    return value, *wilson_interval(value, size)


def solved_at(run: Run) -> int | None:
    """The iteration of the first evaluation on the test set that met the criterion of the task; None if none did.

    A run counts whatever became of it afterwards; one that was evaluated never or has no criterion did not solve it.
    """
    check_run(run)
    success = criterion(run)
    if not success:
        return None
    values, threshold = measurements(run, success["quantity"]), success["threshold"]
    better = values >= threshold if success["quantity"] == "test_accuracy" else values <= threshold
    return int(better.index[better][0]) if better.any() else None


def criterion(run: Run) -> Mapping[str, Any]:
    """What a run must come to to have solved its task, `quantity` and `threshold`; empty where the log has none."""
    success = run.meta.get("success")
    if not isinstance(success, Mapping) or success.get("quantity") not in FINAL:
        return {}
    return success if np.isfinite(value_of(success, "threshold", float, np.nan)) else {}


def measurements(run: Run, quantity: str) -> pd.Series:
    """One of the scalars, by iteration, where it was measured; empty if it was not."""
    return once(run, ("measurements", quantity), lambda run: _measurements(run, quantity))


def _measurements(run: Run, quantity: str) -> pd.Series:
    if quantity not in run.columns["scalars"]:
        return pd.Series(dtype=float)
    iteration, values = scalar_columns(run, quantity)
    there = ~np.isnan(values)
    return pd.Series(values[there], pd.Index(iteration[there], name="iteration"), name=quantity)


def last_measured(run: Run, quantity: str) -> float:
    """The last value of one of the scalars; NaN where there is none."""
    if quantity not in run.columns["scalars"]:
        return float("nan")
    _, values = scalar_columns(run, quantity)
    there = np.flatnonzero(~np.isnan(values))
    return float(values[there[-1]]) if len(there) else float("nan")


def judged_by(run: Run) -> str:
    """What the task's criterion is about: `test_loss` where values are asked for, else `test_accuracy`."""
    return criterion(run).get("quantity", "test_accuracy")


def final_result(run: Run, quantity: str) -> tuple[float, float, float]:
    """The last test accuracy, as :func:`final_accuracy`, or the last test loss, which has no interval."""
    if quantity == "test_accuracy":
        return final_accuracy(run)
    measured = measurements(run, quantity)
    return float(measured.iloc[-1]) if len(measured) else float("nan"), float("nan"), float("nan")


def has_learned(run: Run) -> float:
    """Whether the final test result is beyond chance (training loss may fall without that); see :func:`beat_chance`.

    1 or 0, and NaN where the log does not know what chance is.
    """
    quantity = judged_by(run)
    value, low, high = final_result(run, quantity)
    accuracy, loss = chance(run)
    if np.isnan(loss if quantity == "test_loss" else accuracy):
        return float("nan")
    row = {"quantity": quantity, "value": value, "low": low, "high": high}
    return float(beat_chance(pd.DataFrame([row | {"chance_accuracy": accuracy, "chance_loss": loss}])).iloc[0])


def beat_chance(final: pd.DataFrame) -> pd.Series:
    """Of each final result whether its whole interval lies above chance; of a loss, a tenth below that of a constant.

    Args:
        final: Columns quantity, value, low, high, chance_accuracy and chance_loss, as in :func:`comparison`.
    """
    worst = final["high"].fillna(final["value"])
    below = worst < CLEARLY_BELOW * final["chance_loss"]
    return below.where(final["quantity"] == "test_loss", final["low"] > final["chance_accuracy"])
