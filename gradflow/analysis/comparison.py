"""Which cells learned: final test accuracy and loss of every setting."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY, Run, binned, chance, claim, collect, curve_name, runs_of, started

_SETTING = [name for name in IDENTITY if name != "seed"]
_BROKEN = ["failed", "lost", "diverged", "interrupted", "running"]  # worst first


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
    size = run.config.get("data", {}).get("test_size")
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


def has_learned(run: Run) -> bool:
    """Whether the whole interval of the final test accuracy lies above chance (training loss may fall without that)."""
    return final_accuracy(run)[1] > chance(run)[0]


def comparison(source: Any) -> pd.DataFrame:
    """Final test accuracy and training loss of every setting, over its seeds.

    Args:
        source: A run, a sweep, or a sequence of runs; they may have failed, diverged or still be running.

    Returns:
        The columns IDENTITY (`seed` is the number of seeds), status (the worst over seeds), quantity, iteration, value,
        low, high, chance_accuracy, chance_loss. One row of quantity `test_accuracy` per setting: the last one
        measured, with Wilson's 95 % interval over the test set for a single seed, else mean and range over seeds.
        Rows of quantity `loss`: training loss, median over a bin of iterations, then median and range over seeds (NaN
        for a single one). :func:`over_seeds` of :func:`ranking` gives confidence intervals instead of ranges.

    Raises:
        ValueError: No run recorded scalars.
    """
    runs = runs_of(source)
    accuracy = collect([(run, _accuracy(run)) for run in runs])
    loss = collect([(run, _loss(run)) for run in started(runs)])
    accuracy = pd.DataFrame([_over_seeds(group) for _, group in accuracy.groupby(_SETTING, sort=False, dropna=False)])
    by = [*_SETTING, "iteration"]
    groups = loss.groupby(by, sort=False, dropna=False)
    loss = (
        groups["value"].agg(value="median", low="min", high="max").assign(seed=groups["seed"].nunique()).reset_index()
    )
    loss[["low", "high"]] = loss[["low", "high"]].where(loss["seed"] > 1)
    data = pd.concat([accuracy, loss.assign(quantity="loss")], ignore_index=True)
    data[["chance_accuracy", "chance_loss"]] = np.fmax.reduce([chance(run) for run in runs])
    return data[
        [*IDENTITY, "status", "quantity", "iteration", "value", "low", "high", "chance_accuracy", "chance_loss"]
    ]


def _accuracy(run: Run) -> pd.DataFrame:
    value, low, high = final_accuracy(run)
    iteration = run.scalars.index.max() if len(run.scalars) else -1
    return pd.DataFrame([{"iteration": iteration, "value": value, "low": low, "high": high, "status": run.status}])


def _loss(run: Run) -> pd.DataFrame:
    return binned(run.scalars["loss"], points=60)[["iteration", "value"]]


def _over_seeds(group: pd.DataFrame) -> pd.Series:
    row = group.iloc[0].copy()
    row["quantity"], row["seed"] = "test_accuracy", group["seed"].nunique()
    row["status"] = min(group["status"], key=lambda s: _BROKEN.index(s) if s in _BROKEN else len(_BROKEN))
    if len(group) > 1:
        values = group["value"]
        row["value"], row["low"], row["high"] = values.mean(), values.min(), values.max()
        row["iteration"] = group["iteration"].min()
    return row


def comparison_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Which settings learned: the whole interval of their test accuracy lies above chance."""
    final = data[(data["quantity"] == "test_accuracy") & data["value"].notna()]
    if final.empty:
        return []
    best, chance = final.nlargest(1, "value").iloc[0], final["chance_accuracy"].iloc[0]
    if np.isnan(chance):
        return [claim("best_accuracy", best["value"], "a number", True, curve=curve_name(best))]
    learned = final[final["low"] > chance]
    stuck = final[~(final["low"] > chance)]
    details = {"total": len(final), "chance": chance, "best": best["value"], "curve": curve_name(best)}
    details |= {"learned": _names(learned), "stuck": _names(stuck)}
    return [claim("learned", len(learned), "> 0", len(learned) > 0, **details)]


def _names(final: pd.DataFrame) -> list[dict[str, str]]:
    return [curve_name(row) for _, row in final.drop_duplicates(["cell", "start"]).iterrows()]
