"""Up to which distance can each model learn a dependency?

Across, how many steps back lies what must be remembered; up, the share of seeds that solved the task, or accuracy or
loss at the end. Colour is the cell, dash its start; bars are 95 % intervals; the dotted line is chance. A curve that
falls to chance has lost the beginning of the sequence. Where marks lie over one another the later ones are smaller.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from gradflow.figures.accuracy_by_lag.numbers import FEWEST_SEEDS
from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import (
    add_caption,
    cell_curves,
    distinct,
    finish,
    log_scale,
    top_legend,
)
from gradflow.figures.theme import GREY, PAPER, look, new_figure, shade, style, thin

MOST_PANELS = 3
_Curve = tuple[pd.Series, pd.DataFrame, Any]


def plot_accuracy_by_lag(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw success rate, accuracy or loss against lag: a panel for each of a few networks, or each clipping of many.

    Args:
        data: What :func:`gradflow.analysis.accuracy_by_lag` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    data = data.assign(
        network=[labels.curve(cell, start) for cell, start in zip(data["cell"], data["start"], strict=True)]
    )
    by_network = data["network"].nunique() <= MOST_PANELS and data["clip"].nunique() > 1
    facet = "network" if by_network else "clip"
    facets = list(data["network"].unique()) if by_network else distinct(data, "clip")
    with style(lang, context):
        figure = new_figure(1.0 if len(facets) == 1 else 1.2)
        grid = figure.subplots(1, len(facets), sharex=True, sharey=True, squeeze=False)[0]
        panels = {axes: cell_curves(data[data[facet] == value]) for axes, value in zip(grid, facets, strict=True)}
        for (axes, curves), value in zip(panels.items(), facets, strict=True):
            _draw_curves(axes, curves)
            if by_network or len(facets) > 1:
                axes.set_title(value if by_network else labels.clip(value))
            axes.set_xlabel(labels("axis.length"))
        _scales(grid, data, labels)
        name = _by_clip if by_network else _by_network
        _add_legend(figure, {name(curve[0], labels): curve for curves in panels.values() for curve in curves})
        add_caption(figure, data, claims, labels, notes=_notes(data, labels))
        finish(figure)
    return figure


def _is_wide(data: pd.DataFrame) -> bool:
    """Whether the lags ask for a logarithmic axis."""
    return bool(data["lag"].max() > 4 * data["lag"].min())


def _has_bars(data: pd.DataFrame) -> bool:
    return bool((data["high"] > data["low"]).any())


def _draw_curves(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Each over the ones before, with smaller marks, so that of equal values none is hidden."""
    for (first, curve, dash), size in zip(curves, np.linspace(1.6, 0.7, len(curves)), strict=True):
        colour, marker = look(first["cell"])
        joined = first["quantity"] != "success" or curve["seed"].min() >= FEWEST_SEEDS
        value, low, high = (curve[name].where(_can_be_drawn(curve, name)) for name in ("value", "low", "high"))
        axes.errorbar(
            curve["lag"],
            value,
            [value - low, high - value],
            color=colour,
            linestyle=dash if joined else "none",
            marker=marker,
            markerfacecolor=shade(PAPER) if first["clip"] == "none" else colour,
            markersize=size * mpl.rcParams["lines.markersize"],
            elinewidth=thin(0.4),
            capsize=size * mpl.rcParams["lines.markersize"] / 2,
            clip_on=False,
        )


def _can_be_drawn(curve: pd.DataFrame, name: str) -> pd.Series:
    """Finite, and positive where the axis is logarithmic."""
    return np.isfinite(curve[name]) & ((curve["quantity"] != "loss") | (curve[name] > 0))


def _by_clip(first: pd.Series, labels: Labels) -> str:
    return labels.clip(first["clip"])


def _by_network(first: pd.Series, labels: Labels) -> str:
    return labels.title(first["cell"], first["start"])


def _add_legend(figure: Figure, curves: Mapping[str, _Curve]) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=look(first["cell"]).colour,
            marker=look(first["cell"]).marker,
            linestyle=dash,
            markerfacecolor=shade(PAPER) if first["clip"] == "none" else look(first["cell"]).colour,
            label=name,
        )
        for name, (first, _, dash) in curves.items()
    ]
    top_legend(figure, handles, handlelength=3.5)


def _notes(data: pd.DataFrame, labels: Labels) -> list[str]:
    bars = {"success": "note.success_bars", "accuracy": "note.accuracy_bars", "loss": "note.seed_bars"}
    seeds, iterations = int(data["seed"].min()), int(data["iterations"].max())
    notes = [labels(bars[data["quantity"].iloc[0]], seeds=str(seeds))] if _has_bars(data) else []
    return [*notes, labels("note.budget", iterations=f"{iterations:,}")]


def _scales(grid: Sequence[Axes], data: pd.DataFrame, labels: Labels) -> None:
    axes, quantity = grid[0], data["quantity"].iloc[0]
    lags = sorted(data["lag"].dropna().unique())
    for panel in grid:
        if _is_wide(data):
            panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator(lags))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.xaxis.set_minor_locator(NullLocator())
        if np.isfinite(data["chance"].iloc[0]):
            panel.axhline(data["chance"].iloc[0], color=shade(GREY), linestyle=":", linewidth=thin())
    if np.isfinite(data["chance"].iloc[0]):
        place, words = axes.get_yaxis_transform(), labels("note.chance")
        axes.text(
            0.5,
            data["chance"].iloc[0],
            words,
            transform=place,
            color=shade(GREY),
            fontsize="small",
            ha="center",
            va="bottom",
        )
    names = {"success": "axis.success", "accuracy": "axis.test_accuracy", "loss": "axis.loss"}
    axes.set_ylabel(labels(names[quantity]))
    if len(lags) == 1:
        axes.set_xlim(lags[0] - 1, lags[0] + 1)
    if quantity == "loss":
        log_scale(axes)
    else:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=labels("percent"), decimals=0))
