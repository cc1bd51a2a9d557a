"""Which time steps change the recurrent weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import SHORT, at_iteration, quantiles
from gradflow.analysis.runs import before_clipping, claim, collect, curve_name, one_seed, recorded, runs_of
from gradflow.analysis.settings import group, of_gradflow

SHARES = (0.5, 0.9, 0.99)  # of the whole, whose lags are marked
_COLUMNS = ["valid", "weight_gradient_share_q50"]
_COLUMNS += [f"log_weight_gradient_{statistic}" for statistic in ("q10", "q50", "q90", "zeros", "non_finite")]


def temporal_contributions(
    source: Any, *, iteration: int | None = None, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """The norm of each step's share ε_t h_{t-1}ᵀ of dL/dW_hh against lag, and their running sum; one seed per setting.

    Norms of one example, which may cancel in the sum over steps: shares are of the sum of norms.

    Args:
        source: A run, a sweep, or a sequence of runs.
        iteration: The last recorded one not after this is taken; None is the first recorded, before any update.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, iteration, lag, valid, log_low, log_median, log_high (natural logs of
        the norm: 10 %, 50 % and 90 % quantile over examples), share (of the last lag + 1 steps, median over examples),
        zeros, non_finite; and the same in all rows of a run: within_50, within_90, within_99 (the last steps that make
        up so much), steps, whole (share of all steps), first_zero (share of the examples whose first step contributes
        exactly nothing, as its state before is zero; NaN where it need not be).

    Raises:
        ValueError: No run has rows of the `lag` table, or the quantities were not recorded.
    """
    parts = recorded(one_seed(runs_of(source)), "lag", _COLUMNS, layer=layer, direction=direction)
    data = collect([(run, _contributions(at_iteration(frame, iteration), run.config or {})) for run, frame in parts])
    return before_clipping(data) if iteration is None else data


def _contributions(frame: pd.DataFrame, config: Mapping[str, Any]) -> pd.DataFrame:
    if "weight_gradient_share_q50" not in frame:
        raise ValueError(
            "lag: expected weight_gradient_share in the log, got a log without; name it in record(quantities=)"
        )
    data = quantiles(frame, "log_weight_gradient", more=["weight_gradient_share_q50"])
    data = data.rename(columns={"weight_gradient_share_q50": "share"}).astype({"share": "float64"})
    for share in SHARES:
        reached = data.loc[data["share"] >= share, "lag"]
        data[f"within_{100 * share:.0f}"] = float(reached.min() + 1) if len(reached) else np.nan
    oldest = frame[frame["valid"] > 0].nlargest(1, "lag").iloc[0]
    starts_at_zero = of_gradflow(config) and group(config, "train").get("truncate") is None
    zero = oldest["log_weight_gradient_zeros"] / oldest["valid"] if starts_at_zero else np.nan
    return data.assign(steps=oldest["lag"] + 1, whole=float(oldest["weight_gradient_share_q50"]), first_zero=zero)


def temporal_contributions_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """How few of the last steps change the weights; that the shares make up the whole, and the first step nothing."""
    curves = data.drop_duplicates(["cell", "start", "clip"]).dropna(subset="within_90")
    if curves.empty:
        return []
    low, high = curves.nsmallest(1, "within_90").iloc[0], curves.nlargest(1, "within_90").iloc[0]
    steps = float(high["steps"])
    details = {"low": low["within_90"], "low_curve": curve_name(low), "high_curve": curve_name(high), "steps": steps}
    if set(curves["start"]) == {"default"} and steps >= SHORT:
        holds = high["within_90"] <= steps / 2
        first = claim("short_sighted", high["within_90"], f"<= {steps / 2:g}, half of the steps", holds, **details)
    else:
        name = "contributions_reach" if low["within_90"] < high["within_90"] else "contributions_alike"
        first = claim(
            name, high["within_90"], f"> {steps / 2:g}, half of the steps", high["within_90"] > steps / 2, **details
        )
    whole = float((curves["whole"] - 1).abs().max())
    claims = [first, claim("shares_make_the_whole", whole, "<= 1e-4", whole <= 1e-4)]
    if curves["first_zero"].notna().any():
        zero = float(curves["first_zero"].min())
        claims.append(claim("first_step_adds_nothing", zero, "1 (all examples)", zero == 1))
    return claims
