"""What a run came to: its final test result, when it solved its task, whether it learned."""

import numpy as np
import pandas as pd

from gradflow.analysis.runs import Run, chance, setting

FINAL = ("test_accuracy", "test_loss")
"""What a task is judged by at the end; see :func:`judged_by`."""


CLEARLY_BELOW = 0.9  # of a constant answer's loss: by which a test set of some hundred examples cannot deceive


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in n trials (Wilson 1927, JASA 22, 209-212).

    Example:
        >>> [round(bound, 3) for bound in wilson_interval(0.5, 1000)]
        [0.469, 0.531]
    """
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def final_accuracy(run: Run) -> tuple[float, float, float]:
    """The last test accuracy measured, and Wilson's 95 % interval over the test set; NaN where there is none."""
    measured = _measured(run, "test_accuracy")
    size = setting(run.config, "data.test_size", 0)
    if measured.empty:
        return float("nan"), float("nan"), float("nan")
    value = float(measured.iloc[-1])
    return value, *(wilson_interval(value, size) if size else (float("nan"), float("nan")))


def solved_at(run: Run) -> int | None:
    """The iteration of the first evaluation on the test set that met the criterion of the task; None if none did.

    A run counts whatever became of it afterwards; one that was evaluated never or has no criterion did not solve it.
    """
    success = run.meta.get("success")
    if success is None:
        return None
    values = _measured(run, success["quantity"])
    better = (
        values >= success["threshold"] if success["quantity"] == "test_accuracy" else values <= success["threshold"]
    )
    return int(better.index[better][0]) if better.any() else None


def _measured(run: Run, quantity: str) -> pd.Series:
    """One of the scalars, by iteration, where it was measured; empty if it was not."""
    if quantity not in run.columns["scalars"]:
        return pd.Series(dtype=float)
    return run.frame("scalars", columns=[quantity]).set_index("iteration")[quantity].dropna()


def judged_by(run: Run) -> str:
    """What the task's criterion is about: `test_loss` where values are asked for, else `test_accuracy`."""
    return (run.meta.get("success") or {}).get("quantity", "test_accuracy")


def final_result(run: Run, quantity: str) -> tuple[float, float, float]:
    """The last test accuracy, as :func:`final_accuracy`, or the last test loss, which has no interval."""
    if quantity == "test_accuracy":
        return final_accuracy(run)
    measured = _measured(run, quantity)
    return float(measured.iloc[-1]) if len(measured) else float("nan"), float("nan"), float("nan")


def has_learned(run: Run) -> bool:
    """Whether the final test result is beyond chance (training loss may fall without that); see :func:`beat_chance`."""
    quantity = judged_by(run)
    value, low, high = final_result(run, quantity)
    accuracy, loss = chance(run)
    row = {"quantity": quantity, "value": value, "low": low, "high": high}
    return bool(beat_chance(pd.DataFrame([row | {"chance_accuracy": accuracy, "chance_loss": loss}])).iloc[0])


def beat_chance(final: pd.DataFrame) -> pd.Series:
    """Of each final result whether its whole interval lies above chance; of a loss, a tenth below that of a constant.

    Args:
        final: Columns quantity, value, low, high, chance_accuracy and chance_loss, as in :func:`comparison`.
    """
    worst = final["high"].fillna(final["value"])
    below = worst < CLEARLY_BELOW * final["chance_loss"]
    return below.where(final["quantity"] == "test_loss", final["low"] > final["chance_accuracy"])
