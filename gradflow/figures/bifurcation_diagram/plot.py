"""Why can an infinitesimal change of a parameter give an enormous gradient?

Above, the fixed points of one sigmoid unit against its bias: solid ones attract, dashed ones repel, arrows show where
the state goes. Between the two blue dots there are two attractors, and the dashed line divides their basins. Below, the
derivative of the last state with respect to the bias, for three lengths: it explodes only where the line of the start
crosses the dashed one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels, number
from gradflow.figures.layout import add_caption, finish, log_scale
from gradflow.figures.theme import BLACK, BLUE, GREEN, GREY, NOTHING, VERMILLION, new_figure, shade, style, thin

HORIZONS = (GREEN, BLUE, VERMILLION)
LINES = {"note.stable": "-", "note.unstable": "--"}


def plot_bifurcation_diagram(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the fixed points of the single unit against its bias, and below them |dx_T/db| for several T.

    Args:
        data: What :func:`gradflow.theory.bifurcation` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure(1.0, 1.0)
        points, sensitivity = figure.subplots(2, 1, sharex=True, height_ratios=[1.15, 1])
        _draw_fixed_points(points, data, labels)
        _draw_sensitivity(sensitivity, data)
        for axes in (points, sensitivity):
            for b in data.loc[data["quantity"] == "crossing", "b"].unique():
                axes.axvline(b, color=shade(GREY), linestyle=":", linewidth=thin())
        sensitivity.set_xlabel(labels("axis.bias"))
        b = data.loc[data["quantity"] == "sensitivity", "b"]
        sensitivity.set_xlim(b.min(), b.max())
        points.set_ylabel(labels("axis.fixed_points"))
        sensitivity.set_ylabel(r"$|dx_T/db|$")
        explosions = data.loc[(data["quantity"] == "crossing") & np.isfinite(data["measured"]), "measured"]
        sensitivity.set_ylim(0.3, 1e2 * np.exp(explosions.max()) if len(explosions) else None)
        log_scale(sensitivity)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_fixed_points(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    _draw_flow(axes, data[data["quantity"] == "flow"])
    fixed = data[data["quantity"] == "fixed_point"].sort_values("x")
    stable = (fixed["measured"] < 1).to_numpy()
    runs = np.cumsum(np.diff(stable, prepend=stable[:1]))
    for _, branch in fixed.groupby(runs):
        kind = "note.stable" if branch["measured"].iloc[0] < 1 else "note.unstable"
        axes.plot(branch["b"], branch["x"], color=shade(BLACK), linestyle=LINES[kind], label=labels(kind))
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), loc="lower right")
    folds, crossing = data[data["quantity"] == "fold"], data[data["quantity"] == "crossing"]
    axes.plot(folds["b"], folds["x"], "o", color=shade(BLUE), zorder=4)
    for _, fold in folds.iterrows():
        left = fold["x"] > 0
        axes.annotate(
            f"${fold['b']:.5f}$",
            (fold["b"], fold["x"]),
            (-0.8 if left else 0.8, 0),
            textcoords="offset fontsize",
            ha="right" if left else "left",
            va="center",
            color=shade(BLUE),
            fontsize="small",
        )
    start = float(crossing["x"].iloc[0])
    axes.axhline(start, color=shade(VERMILLION), linewidth=thin(0.5))
    axes.plot(crossing["b"], crossing["x"], "D", color=shade(VERMILLION), zorder=5)
    axes.text(
        0.99,
        start,
        labels("note.start"),
        transform=axes.get_yaxis_transform(),
        color=shade(VERMILLION),
        fontsize="small",
        ha="right",
        va="bottom",
    )


def _draw_sensitivity(axes: Axes, data: pd.DataFrame) -> None:
    """The longest horizon at the back; a point and its value where the start is a fixed point."""
    shown = data[data["quantity"].isin(["sensitivity", "crossing"])].sort_values("b")
    for (steps, curve), colour in reversed(list(zip(shown.groupby("steps"), HORIZONS, strict=False))):
        axes.plot(curve["b"], np.exp(curve["measured"]), color=shade(colour), linewidth=thin(0.8))
        peak = curve[curve["quantity"] == "crossing"].iloc[0]
        height = np.exp(peak["measured"])
        axes.plot(peak["b"], height, "D", color=shade(colour), zorder=5)
        text = rf"$T = {steps:g}$:  {number(height)}"
        axes.annotate(
            text, (peak["b"], height), (1, 0.2), textcoords="offset fontsize", color=shade(colour), fontsize="small"
        )


def _draw_flow(axes: Axes, flow: pd.DataFrame) -> None:
    """Where one step from here goes: up or down."""
    for marker, part in (("^", flow[flow["measured"] > 0]), ("v", flow[flow["measured"] < 0])):
        axes.plot(part["b"], part["x"], marker, color=shade(NOTHING), markersize=thin(2.4), zorder=1)
