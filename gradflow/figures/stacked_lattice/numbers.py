"""The gradient over layers and time of a stack."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import SHORT, at_iteration, factor_per_step, quantiles, read_at_many, read_at_the_end
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

_COLUMNS = ["valid", "log_direct_gradient_zeros"] + [
    f"log_state_gradient_{s}" for s in ("q10", "q50", "q90", "zeros", "non_finite")
]


def stacked_lattice(source: Any, *, iteration: int | None = None, direction: int = 0) -> pd.DataFrame:
    """The total gradient ‖dL/dh_t‖ of every layer and lag, and what a layer and a step cost; one seed per setting.

    Args:
        source: A run, a sweep, or a sequence of runs; those of one layer are left out.
        iteration: The last recorded one not after this is taken; None is the first recorded, before any update.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, direction, iteration, layer, lag, valid, value (natural log, median over examples; -inf
        where it is zero in all of them), zeros, non_finite, per_layer (what one layer down multiplies it by at lag 0,
        mean over the layers), per_step (the same of one step back in the top layer; NaN where many_steps),
        last_step_only (whether the loss reaches the top layer at the last step alone), many_steps (whether it does at
        several, over which the gradient is a sum).

    Raises:
        DoesNotApply: No run has rows of several layers in the `lag` table.
    """
    check_place(direction=direction)
    parts = []
    for run, frame in everywhere(one_seed(runs_of(source)), "lag", _COLUMNS):
        own = frame[frame["direction"] == direction]
        if own["layer"].nunique() > 1:
            parts.append((run, _lattice(at_iteration(own, iteration))))
    if not parts:
        raise DoesNotApply("layer: expected runs of several layers, got none; train one with cell.num_layers=4")
    data = collect(parts)
    return before_clipping(data) if iteration is None else data


def _lattice(frame: pd.DataFrame) -> pd.DataFrame:
    data = quantiles(frame, "log_state_gradient")
    data["value"] = data["log_median"].mask(data["zeros"] == data["valid"], -np.inf)
    last = data[data["lag"] == 0].sort_values("layer")["value"]
    top = data[data["layer"] == data["layer"].max()]
    with np.errstate(invalid="ignore"):
        per_layer = float(np.exp((last.iloc[0] - last.iloc[-1]) / (len(last) - 1)))
    at_top = frame[frame["layer"] == frame["layer"].max()]
    alone, many = read_at_the_end(at_top), read_at_many(at_top)
    per_step = np.nan if many else factor_per_step(top["lag"].to_numpy(), top["value"].to_numpy())
    columns = ["direction", "iteration", "layer", "lag", "valid", "value", "zeros", "non_finite"]
    return data[columns].assign(per_layer=per_layer, per_step=per_step, last_step_only=alone, many_steps=many)


def cost_of_all(panel: pd.DataFrame) -> tuple[float, float]:
    """What all steps back in the top layer, and all layers down at lag 0, multiply the gradient by; NaN if not known.

    Args:
        panel: One network of :func:`stacked_lattice`.
    """
    first = panel.iloc[0]
    value = panel.set_index(["layer", "lag"])["value"]
    top, lag = panel["layer"].max(), panel["lag"].max()
    with np.errstate(invalid="ignore"):
        back = np.exp(value[top, lag] - value[top, 0]) if np.isfinite(first["per_step"]) else np.nan
        down = np.exp(value[0, 0] - value[top, 0]) if np.isfinite(first["per_layer"]) else np.nan
    return float(back), float(down)


def stacked_lattice_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """What a layer costs beside a step, the same in an RNN by default; and that the top layer's end has the most.

    Elsewhere: whether all steps back cost more than all layers down, or, without steps, whether a layer costs anything.
    """
    panels = data.drop_duplicates(["cell", "start", "clip"])
    panels = panels[np.isfinite(panels["per_layer"])]
    if panels.empty:
        return []
    if panels["per_step"].isna().all():
        least = panels.nsmallest(1, "per_layer").iloc[0]
        alone = {"curve": curve_name(least), "build": "stack"}
        return [claim("layer_alone", least["per_layer"], "< 1", least["per_layer"] < 1, **alone)]
    panels = panels.dropna(subset=["per_step"])
    least = panels.nsmallest(1, "per_layer").iloc[0]
    details: dict[str, Any] = {
        "layers": float(data["layer"].max() + 1),
        "steps": float(data["lag"].max() + 1),
        "build": "stack",
    }
    members = dict(iter(data.groupby(["cell", "start", "clip"], sort=False)))
    plain = panels[panels["cell"].isin(["linear", "rnn"]) & (panels["start"] == "default")]
    if len(plain) and data["lag"].max() >= SHORT:
        apart = np.log(np.asarray(plain["per_layer"] / plain["per_step"]))
        row = plain.iloc[int(np.argmax(np.abs(apart)))]
        words = details | _told(row, members)
        holds = bool(np.abs(apart).max() <= 0.3 and words["back"] < words["down"])
        first = claim("layer_costs_a_step", row["per_layer"], f"{row['per_step']:.3g} within 0.3 nats", holds, **words)
    else:
        words = details | _told(least, members)
        down, back = (words["layers"] - 1) * np.log(least["per_layer"]), (words["steps"] - 1) * np.log(words["step"])
        first = claim(
            "layer_beside_step", least["per_layer"], "all steps cost more than all layers", back < down, **words
        )
    simple = data[(data["start"] == "default") & ~data["bidirectional"].astype(bool) & data["last_step_only"]]
    return [first, *([_largest_at_the_end(simple)] if len(simple) else [])]


def _told(row: pd.Series, members: Mapping[Any, pd.DataFrame]) -> dict[str, Any]:
    """What the words of a claim need of the network whose first row this is."""
    panel = members[row["cell"], row["start"], row["clip"]]
    back, down = cost_of_all(panel)
    far = {"back": back, "down": down, "lag": float(panel["lag"].max()), "below": float(panel["layer"].max())}
    return {"step": row["per_step"], "curve": curve_name(row)} | far


def _largest_at_the_end(data: pd.DataFrame) -> dict[str, Any]:
    """How far any cell exceeds the last of the top layer, in nats."""
    excess = []
    for _, group in data.groupby(["cell", "start", "clip"], sort=False):
        corner = group[(group["layer"] == group["layer"].max()) & (group["lag"] == 0)]["value"]
        excess.append(float(group["value"].max() - corner.max()))
    most = float(np.max(excess))
    return claim("largest_at_the_end", most, "<= 0", most <= 1e-6)
