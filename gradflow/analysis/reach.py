"""The horizon of a gradient, and what decides how far a network learns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import VANISHED
from gradflow.analysis.runs import IDENTITY, claim, curve_name
from gradflow.checks import require, share

CURVE = [name for name in IDENTITY if name not in ("seed", "names_per_sequence", "length")]


def horizon(factor: float, vanished: float = VANISHED) -> float:
    """Steps back after which less than a share of the gradient is left, at a constant factor per step.

    k* = ln(vanished) / ln(factor), infinite where the gradient does not shrink, NaN where the factor is.

    Raises:
        ValueError: The factor is negative or no number, or the share not between 0 and 1.

    Example:
        >>> round(horizon(0.5), 2), horizon(1.01)
        (9.97, inf)
    """
    share("vanished", vanished)
    require(isinstance(factor, (int, float, np.floating)) and not factor < 0, "factor", "a number from 0", factor)
    if factor == 0:
        return 0.0
    return float(np.log(vanished) / np.log(factor)) if factor < 1 else float("inf") if factor >= 1 else float("nan")


def what_decides(data: pd.DataFrame) -> dict[str, Any]:
    """The claim on what decides how far a network learns, out of :func:`accuracy_by_lag`.

    Under several treatments: whether clipping helps, and the regulariser on top of it. Otherwise whether
    what a network learns is ranked by how far its gradient reached before training: of all pairs of curves with
    different horizons of which one did clearly better, mean over the lags, the share in which it is the one with the
    farther horizon (Goodman and Kruskal's concordance). Reach is needed and not enough: where a network was at chance
    within its horizon, `variant` is `missed` and the nearest such lag is told. Where no two horizons can be compared:
    whether the best learned at the longest lag. Empty where chance is not known either.
    """
    return _remedies(data) or _concordance(_curves(data), _missed(data)) or _farthest(data)


def _remedies(data: pd.DataFrame) -> dict[str, Any]:
    """Means over all starts and lags without a remedy, with clipping, and with the regulariser as well."""
    shares, networks = data.groupby("clip")["value"].mean(), data.groupby(["cell", "start"]).ngroups
    compared = {"none", "norm"} if networks == 1 else {"none", "norm", "norm, omega"}
    if data["quantity"].iloc[0] == "loss" or not compared <= set(shares.index):
        return {}
    none, norm, omega = (float(shares.get(name, np.nan)) for name in ("none", "norm", "norm, omega"))
    if np.isnan(omega):
        return claim("clipping_helps", norm, f"> {none:.3g}, without", norm > none, none=none, count=len(data))
    expected = f">= {norm:.3g} with clipping alone, which is >= {none:.3g} without; more than without"
    return claim("remedies_help", omega, expected, omega >= norm >= none and omega > none, none=none, norm=norm)


def by_curve(data: pd.DataFrame) -> Any:
    """Rows that differ in length and seed alone, grouped."""
    return data.groupby(CURVE, sort=False, dropna=False)


def _curves(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Each curve with its horizon and score: the mean over the lags, upside down for a loss."""
    sign = -1 if data["quantity"].iloc[0] == "loss" else 1
    return [
        {
            "name": curve_name(group.iloc[0]),
            "horizon": group["horizon"].iloc[0],
            "mean": float(group["value"].mean()),
            "score": sign * float(group["value"].mean()),
        }
        for _, group in by_curve(data)
    ]


CLEARLY = 0.1  # difference of scores, of 1, from which one of two curves did better


def _at_chance(data: pd.DataFrame) -> pd.Series:
    """Whether nothing was learned: an accuracy whose interval holds chance, no better a loss, no seed in two solved."""
    quantity = data["quantity"].iloc[0]
    if quantity == "success":
        return data["value"] < 0.5
    return data["value"] >= data["chance"] if quantity == "loss" else data["low"] <= data["chance"]


def _missed(data: pd.DataFrame) -> dict[str, Any]:
    """The nearest lag at which a network was at chance though its gradient reached there."""
    missed = data[_at_chance(data) & (data["lag"] <= data["horizon"])]
    if missed.empty:
        return {}
    row = missed.nsmallest(1, "lag").iloc[0]
    return {"variant": "missed", "reached": row["horizon"], "missed": row["lag"], "missed_curve": curve_name(row)}


def _farthest(data: pd.DataFrame) -> dict[str, Any]:
    far = data[(data["lag"] == data["lag"].max()) & np.isfinite(data["value"])]
    if far.empty or (far["quantity"].iloc[0] != "success" and far["chance"].isna().any()):
        return {}
    sign = -1 if far["quantity"].iloc[0] == "loss" else 1
    best = far.loc[[(sign * far["value"]).idxmax()]]
    learned, row = not _at_chance(best).iloc[0], best.iloc[0]
    details = {"curve": curve_name(row), "lag": row["lag"], "chance": row["chance"]}
    return claim("learns_the_longest", row["value"], "better than chance", learned, **details)


def _concordance(curves: Sequence[dict[str, Any]], missed: Mapping[str, Any]) -> dict[str, Any]:
    agree, pairs = 0, 0
    for i, first in enumerate(curves):
        for second in curves[:i]:
            apart = first["score"] - second["score"]
            farther = np.sign(_finite(first["horizon"]) - _finite(second["horizon"]))
            if abs(apart) >= CLEARLY and farther != 0:
                pairs += 1
                agree += bool(np.sign(apart) == farther)
    if not pairs:
        return {}
    low, high = (pick(curves, key=lambda c: _finite(c["horizon"])) for pick in (min, max))
    ends = {"low_curve": low["name"], "high_curve": high["name"], "low": low["horizon"], "high": high["horizon"]}
    return claim(
        "horizon_ranks", agree / pairs, ">= 0.9", agree / pairs >= 0.9, agree=agree, pairs=pairs, **ends, **missed
    )


def _finite(steps: float) -> float:
    """A horizon for comparison; infinite ones are all equally far."""
    return float(np.nan_to_num(steps, posinf=1e9))
