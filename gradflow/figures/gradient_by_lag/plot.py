"""How much gradient reaches k steps back in each architecture?

Across, the steps back from the end; up, the gradient there relative to that at the end, logarithmic: a straight line is
a constant factor per step, written at its end. Colour is the cell, dash its start, a panel the kind of initialisation;
a band, where it is broad enough to be seen, is 10 to 90 % of the examples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.by_lag import of_lag
from gradflow.figures.catalogue import Labels, wrap
from gradflow.figures.layout import (
    EndLabel,
    add_caption,
    cell_curves,
    corner_note,
    distinct,
    finish,
    label_ends,
    log_scale,
    shows_band,
)
from gradflow.figures.theme import look, new_figure, style


def plot_gradient_by_lag(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the gradient relative to lag 0 against lag: a panel per initialisation, a colour per cell.

    Args:
        data: What :func:`gradflow.analysis.gradient_by_lag` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        inits = distinct(data, "init")
        columns = min(len(inits), 3)
        rows = -(-len(inits) // columns)
        figure = new_figure(1.0 if columns == 1 else 1.2, 1.0 if rows == 1 else 1.2)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        panels = list(grid.flat)
        bands = []
        for axes, init in zip(panels, inits, strict=False):
            axes.set_title(labels.facet(init))
            bands += _draw_curves(axes, data[data["init"] == init])
        for axes in panels[len(inits) :]:
            axes.set_axis_off()
        log_scale(panels[0])
        panels[0].set_xlim(0, max(data["lag"].max(), 1))
        add_caption(figure, data, claims, labels, notes=of_lag(data, labels).notes)
        seen = shows_band(panels[0], data["low"], data["high"])
        for band in bands:
            band.set_visible(seen)  # one that hides behind its line is not told of either
        _write(figure, grid, data, inits, labels, band=seen)
        finish(figure)
    return figure


def _draw_curves(axes: Axes, data: pd.DataFrame) -> list[Artist]:
    """The bands of the curves, drawn with them."""
    curves, bands = cell_curves(data), list[Artist]()
    for i, (first, curve, dash) in enumerate(curves):
        colour, marker = look(first["cell"])
        every = max(1, len(curve) // 8)
        marks = (i * every // len(curves), every)
        bands.append(axes.fill_between(curve["lag"], curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0))
        axes.plot(
            curve["lag"], curve["median"], color=colour, linestyle=dash, marker=marker, markevery=marks, clip_on=False
        )
    return bands


def _write(
    figure: Figure, grid: np.ndarray, data: pd.DataFrame, inits: Sequence[str], labels: Labels, *, band: bool
) -> None:
    words, narrow = of_lag(data, labels), grid.shape[1] > 2
    lines = words.lag.replace("（", "\n（").splitlines()
    lag = "\n".join(wrap(line, 20) for line in lines) if narrow else words.lag
    for axes in grid[-1]:
        axes.set_xlabel(lag)
        axes.xaxis.set_major_locator(MaxNLocator(3 if narrow else 6, integer=True, min_n_ticks=1))
    for axes in grid[:, 0]:
        axes.set_ylabel(words.gradient)
    remarks = _remarks(data, labels, band=band)
    corner_note(grid[0, 0], [wrap(remark, 14) if grid.shape[1] > 1 else remark for remark in remarks])
    ends = {}
    for axes, init in zip(grid.flat, inits, strict=False):
        curves = [(first, curve) for first, curve, _ in cell_curves(data[data["init"] == init])]
        several = len({first["clip"] for first, _ in curves}) > 1
        ends[axes] = [
            EndLabel(_end(curve["median"]), _label(first, labels, several), look(first["cell"]).colour)
            for first, curve in curves
        ]
    label_ends(figure, ends)


def _end(values: pd.Series) -> float:
    drawn = values[np.isfinite(values) & (values > 0)]
    return float(drawn.iloc[-1]) if len(drawn) else float("nan")


def _label(first: pd.Series, labels: Labels, several_clips: bool) -> str:
    name = labels.title(first["cell"], first["start"])
    clip = ", " + labels.clip(first["clip"]) if several_clips else ""
    factor = labels("curve.factor", factor=format(first["factor"], ".2f")) if np.isfinite(first["factor"]) else ""
    return f"{name}{clip}\n{factor}".rstrip()


def _remarks(data: pd.DataFrame, labels: Labels, *, band: bool) -> list[str]:
    zeros, non_finite = int(data["zeros"].sum()), int(data["non_finite"].sum())
    remarks = [labels("note.band_anchored" if data["anchored"].all() else "note.band")] if band else []
    remarks += [labels("note.zeros", count=str(zeros))] if zeros else []
    return remarks + ([labels("note.non_finite_left_out", count=str(non_finite))] if non_finite else [])
