"""Which positions the two directions of a network still hear."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import SHORT, at_iteration, quantiles, read_at_the_end
from gradflow.analysis.runs import (
    DoesNotApply,
    before_clipping,
    check_place,
    claim,
    collect,
    curve_name,
    everywhere,
    one_seed,
    runs_of,
)

DIRECTIONS = ("forward", "reverse")
VALLEY = 0.1  # of the loudest position: what is quieter is a valley
_COLUMNS = ["valid", "log_direct_gradient_zeros"] + [
    f"log_state_gradient_{s}" for s in ("q10", "q50", "q90", "zeros", "non_finite")
]


def bidirectional_profile(source: Any, *, iteration: int | None = None, layer: int | None = None) -> pd.DataFrame:
    """The total gradient ‖dL/dh_t‖ of both directions against position, and their root sum of squares.

    Args:
        source: A run, a sweep, or a sequence of runs; those of one direction are left out. One seed per setting.
        iteration: The last recorded one not after this is taken; None is the first recorded, before any update.
        layer: 0-based; None is the top layer.

    Returns:
        The columns IDENTITY, quantity (`forward`, `reverse`, `both`), layer, direction (0, 1; -1 of both), iteration,
        time, valid, log_median (natural log, median over examples; of both, that of the medians), zeros, non_finite,
        read_at_ends (whether the loss reaches each direction at its last step alone).

    Raises:
        DoesNotApply: No run has rows of two directions in the `time` table.
    """
    check_place(layer)
    parts = []
    for run, frame in everywhere(one_seed(runs_of(source)), "time", _COLUMNS):
        own = frame[frame["layer"] == (frame["layer"].max() if layer is None else layer)]
        if own["direction"].nunique() == 2:
            parts.append((run, _profile(at_iteration(own, iteration))))
    if not parts:
        raise DoesNotApply("direction: expected bidirectional runs, got none; train one with cell.bidirectional=true")
    data = collect(parts)
    return before_clipping(data) if iteration is None else data


def _profile(frame: pd.DataFrame) -> pd.DataFrame:
    data = quantiles(frame, "log_state_gradient", position="time")
    data["quantity"] = data["direction"].map(dict(enumerate(DIRECTIONS)))
    log = data.pivot(index="time", columns="direction", values="log_median").fillna(-np.inf)
    both = data[data["direction"] == 0].sort_values("time").assign(quantity="both", direction=-1, zeros=0, non_finite=0)
    log = log.loc[both["time"]]
    both["log_median"] = np.logaddexp(2 * log[0].to_numpy(), 2 * log[1].to_numpy()) / 2
    columns = ["quantity", "layer", "direction", "iteration", "time", "valid", "log_median", "zeros", "non_finite"]
    ends = all(read_at_the_end(group) for _, group in frame.groupby("direction"))
    return pd.concat([data, both], ignore_index=True)[columns].assign(read_at_ends=ends)


def bidirectional_profile_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether the middle is a valley between two loud ends; that each direction is loudest where it ends."""
    panels = [_panel(group) for _, group in data.groupby(["cell", "start", "clip"], sort=False)]
    panels = [panel for panel in panels if np.isfinite(panel["share"])]
    if not panels:
        return []
    worst = min(panels, key=lambda panel: panel["share"])
    details = {"position": worst["position"], "steps": worst["steps"], "curve": worst["curve"]}
    details["build"] = "directions"
    deep = [panel for panel in panels if panel["share"] < VALLEY]
    if deep and worst["steps"] >= SHORT:
        holds = all(0.25 <= panel["position"] / (panel["steps"] - 1) <= 0.75 for panel in deep)
        first = claim("valley_in_the_middle", worst["share"], "quietest in the middle half", holds, **details)
    else:
        first = claim("heard_everywhere", worst["share"], f"> {VALLEY:g}", worst["share"] > VALLEY, **details)
    falling = [panel["off"] for panel in panels if panel["falls"]]
    if not falling:
        return [first]
    return [first, claim("loudest_at_its_end", max(falling), "0 positions off", max(falling) == 0)]


def _panel(group: pd.DataFrame) -> dict[str, Any]:
    """The quietest position and its share of the loudest; how far each direction's loudest is from where it ends."""
    log = group.pivot(index="time", columns="quantity", values="log_median")
    both, last = log["both"], len(log) - 1
    ends = {"forward": last, "reverse": 0}
    values = both[both < np.inf]
    known = len(values) > 0 and np.isfinite(values.max())
    return {
        "curve": curve_name(group.iloc[0]),
        "position": float(values.index[int(np.argmin(values))]) if known else np.nan,
        "share": float(np.exp(values.min() - values.max())) if known else np.nan,
        "steps": float(len(log)),
        "falls": group["start"].iloc[0] == "default" and group["read_at_ends"].iloc[0],
        "off": max(abs(int(log[name].fillna(-np.inf).argmax()) - place) for name, place in ends.items()),
    }
