"""How long an update takes at every sequence length."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY, Run, claim, identity, runs_of

WIDE = 2.0  # ratio of the longest to the shortest sequence from which on an exponent says something
_FLATTEST, _STEEPEST = 0.5, 1.2
_SHORT, _FLATTEST_IF_SHORT = 5, 0.2  # at so few steps what an update costs whatever its length outweighs them
_AFTER_THE_FACT = ("norm", "value", "parameter")  # clippings that pass once over the finished gradients
FEWEST_LENGTHS = 3  # of which a curve says something
QUANTILES = {"low": 0.05, "value": 0.1, "high": 0.5}
"""Of the times of a run. Other work on the machine only ever adds to one: a low quantile is what an update takes."""
_LENGTH = ["names_per_sequence", "length"]
_CURVE = [name for name in IDENTITY if name not in ("seed", "names_per_sequence", "length")]


def compute_time(source: Any) -> pd.DataFrame:
    """Seconds per update of training against the length of the sequences, out of the `wall_time` of the log.

    An update is timed from one row of scalars to the next. Left out are those that something was recorded or evaluated
    in, which took longer for it. Recorded gradients also tell the length: the mean of steps over recorded examples,
    whatever the task.

    Args:
        source: A run, a sweep or a sequence of runs, of one task at several lengths.

    Returns:
        The columns IDENTITY (`seed` is the number of runs; `init` and `start` are `any`, as they change no time, and
        clipping finished gradients counts as `none`), steps (T), value (s per update: 10 % quantile of the
        updates, which other work on the machine hardly disturbed; median over runs), low, high (5 % quantile and median
        of the updates), updates (number timed), device, threads, exponent (of the curve:
        slope of ln seconds on ln T; NaN where the lengths are not twice apart). A row per curve and length.

    Raises:
        ValueError: No run has an update in which nothing was recorded, or runs differ in device or threads.
    """
    rows = [row for run in runs_of(source) for row in _timed(run)]
    if not rows:
        raise ValueError(
            "scalars: expected updates in which nothing was recorded, got none in any run; record less often, such as "
            "record(every=10)"
        )
    data = pd.DataFrame(rows)
    for name in ("device", "threads"):
        if data[name].nunique() > 1:
            raise ValueError(f"{name}: expected one for all runs, got {sorted(data[name].unique())}; time each apart")
    by = [name for name in IDENTITY if name != "seed"]
    how = {"seed": "count", "steps": "mean", "updates": "sum", "device": "first", "threads": "first"}
    how |= dict.fromkeys(("value", "low", "high"), "median")
    data = data.groupby(by, sort=False, dropna=False).agg(how).reset_index()
    curves = data.groupby(_CURVE, sort=False, dropna=False)
    data = pd.concat([curve.assign(exponent=_exponent(curve)) for _, curve in curves], ignore_index=True)
    return data[[*IDENTITY, "steps", "value", "low", "high", "updates", "device", "threads", "exponent"]]


def _timed(run: Run) -> list[dict[str, Any]]:
    """One row, or none where no update is free of recording."""
    measured = [name for name in ("wall_time", "test_loss") if name in run.columns["scalars"]]
    scalars = run.frame("scalars", columns=measured).set_index("iteration")
    recorded = run.frame("lag", columns=["valid"])
    busy = set(recorded["iteration"]) | set(run.frame("spectrum", columns=[])["iteration"])
    seconds = scalars["wall_time"].diff()
    free = ~scalars.index.to_series().shift().isin(busy)  # a row is stamped before that iteration is recorded
    if "test_loss" in scalars:
        free &= scalars["test_loss"].isna()  # and after it was evaluated
    seconds = seconds[free & (scalars.index.to_series().diff() == 1)].dropna()
    if seconds.empty or recorded.empty:
        return []
    times = {name: float(seconds.quantile(share)) for name, share in QUANTILES.items()}
    row = identity(run)
    clip = ", ".join("none" if word in _AFTER_THE_FACT else word for word in row["clip"].split(", "))
    machine = {"device": str(run.meta.get("device", "")), "threads": int(run.meta.get("threads", 0))}
    row |= {"init": "any", "start": "any", "threshold": float("nan"), "clip": clip} | machine
    return [row | times | {"steps": _mean_steps(recorded), "updates": len(seconds)}]


def _mean_steps(recorded: pd.DataFrame) -> float:
    """Steps of an example through the first module, layer and direction, over all its calls."""
    place = recorded[(recorded["layer"] == 0) & (recorded["direction"] == 0)]
    place = place[place["module"] == place["module"].iloc[0]]
    examples = place.loc[place["lag"] == 0].groupby(["iteration", "call"])["valid"].sum().groupby("iteration").max()
    return float(place["valid"].sum() / examples.sum())


def _exponent(curve: pd.DataFrame) -> float:
    curve = curve[(curve["value"] > 0) & (curve["steps"] > 0)]
    if curve.empty or curve["steps"].max() < WIDE * curve["steps"].min():
        return float("nan")
    return float(np.polyfit(np.log(curve["steps"]), np.log(curve["value"]), 1)[0])


def times_as_long(curve: pd.DataFrame) -> float:
    """An update at the longest sequences over one at the shortest; NaN without several lengths."""
    by_length = curve.sort_values("steps")[["steps", "value"]].to_numpy()
    if len(by_length) < 2 or by_length[0, 0] == by_length[-1, 0]:
        return float("nan")
    return float(by_length[-1, 1] / by_length[0, 1])


def compute_time_lacks(data: pd.DataFrame) -> str:
    """Two lengths make no curve, and times of a busy machine do not tell how time grows."""
    lengths = data[_LENGTH].drop_duplicates().shape[0]
    if lengths < FEWEST_LENGTHS:
        return f"length: expected {FEWEST_LENGTHS} or more for a curve, got {lengths}"
    for check in compute_time_claims(data):
        if not check["holds"]:
            got = f"{check['value']:.2f} to {check['high']:.2f}"
            return (
                f"wall_time: expected times that grow with length to the power {check['expected']}, got {got}; train "
                "again on a machine that does nothing else"
            )
    return ""


def compute_time_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the time of an update grows with the length of its sequences, as states cannot be computed in parallel.

    In proportion the exponent is 1. What an update costs whatever its length pulls it below 1 where sequences are
    short, and caches that overflow push it above 1; with all steps computed at once it would be near 0. Between 0.5 and
    1.2 the steps decide; from 0.2 on they can be told where the shortest sequences have less than five. A machine that
    does other things as well may break it: the figure then says that it cannot be told. One length says nothing.
    """
    curves = data.drop_duplicates(_CURVE).dropna(subset="exponent")
    if curves.empty:
        return []
    low, high = curves["exponent"].min(), curves["exponent"].max()
    slower = [times_as_long(curve) for _, curve in data.groupby(_CURVE, sort=False, dropna=False)]
    details = {"high": high, "shortest": f"{data['steps'].min():.0f}", "longest": f"{data['steps'].max():.0f}"}
    details |= {"longer": format(data["steps"].max() / data["steps"].min(), ".2g")}
    details |= {"slower": float(np.nanmin(slower)), "slowest": float(np.nanmax(slower))}
    variant = "alone" if len(curves) == 1 else "less" if high < 1 else ""
    details |= {"variant": variant} if variant else {}
    least = _FLATTEST_IF_SHORT if data["steps"].min() < _SHORT else _FLATTEST
    expected = f"{least:g} to {_STEEPEST:g} for every cell"
    holds = len(curves) == len(data.drop_duplicates(_CURVE)) and low >= least and high <= _STEEPEST
    return [claim("time_grows_with_length", low, expected, holds, **details)]
