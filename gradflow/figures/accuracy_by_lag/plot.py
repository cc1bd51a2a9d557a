"""Up to which distance can each model learn a dependency?

Across, how many steps back lies what must be remembered; up, the share of seeds that solved the task, or accuracy or
loss at the end. Colour is the cell, dash its start; bars are 95 % intervals; the dotted line is chance. A curve that
falls to chance has lost the beginning of the sequence. Compare its order with the horizons in the caption, which were
measured before training.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import add, mul
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from gradflow.figures.accuracy_by_lag.numbers import FEWEST_SEEDS
from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import (
    EndLabel,
    add_caption,
    cell_curves,
    distinct,
    finish,
    label_ends,
    log_scale,
    top_legend,
)
from gradflow.figures.theme import GREY, look, new_figure, style, thin

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
            _draw_curves(axes, curves, _beside(data, len(curves)))
            if by_network or len(facets) > 1:
                axes.set_title(value if by_network else labels.clip(value))
            axes.set_xlabel(labels("axis.length"))
        _scales(grid, data, labels)
        if by_network:
            _add_legend(figure, panels[grid[0]], labels)
        add_caption(figure, data, claims, labels, notes=_notes(data, labels))
        if not by_network:
            label_ends(figure, {axes: _ends(curves, labels) for axes, curves in panels.items()})
        finish(figure)
    return figure


def _is_wide(data: pd.DataFrame) -> bool:
    """Whether the lags ask for a logarithmic axis."""
    return bool(data["lag"].max() > 4 * data["lag"].min())


def _has_bars(data: pd.DataFrame) -> bool:
    return bool((data["high"] > data["low"]).any())


def _beside(data: pd.DataFrame, count: int) -> list[Callable[[pd.Series], pd.Series]]:
    """Moves each curve a little beside the one before, so that bars and equal values do not cover others."""
    low, high = data["lag"].min(), data["lag"].max()
    places = [0.03 * (i - (count - 1) / 2) * _has_bars(data) for i in range(count)]
    if _is_wide(data):
        return [partial(mul, (high / low) ** place) for place in places]
    return [partial(add, (high - low) * place) for place in places]


def _draw_curves(axes: Axes, curves: Sequence[_Curve], beside: Sequence[Callable[[pd.Series], pd.Series]]) -> None:
    for (first, curve, dash), moved in zip(curves, beside, strict=True):
        colour, marker = look(first["cell"])
        joined = first["quantity"] != "success" or curve["seed"].min() >= FEWEST_SEEDS
        value, low, high = (curve[name].where(_can_be_drawn(curve, name)) for name in ("value", "low", "high"))
        axes.errorbar(
            moved(curve["lag"]),
            value,
            [value - low, high - value],
            color=colour,
            linestyle=dash if joined else "none",
            marker=marker,
            markerfacecolor="white" if first["clip"] == "none" else colour,
            elinewidth=thin(0.4),
            clip_on=False,
        )


def _can_be_drawn(curve: pd.DataFrame, name: str) -> pd.Series:
    """Finite, and positive where the axis is logarithmic."""
    return np.isfinite(curve[name]) & ((curve["quantity"] != "loss") | (curve[name] > 0))


def _add_legend(figure: Figure, curves: Sequence[_Curve], labels: Labels) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=look(first["cell"]).colour,
            marker=look(first["cell"]).marker,
            linestyle=dash,
            markerfacecolor="white" if first["clip"] == "none" else look(first["cell"]).colour,
            label=labels.clip(first["clip"]),
        )
        for first, _, dash in curves
    ]
    top_legend(figure, handles, handlelength=3.5)


def _ends(curves: Sequence[_Curve], labels: Labels) -> list[EndLabel]:
    return [EndLabel(_height(curve), _label(first, labels), look(first["cell"]).colour) for first, curve, _ in curves]


def _height(curve: pd.DataFrame) -> float:
    known = curve.loc[_can_be_drawn(curve, "value"), "value"]
    return float(known.iloc[-1]) if len(known) else float("nan")


def _label(first: pd.Series, labels: Labels) -> str:
    return labels.cell(first["cell"]) if first["start"] == "default" else labels.curve(first["cell"], first["start"])


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
            panel.axhline(data["chance"].iloc[0], color=GREY, linestyle=":", linewidth=thin())
    if np.isfinite(data["chance"].iloc[0]):
        place, words = axes.get_yaxis_transform(), labels("note.chance")
        axes.text(
            0.5, data["chance"].iloc[0], words, transform=place, color=GREY, fontsize="small", ha="center", va="bottom"
        )
    names = {"success": "axis.success", "accuracy": "axis.test_accuracy", "loss": "axis.loss"}
    axes.set_ylabel(labels(names[quantity]))
    if len(lags) == 1:
        axes.set_xlim(lags[0] - 1, lags[0] + 1)
    if quantity == "loss":
        log_scale(axes)
    else:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %", decimals=0))
