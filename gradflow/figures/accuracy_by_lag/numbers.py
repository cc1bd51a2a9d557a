"""Up to which distance each setting learns, and whether its gradient before training had said so."""

from collections import Counter
from typing import Any

import pandas as pd

from gradflow.analysis.by_lag import LAG_COLUMNS, factor_per_step, lag_gradient
from gradflow.analysis.reach import CURVE, by_curve, horizon, what_decides
from gradflow.analysis.results import criterion, final_result, judged_by, solved_at, wilson_interval
from gradflow.analysis.runs import IDENTITY, Run, chance, claim, identity, recorded, runs_of

QUANTITIES = ("success", "accuracy", "loss")


FEWEST_SEEDS = 3  # of which a success rate says something
FEWEST_LAGS = 4  # of which a curve does


def accuracy_by_lag(source: Any, quantity: str | None = None) -> pd.DataFrame:
    """How well each setting does over the distance to what must be remembered.

    Args:
        source: A sweep or a sequence of runs of one task at several lengths.
        quantity: `success`, the share of the seeds that met the criterion of the task at any evaluation, with Wilson's
            95 % interval; `accuracy` on the test set at the end, mean over seeds, from the lower end of Wilson's
            interval of the worst of them to the upper end of the best; or `loss` there, mean over seeds with their
            range. Runs that diverged, failed or were lost solved nothing unless they had before, and have no accuracy
            or loss. None: `success` where the task has a criterion and every setting three seeds or more, else
            `accuracy`, or `loss` where the task asks for values.

    Returns:
        The columns IDENTITY (`seed` is the number of seeds), lag (steps from the first input to the last, of a roll
        call the median), quantity, value, low, high, chance, iterations (largest number), factor and horizon (of the
        gradient per step back before training, see :func:`horizon`; median over seeds and lags; NaN where nothing was
        recorded). A row per curve and lag.

    Raises:
        ValueError: An unknown quantity, or no run has got anywhere.
    """
    runs = [run for run in runs_of(source) if len(run.scalars)]
    if quantity is None:
        settings = Counter(tuple(str(v) for k, v in identity(run).items() if k != "seed") for run in runs)
        judged = all(criterion(run) for run in runs) and min(settings.values(), default=0) >= FEWEST_SEEDS
        values = {judged_by(run) for run in runs} == {"test_loss"}
        quantity = "success" if judged else "loss" if values else "accuracy"
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity: expected one of {', '.join(QUANTITIES)}, got {quantity!r}")
    rows = pd.DataFrame([_row(run, quantity) for run in runs])
    if rows.empty:
        raise ValueError("source: expected runs with evaluations, got none that has recorded anything yet")
    by = [name for name in IDENTITY if name != "seed"]
    data = pd.DataFrame([_over_seeds(group, quantity) for _, group in rows.groupby(by, sort=False, dropna=False)])
    factors = data.groupby(CURVE, sort=False, dropna=False)["factor"].transform("median")
    data = data.assign(quantity=quantity, factor=factors, horizon=[horizon(factor) for factor in factors])
    columns = ["lag", "quantity", "value", "low", "high", "chance", "iterations", "factor", "horizon"]
    return data[[*IDENTITY, *columns]].reset_index(drop=True)


def _row(run: Run, quantity: str) -> dict[str, Any]:
    lags, factor = _lags_and_factor(run)
    values, ignorant = _outcome(run, quantity)
    if run.status in ("failed", "lost", "diverged") and quantity != "success":
        values = (float("nan"),) * 3
    row = identity(run)
    return {
        **row,
        "lag": row["length"] - 1 if row["length"] else lags,
        **dict(zip(("value", "low", "high"), values, strict=True)),
        "chance": ignorant,
        "factor": factor,
        "iterations": len(run.scalars),
    }


def _outcome(run: Run, quantity: str) -> tuple[tuple[float, float, float], float]:
    """The quantity of one run with its interval, and what a network that does not look at its input has."""
    accuracy, loss = chance(run)
    if quantity == "success":
        return (float(solved_at(run) is not None),) * 3, float("nan")
    if quantity == "accuracy":
        return final_result(run, "test_accuracy"), accuracy
    return final_result(run, "test_loss")[:1] * 3, loss


def _lags_and_factor(run: Run) -> tuple[float, float]:
    """Median number of steps back to the first input, and the factor per step, at the first recorded iteration."""
    try:
        [(_, frame)] = recorded(run, "lag", LAG_COLUMNS)
    except ValueError:
        return float("nan"), float("nan")
    first = frame[frame["iteration"] == frame["iteration"].min()]
    reached = first.loc[first["valid"] >= first["valid"].max() / 2, "lag"].max()
    curve = lag_gradient(first)
    return float(reached), factor_per_step(curve["lag"].to_numpy(), curve["log_median"].to_numpy())


def _over_seeds(group: pd.DataFrame, quantity: str) -> pd.Series:
    row, values = group.iloc[0].copy(), group["value"]
    row["seed"], row["iterations"] = len(group), group["iterations"].max()
    row["lag"], row["chance"], row["factor"] = (group[name].median() for name in ("lag", "chance", "factor"))
    row["value"] = values.mean()
    row["low"], row["high"] = (
        wilson_interval(values.mean(), len(values))
        if quantity == "success"
        else (group["low"].min(), group["high"].max())
    )
    return row


def accuracy_by_lag_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """What decides how far a network learns (:func:`gradflow.analysis.reach.what_decides`).

    Then whether anything does better at a longer lag than its interval allows.
    """
    rises = max((_largest_rise(group) for _, group in by_curve(data)), default=0.0)
    falls = claim("falls_with_lag", rises, "<= 0, beyond the intervals", rises <= 0)
    return [*filter(None, [what_decides(data)]), falls]


def accuracy_by_lag_lacks(data: pd.DataFrame) -> str:
    """Of few lags there is no curve to speak of."""
    lags = data["lag"].nunique()
    return f"lag: expected {FEWEST_LAGS} or more for a curve, got {lags}" if lags < FEWEST_LAGS else ""


def _largest_rise(curve: pd.DataFrame) -> float:
    """How far the interval of a longer lag lies above that of a shorter one, at most."""
    curve = curve.sort_values("lag")
    if curve["quantity"].iloc[0] == "loss":
        return 0.0
    ceiling = curve["high"].cummin().shift()
    return float((curve["low"] - ceiling).max()) if len(curve) > 1 else 0.0
