"""How the gradient through time changes while the network learns."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import LAG_COLUMNS, lag_gradient
from gradflow.analysis.results import has_learned
from gradflow.analysis.runs import Run, binned, chance, claim, collect, curve_name, losses, one_seed, recorded, runs_of
from gradflow.checks import check_flags

MOST_COLUMNS = 1000  # recorded iterations kept; a slide has no more pixels


def gradient_heatmap(
    source: Any, *, relative: bool = True, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """The gradient at each lag and recorded iteration, with the loss; one seed per setting.

    Args:
        source: A run, a sweep, or a sequence of runs.
        relative: Divide by the gradient at lag 0, of the loss at single positions where that was recorded (then
            `anchored` is true). Without, everything fades once the task is solved, which is not vanishing.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, quantity, layer, direction, iteration, lag, value, valid, zeros, non_finite, chance_loss,
        learned (1 where the test accuracy ended above chance, else 0; NaN where the log does not say).
        Rows of quantity `gradient` hold the median over examples (natural log; -inf where it is zero in all of them),
        rows of quantity `loss` the training loss (layer, direction and lag are -1), if the log has one.

    Raises:
        ValueError: No run has rows of the `lag` table.
    """
    check_flags(relative=relative)
    parts = []
    for run, frame in recorded(one_seed(runs_of(source)), "lag", LAG_COLUMNS, layer=layer, direction=direction):
        image = _image(frame, relative)
        both = pd.concat([image, _loss(run)], ignore_index=True).assign(anchored=bool(image["anchored"].any()))
        parts.append((run, both.assign(chance_loss=chance(run)[1], learned=has_learned(run))))
    return collect(parts)


def _image(frame: pd.DataFrame, relative: bool) -> pd.DataFrame:
    image = lag_gradient(frame, relative=relative)
    iterations = np.sort(image["iteration"].unique())
    kept = iterations[:: -(-len(iterations) // MOST_COLUMNS)]
    image = image[image["iteration"].isin(kept)].reset_index(drop=True)
    image["value"] = image["log_median"].mask(image["zeros"] == image["valid"], -np.inf)
    columns = ["layer", "direction", "iteration", "lag", "value", "valid", "zeros", "non_finite", "anchored"]
    return image[[*columns, "many_steps"]].assign(quantity="gradient")


def _loss(run: Run) -> pd.DataFrame:
    empty = {"layer": -1, "direction": -1, "lag": -1, "valid": 0, "zeros": 0}
    return binned(losses(run)).assign(quantity="loss", **empty)


def gradient_heatmap_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether the networks that learned are those whose gradient reached the far end before training.

    Where all learned or none did, or nobody knows: whether training lets more of the gradient reach there.
    """
    panels = pd.DataFrame([_panel(group) for _, group in data.groupby(["cell", "start", "clip"], sort=False)])
    learned, stuck = panels[panels["learned"] == 1], panels[panels["learned"] == 0]
    if len(learned) and len(stuck):
        weakest, strongest = learned.nsmallest(1, "first").iloc[0], stuck.nlargest(1, "first").iloc[0]
        details = {"learned": curve_name(weakest), "stuck": curve_name(strongest), "stuck_value": strongest["first"]}
        holds = weakest["first"] > strongest["first"]
        return [claim("reach_decides", weakest["first"], f"> {strongest['first']:.3g}", holds, **details)]
    change = panels["last"] / panels["first"]
    value = float(change.median())
    if not np.isfinite(value):
        return []
    if panels["learned"].isna().any():
        return [claim("reach_grows", value, "> 1", value > 1)]
    return [claim("reach_grows_and_learned", value, "> 1", value > 1, learned=len(learned), total=len(panels))]


def _panel(group: pd.DataFrame) -> dict[str, Any]:
    """First and last gradient at the greatest lag that both have."""
    image = group[group["quantity"] == "gradient"].pivot(index="lag", columns="iteration", values="value")
    ends = np.exp(image.iloc[:, [0, -1]].dropna().iloc[-1:].to_numpy()).reshape(-1)
    first, last = ends if len(ends) else (np.nan, np.nan)
    last = last if image.shape[1] > 1 and image.index.max() > 0 else np.nan
    named = {key: group[key].iloc[0] for key in ("cell", "start", "learned")}
    return named | {"first": first, "last": last}
