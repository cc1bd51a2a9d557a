"""Which cells learned: final test accuracy and loss of every setting."""

from math import ceil, floor, log10
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.results import (
    FINAL,
    beat_chance,
    final_result,
    judged_by,
)
from gradflow.analysis.runs import (
    IDENTITY,
    DoesNotApply,
    Run,
    binned_each,
    chance,
    claim,
    collect,
    curve_name,
    losses,
    runs_of,
    scalar_columns,
    started,
)

_SETTING = [name for name in IDENTITY if name != "seed"]


_BROKEN = ["failed", "lost", "diverged", "interrupted", "running"]  # worst first


def comparison(source: Any) -> pd.DataFrame:
    """Final test result and training loss of every setting, over its seeds.

    Args:
        source: A run, a sweep, or a sequence of runs; they may have failed, diverged or still be running.

    Returns:
        The columns IDENTITY (`seed` is the number of seeds), status (the worst over seeds), quantity, iteration, value,
        low, high, chance_accuracy, chance_loss. One row of quantity `test_accuracy` per setting: the last one
        measured, with Wilson's 95 % interval over the test set for a single seed, else mean and range over seeds;
        of tasks that ask for values `test_loss` in its place (NaN for the range of a single seed).
        Rows of quantity `loss`: training loss, median over a bin of iterations, then median and range over seeds (NaN
        for a single one). :func:`over_seeds` of :func:`ranking` gives confidence intervals instead of ranges.

    Raises:
        DoesNotApply: No run has a training loss or a test result.
        ValueError: No run recorded scalars.
    """
    runs = runs_of(source)
    quantity = max(judged_by(run) for run in runs)  # that of the runs which say so: others failed before
    ends = pd.DataFrame([_final(run, quantity) for run in runs])
    final = collect([(run, ends.iloc[[i]]) for i, run in enumerate(runs)])
    begun = started(runs)
    loss = collect(list(zip(begun, binned_each([losses(run) for run in begun], points=60), strict=True)))
    loss = loss.drop(columns="non_finite")
    if loss.empty and final["value"].isna().all():
        raise DoesNotApply(
            f"loss: expected a training loss or a {quantity} in the log, got neither in any run; give "
            f"recorder.step(loss), or the other by step(scalars=)"
        )
    final = pd.DataFrame([_over_seeds(group) for _, group in final.groupby(_SETTING, sort=False, dropna=False)])
    by = [*_SETTING, "iteration"]
    groups = loss.groupby(by, sort=False, dropna=False)
    loss = (
        groups["value"].agg(value="median", low="min", high="max").assign(seed=groups["seed"].nunique()).reset_index()
    )
    loss[["low", "high"]] = loss[["low", "high"]].where(loss["seed"] > 1)
    data = pd.concat([final, loss.assign(quantity="loss")], ignore_index=True)
    data[["chance_accuracy", "chance_loss"]] = np.fmax.reduce([chance(run) for run in runs])
    return data[
        [*IDENTITY, "status", "quantity", "iteration", "value", "low", "high", "chance_accuracy", "chance_loss"]
    ]


def _final(run: Run, quantity: str) -> dict[str, Any]:
    value, low, high = final_result(run, quantity)
    [iterations] = scalar_columns(run)
    row = {"quantity": quantity, "iteration": iterations.max(initial=-1), "value": value, "low": low, "high": high}
    return row | {"status": run.status}


def _over_seeds(group: pd.DataFrame) -> pd.Series:
    row = group.iloc[0].copy()
    row["seed"] = group["seed"].nunique()
    row["status"] = min(group["status"], key=lambda s: _BROKEN.index(s) if s in _BROKEN else len(_BROKEN))
    if len(group) > 1:
        values = group["value"]
        row["value"], row["low"], row["high"] = values.mean(), values.min(), values.max()
        row["iteration"] = group["iteration"].min()
    return row


def comparison_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Which settings learned: the interval of their test result lies beyond chance (see :func:`beat_chance`)."""
    final = data[data["quantity"].isin(FINAL) & np.isfinite(data["value"])]
    if final.empty:
        return []
    by_loss = final["quantity"].iloc[0] == "test_loss"
    best = final.loc[final["value"].idxmin() if by_loss else final["value"].idxmax()]
    chance = best["chance_loss" if by_loss else "chance_accuracy"]
    if np.isnan(chance):
        return _ahead(best, final.drop(best.name), by_loss) if len(final) > 1 else _falls(data, best)
    won = beat_chance(final)
    details = {"total": len(final), "chance": chance, "best": best["value"], "curve": curve_name(best)}
    details |= {"learned": _names(final[won]), "stuck": _names(final[~won])}
    if by_loss:
        details["worst"] = _rounded_up(final["value"].max())
    else:
        hundred = 100 if final["value"].max() <= 1 else 1  # a script's own number may be in per cent
        details |= {"worst": floor(hundred * final["value"].min() + 1e-9), "chance_percent": hundred * chance}
        if won.all() and final["low"].max() <= final["high"].min():  # NaN of no interval is none
            low, high = (f"{hundred * end:.0f}" for end in (final["value"].min(), final["value"].max()))
            details |= {"variant": "alike", "about": low if low == high else f"{low}–{high}"}
    return [claim("learned_values" if by_loss else "learned", won.sum(), "> 0", bool(won.any()), **details)]


def _ahead(best: pd.Series, others: pd.DataFrame, by_loss: bool) -> list[dict[str, Any]]:
    """Whether the interval of the best lies beyond those of all others, where chance is not known."""
    clear = best["high"] < others["low"].min() if by_loss else best["low"] > others["high"].max()
    name = "best_loss" if by_loss else "best_accuracy"
    return [claim(name, best["value"], "beyond the intervals of all others", clear, curve=curve_name(best))]


def _falls(data: pd.DataFrame, best: pd.Series) -> list[dict[str, Any]]:
    """Whether the training loss of the only setting fell."""
    loss = data[(data["quantity"] == "loss") & np.isfinite(data["value"])].sort_values("iteration")["value"]
    if len(loss) < 2:
        return []
    first, last = loss.iloc[0], loss.iloc[-1]
    return [claim("loss_falls", last, f"< {first:.3g}", last < first, first=first, result=best["value"])]


def _rounded_up(loss: float) -> float:
    """To two digits, so that none is larger."""
    step = 10.0 ** (floor(log10(loss)) - 1) if loss > 0 else 1.0
    return ceil(loss / step - 1e-9) * step


def _names(final: pd.DataFrame) -> list[dict[str, str]]:
    return [curve_name(row) for _, row in final.drop_duplicates(["cell", "start"]).iterrows()]
