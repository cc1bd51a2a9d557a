"""How much longer does an update take when the sequences are longer?

Milliseconds per update against the length of the sequences, both logarithmic. A point is the 10 % quantile, an update
that other work hardly disturbed; its bar goes from the 5 % quantile to the median. Updates in which something was
recorded or evaluated are left out. At the end of a curve stands how many times as long an update of the longest
sequences takes as one of the shortest. States come one after the other, so that time grows with length, in proportion
once the steps outweigh what an update costs anyway.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from gradflow.figures.catalogue import Labels
from gradflow.figures.compute_time.numbers import times_as_long
from gradflow.figures.layout import EndLabel, add_caption, cell_curves, finish, label_ends, log_scale
from gradflow.figures.theme import GREY, look, new_figure, shade, style, thin
from gradflow.foreign import label

_FEWEST_FOR_ALL_TICKS = 8


def plot_compute_time(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw milliseconds per update against the length of the sequences, both logarithmic, and what the longest cost.

    Args:
        data: What :func:`gradflow.analysis.compute_time` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = figure.subplots()
        curves = cell_curves(data, "steps")
        several = data["clip"].nunique() > 1
        ends = [_draw_curve(axes, *curve, labels, several) for curve in curves]
        _point_out_lengths(axes, data, labels)
        axes.set_xlabel(labels("axis.sequence_length"))
        axes.set_ylabel(labels("axis.milliseconds"))
        _scale(axes, data)
        add_caption(figure, data, claims, labels, notes=_notes(data, labels))
        label_ends(figure, {axes: ends})
        finish(figure)
    return figure


def _draw_curve(
    axes: Axes, first: pd.Series, curve: pd.DataFrame, dash: Any, labels: Labels, several: bool
) -> EndLabel:
    colour, marker = look(first["cell"])
    known = curve[_can_be_drawn(curve, "value") & _can_be_drawn(curve, "low") & _can_be_drawn(curve, "high")]
    value, low, high = (1e3 * known[name] for name in ("value", "low", "high"))
    bars = [(value - low).clip(lower=0), (high - value).clip(lower=0)]
    axes.errorbar(
        known["steps"], value, bars, color=colour, linestyle=dash, marker=marker, elinewidth=thin(0.4), clip_on=False
    )
    name = labels.cell(first["cell"])
    name = f"{name}, {labels.clip(first['clip'])}" if several else name
    if np.isfinite(factor := times_as_long(known)):
        name = f"{name}\n{labels('curve.times_as_long', factor=format(factor, '.2g'))}"
    return EndLabel(value.iloc[-1] if len(value) else float("nan"), name, colour)


def _can_be_drawn(curve: pd.DataFrame, name: str) -> pd.Series:
    return np.isfinite(curve[name]) & (curve[name] > 0)


def _point_out_lengths(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    """An arrow below all curves from the shortest sequences to the longest, and how many times as long these are."""
    known = data[_can_be_drawn(data, "value") & _can_be_drawn(data, "low")]
    first, last = known["steps"].min(), known["steps"].max()
    if not first < last:
        return
    height = 1e3 * known["low"].min() / 1.7
    axes.update_datalim([(first, height)])
    arrow = {"arrowstyle": "-|>", "color": shade(GREY), "linewidth": thin(), "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (last, height), (first, height), arrowprops=arrow)
    words = labels("note.times_as_many_steps", factor=format(last / first, ".2g"))
    place = np.sqrt(first * last), height
    axes.annotate(words, place, (0, 0.3), textcoords="offset fontsize", color=shade(GREY), ha="center", va="bottom")


def _scale(axes: Axes, data: pd.DataFrame) -> None:
    axes.set_xscale("log")
    steps = sorted(data["steps"].unique())
    if len(steps) <= _FEWEST_FOR_ALL_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if len(steps) == 1:
        axes.set_xlim(steps[0] / 2, steps[0] * 2)
    if not _can_be_drawn(data, "value").any():
        axes.set_ylim(1, 10)
    log_scale(axes)


def _notes(data: pd.DataFrame, labels: Labels) -> list[str]:
    first, fewest = data.iloc[0], int(data["updates"].min())
    notes = [labels("note.timed", updates=f"{fewest:,}")]
    if first["device"]:
        notes.append(labels("note.machine", device=label(first["device"].upper()), threads=first["threads"]))
    return notes
