"""What clipping does to the gradient norm and the loss."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.clipping import log_norm_before
from gradflow.analysis.results import criterion, solved_at
from gradflow.analysis.runs import UNCLIPPED, Run, claim, collect_columns, curve_name, losses, scalar_columns, started

SPIKE = 10.0  # times the median norm: Pascanu et al. 2013, sec. 3.2, clip at 0.5 to 10 times the mean
TORCH_EPSILON = 1e-6  # torch divides by the norm plus this
_SCALARS = ["log_grad_norm_before", "log_grad_norm_after", "loss", "clipped", "non_finite"]


def clipping_effect(source: Any) -> pd.DataFrame:
    """Gradient norm before and after clipping, and loss, at every iteration of every run.

    Args:
        source: A run, a sweep, or a sequence of runs.

    Returns:
        The columns IDENTITY, iteration, before, after (norms of all gradients), loss, loss_trend (its running
        median over a fortieth of the run), has_loss (whether the log has a loss of that iteration), clipped, non_finite
        (0 or 1), solved (whether the run met the criterion of its task; NaN where that has none), typical (whether it
        is of the seed whose loss ends in the middle of those of its cell and start, without clipping if there are such
        runs).
        A run without clipping, or whose log does not say, has the same norm before and after.

    Raises:
        ValueError: No run recorded scalars.
    """
    runs = started(source)
    data = collect_columns(list(zip(runs, map(_columns, runs, _trends([losses(run) for run in runs])), strict=True)))
    networks = data.groupby(["cell", "start"], sort=False)
    return data.assign(typical=pd.concat([own["seed"] == _middle_seed(own) for _, own in networks]))


def _middle_seed(runs: pd.DataFrame) -> int:
    """The seed whose loss ends in the middle; a loss that is not finite is the highest."""
    plain = runs[runs["clip"].isin(UNCLIPPED)]
    ends = (plain if len(plain) else runs).groupby("seed")["loss_trend"].agg(lambda loss: loss.iloc[-1])
    order = ends.where(np.isfinite(ends), np.inf).sort_values(kind="stable").index
    return int(order[len(order) // 2])


def _trends(series: Sequence[pd.Series]) -> list[np.ndarray]:
    """Running medians over a fortieth of each; those of one length are found together, which saves time."""
    alike: dict[int, list[int]] = {}
    for place, loss in enumerate(series):
        alike.setdefault(len(loss), []).append(place)
    trends = [np.empty(0)] * len(series)
    for length, places in alike.items():
        side_by_side = pd.DataFrame(np.column_stack([series[place].to_numpy(float) for place in places]))
        medians = side_by_side.rolling(-(-length // 40) or 1, center=True, min_periods=1).median().to_numpy()
        for column, place in enumerate(places):
            trends[place] = medians[:, column]
    return trends


def _columns(run: Run, trend: np.ndarray) -> dict[str, np.ndarray]:
    iteration, *values = scalar_columns(run, *_SCALARS)
    scalars = dict(zip(_SCALARS, values, strict=True))
    has_loss = np.isin(iteration, losses(run).index.to_numpy())
    loss_trend = np.full(len(iteration), np.nan)
    loss_trend[has_loss] = trend
    return {
        "iteration": iteration,
        "before": np.exp(log_norm_before(scalars)),
        "after": np.exp(scalars["log_grad_norm_after"]),
        "loss": scalars["loss"],
        "loss_trend": loss_trend,
        "has_loss": has_loss,
        "clipped": scalars["clipped"],  # NaN: nobody knows
        "non_finite": np.nan_to_num(scalars["non_finite"]).astype(int),
        "solved": np.full(len(iteration), float(solved_at(run) is not None) if criterion(run) else np.nan),
    }


def clipping_effect_lacks(data: pd.DataFrame) -> str:
    """Of clipping that never acted there is no effect."""
    clips = data[~data["clip"].isin(UNCLIPPED)]
    idle = len(clips) and not (clips["clipped"] > 0).any() and not (clips["non_finite"] > 0).any()
    return "clipped: expected a gradient that clipping changed, got none in any run" if idle else ""


def clipping_effect_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """How often clipping acted; and that clipping by norm kept to its threshold and to its formula."""
    clips = ~data["clip"].isin(UNCLIPPED)
    clipped, unclipped = data[clips], data[~clips]
    if clipped.empty:
        return _spikes(unclipped["after"])
    share = clipped.groupby(["cell", "start", "clip"], sort=False)["clipped"].mean().reset_index()
    most, least = share.nlargest(1, "clipped").iloc[0], share["clipped"].min()
    details = {"lowest": least, "curve": curve_name(most), "threshold": clipped["threshold"].iloc[0]}
    beside = clipped if unclipped.empty else unclipped
    details |= {"worst": _greatest(beside["before"]), "worst_clipped": _greatest(clipped["after"])}
    if not np.isfinite(details["threshold"]):
        return [claim("clipping_acted_somehow", most["clipped"], "> 0", most["clipped"] > 0, **details)]
    if most["clipped"] == 0 and not clipped["non_finite"].any():
        below = details["worst_clipped"] < details["threshold"]
        claims = [claim("nothing_clipped", details["worst_clipped"], f"< {details['threshold']:g}", below, **details)]
    else:
        name = "clipping_acted_alone" if unclipped.empty else "clipping_acted"
        if len(share) == 1 and {True, False} == set(clips) and data["solved"].notna().all():
            name, details = "clipping_solves", details | _counts(clipped, "clipped") | _counts(unclipped, "plain")
        claims = [claim(name, most["clipped"], "> 0", most["clipped"] > 0, **details)]
    return claims + _norm_checks(clipped[(clipped["clip"] == "norm") & (clipped["non_finite"] == 0)])


def _spikes(norms: pd.Series) -> list[dict[str, Any]]:
    """Whether the largest norm stands out from the others; nothing is said of a norm that was never finite."""
    finite = norms[np.isfinite(norms)]
    if finite.empty:
        return []
    highest, middle = finite.max(), finite.median()
    times = highest / middle if middle else 1.0
    return [claim("no_norm_stands_out", times, f"<= {SPIKE:g}", times <= SPIKE, highest=highest, middle=middle)]


def _counts(runs: pd.DataFrame, name: str) -> dict[str, int]:
    """How many runs solved their task, and how many there are."""
    solved = runs.groupby(["seed", "clip"])["solved"].first()
    return {f"solved_{name}": int(solved.sum()), f"total_{name}": len(solved)}


def _norm_checks(data: pd.DataFrame) -> list[dict[str, Any]]:
    """`after = before * min(1, c / (before + 1e-6))` at every iteration, hence `after <= c`."""
    data = data[np.isfinite(data["before"]) & np.isfinite(data["after"]) & (data["after"] > 0)]
    if data.empty:
        return []
    over = (data["after"] / data["threshold"]).max()
    rule = data["before"] * np.minimum(1, data["threshold"] / (data["before"] + TORCH_EPSILON))
    error = np.abs(data["after"] / rule - 1).max()
    return [
        claim("norm_within_threshold", over, "<= 1", over <= 1 + 1e-4),
        claim("norm_rule", error, "< 1e-4", error < 1e-4),
    ]


def _greatest(norms: pd.Series) -> float:
    finite = norms[np.isfinite(norms)]
    return float(finite.max()) if len(finite) else float("nan")
