"""Which time steps actually change the recurrent weights?

Left, what share of the gradient of W_hh comes from the last k + 1 steps, marks at 50, 90 and 99 %. Right, the share of
each step by itself, logarithmic. A curve that reaches the top at once belongs to a network that learns from its last
steps only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import (
    EndLabel,
    add_caption,
    cell_curves,
    corner_note,
    finish,
    label_ends,
    log_scale,
    shows_band,
)
from gradflow.figures.temporal_contributions.numbers import SHARES
from gradflow.figures.theme import BLACK, GREY, look, new_figure, shade, style, thin


def plot_temporal_contributions(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the running share of the last steps in dL/dW_hh (left) and the norm of what each step adds (right).

    Args:
        data: What :func:`gradflow.analysis.temporal_contributions` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure(1.2)
        share, norm = figure.subplots(1, 2, sharex=True)
        _draw_shares(share, data, labels)
        _draw_norms(norm, data)
        share.set_ylabel(labels("axis.running_share"))
        norm.set_ylabel(labels("axis.contribution"))
        for axes in (share, norm):
            axes.set_xlabel(labels("axis.lag"))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        share.set_xlim(0, max(data["lag"].max(), 1))
        share.text(
            0.97,
            0.04,
            labels("note.shares"),
            transform=share.transAxes,
            color=shade(GREY),
            fontsize="small",
            ha="right",
        )
        band = shows_band(norm, np.exp(data["log_low"]), np.exp(data["log_high"]))
        corner_note(norm, [labels("note.band")] if band else [])
        add_caption(figure, data, claims, labels)
        label_ends(figure, {norm: _ends(data, labels)})
        finish(figure)
    return figure


def _draw_shares(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    for first, curve, dash in cell_curves(data):
        colour, marker = look(first["cell"])
        axes.plot(curve["lag"], curve["share"], color=colour, linestyle=dash, clip_on=False)
        for share in SHARES:
            lag = first[f"within_{100 * share:.0f}"] - 1
            reached = curve.loc[curve["lag"] == lag, "share"]
            axes.plot([lag] * len(reached), reached, marker=marker, color=colour, clip_on=False, zorder=4)
    axes.axhline(0.9, color=shade(BLACK), linestyle="--", linewidth=thin(0.4))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=labels("percent"), decimals=0))


def _draw_norms(axes: Axes, data: pd.DataFrame) -> None:
    for first, curve, dash in cell_curves(data):
        colour, marker = look(first["cell"])
        low, middle, high = (np.exp(curve[f"log_{name}"].where(np.isfinite(curve[f"log_{name}"]))) for name in _BAND)
        axes.fill_between(curve["lag"], low, high, color=colour, alpha=0.1, linewidth=0)
        every = max(1, len(curve) // 8)
        axes.plot(curve["lag"], middle, color=colour, linestyle=dash, marker=marker, markevery=every, clip_on=False)
    log_scale(axes)


_BAND = ("low", "median", "high")


def _ends(data: pd.DataFrame, labels: Labels) -> list[EndLabel]:
    curves = cell_curves(data)
    several = len({first["clip"] for first, _, _ in curves}) > 1
    ends = []
    for first, curve, _ in curves:
        drawn = curve.loc[np.isfinite(curve["log_median"]), "log_median"]
        name = labels.title(first["cell"], first["start"]) + (", " + labels.clip(first["clip"]) if several else "")
        known = np.isfinite(first["within_90"])
        within = labels("curve.within", steps=format(first["within_90"], ".0f")) if known else ""
        height = float(np.exp(drawn.iloc[-1])) if len(drawn) else float("nan")
        ends.append(EndLabel(height, f"{name}\n{within}".rstrip(), look(first["cell"]).colour))
    return ends
