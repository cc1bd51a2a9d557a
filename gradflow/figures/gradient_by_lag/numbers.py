"""How much gradient reaches k steps back, at one iteration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import (
    LAG_COLUMNS,
    QUANTILES,
    SHORT,
    VANISHED,
    at_iteration,
    factor_per_step,
    lag_gradient,
)
from gradflow.analysis.runs import IDENTITY, Run, before_clipping, claim, curve_name, joined, named, recorded

REMEMBERING = ("orthogonal", "identity", "chrono", "remember")
"""Initialisations made to remember."""
_KEYS = ["layer", "direction", "iteration", "lag"]


def gradient_by_lag(
    source: Any, *, iteration: int | None = None, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """Gradient relative to lag 0 against lag, a curve per cell, initialisation and clipping.

    Of the loss at single positions, and against the steps back from each, where that was recorded: where the loss reads
    many positions. Otherwise of the whole loss, against the steps back from the end.

    Runs that differ in the seed alone are one curve (median over them). At the first recorded iteration clipping has
    not acted yet, so runs that differ in it alone are one curve too.

    Args:
        source: A run, a sweep, or a sequence of runs.
        iteration: The last recorded one not after this is taken; None is the first recorded, before any update.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY (`seed` is the number of seeds), layer, direction, iteration, lag, valid, low, median,
        high (the 10 %, 50 % and 90 % quantile over examples, ratios), log_median (natural log), zeros, non_finite,
        anchored (whether of single positions), many_steps (see :func:`lag_gradient`), factor (per step).

    Raises:
        ValueError: No run has rows of the `lag` table.
    """
    parts = recorded(source, "lag", LAG_COLUMNS, layer=layer, direction=direction)
    data = pd.concat([_at(alike, iteration) for alike in _alike(parts)], ignore_index=True)
    data = _over_seeds(before_clipping(data) if iteration is None else data)
    for name in ("low", "median", "high"):
        data[name] = np.exp(data.pop(f"log_{name}") if name != "median" else data["log_median"])
    curves = data.groupby(["cell", "start", "clip"], sort=False)
    fits = {key: factor_per_step(g["lag"].to_numpy(), g["log_median"].to_numpy()) for key, g in curves}
    data["factor"] = [fits[key] for key in zip(data["cell"], data["start"], data["clip"], strict=True)]
    return data


def _alike(parts: Sequence[tuple[Run, pd.DataFrame]]) -> list[list[tuple[Run, pd.DataFrame]]]:
    """Runs whose rows have the same columns, which can be worked on together."""
    groups: dict[tuple[str, ...], list[tuple[Run, pd.DataFrame]]] = {}
    for run, frame in parts:
        groups.setdefault(tuple(map(str, frame)), []).append((run, frame))
    return list(groups.values())


def _at(parts: Sequence[tuple[Run, pd.DataFrame]], iteration: int | None) -> pd.DataFrame:
    rows = lag_gradient(joined([frame for _, frame in parts]))
    return named([run for run, _ in parts], at_iteration(rows, iteration))


def _over_seeds(data: pd.DataFrame) -> pd.DataFrame:
    """The median over seeds; a curve has rows of single positions alone if any of its runs has them."""
    data = data[data["anchored"] == data.groupby(["cell", "start", "clip"])["anchored"].transform("any")]
    keys = [name for name in IDENTITY if name != "seed"] + [*_KEYS, "anchored"]
    how = dict.fromkeys(["log_low", "log_median", "log_high"], "median")
    how |= dict.fromkeys(["valid", "zeros", "non_finite"], "sum") | {"seed": "nunique", "many_steps": "any"}
    result = data.groupby(keys, sort=False, dropna=False).agg(how).reset_index()
    return result[[*IDENTITY, *_KEYS, "valid", *QUANTILES, "zeros", "non_finite", "anchored", "many_steps"]]


def gradient_by_lag_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether the initialisation rather than the cell decides how fast the gradient fades.

    Without starts of both kinds: whether torch's own fades, or else whether any of the gradient gets to the far end,
    as it must where sequences are short.
    """
    if data["lag"].max() < SHORT:
        return _at_the_end(data, "too_short")
    curves = data.drop_duplicates(["cell", "start", "clip"]).dropna(subset="factor")
    if curves.empty:
        return []
    low, high = curves.nsmallest(1, "factor").iloc[0], curves.nlargest(1, "factor").iloc[0]
    ends = {"low": low["factor"], "high": high["factor"], "low_curve": curve_name(low), "high_curve": curve_name(high)}
    ends["iteration"] = int(data["iteration"].max())
    default = curves.loc[curves["init"] == "default", "factor"]
    remember = curves.loc[curves["init"].isin(REMEMBERING), "factor"]
    if len(default) and len(remember):
        spread = {"default_low": default.min(), "default_high": default.max(), "remember_high": remember.max()}
        spread |= {"by_default": _range(default), "remembering": _range(remember)}
        holds = remember.min() > default.max()
        expected = f"> {default.max():.3g}, the slowest decay by default"
        return [claim("initialisation_decides", remember.min(), expected, holds, **ends, **spread)]
    if len(default) == len(curves):
        return [claim("default_fades", high["factor"], "< 1", high["factor"] < 1, **ends)]
    return _at_the_end(data, "reaches_the_end")


def _range(factors: pd.Series) -> str:
    """As the figure prints them at its curves."""
    return "–".join(dict.fromkeys(format(factor, ".2f") for factor in (factors.min(), factors.max())))


def _at_the_end(data: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    """That the curve of which least is left at its greatest lag has not vanished there; nothing of a single step."""
    far = data.loc[data.groupby(["cell", "start", "clip"], sort=False)["lag"].idxmax()]
    far = far[(far["lag"] > 0) & far["median"].notna()]
    if far.empty:
        return []
    least, most = far.nsmallest(1, "median").iloc[0], far.nlargest(1, "median").iloc[0]
    details = {"lag": int(least["lag"]), "high": most["median"], "iteration": int(data["iteration"].max())}
    details |= {"curve": curve_name(least), "low_curve": curve_name(least), "high_curve": curve_name(most)}
    return [claim(name, least["median"], f"> {VANISHED:g}", least["median"] > VANISHED, **details)]
