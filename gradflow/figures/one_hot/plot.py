"""What does the network see of a name?

A row is a character of the name, a column one of the characters that are kept, by rank. One column of each row is 1.
Above, all columns at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.theme import BLUE, GREY, NOTHING, PAPER, new_figure, shade, style, thin

MOST = 12  # steps in a figure
_BESIDE = 4  # distinct characters up to which the neighbours of their columns are shown, too


def plot_one_hot(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the one-hot matrix of a name: all its columns as a strip, and those that matter as numbers, with breaks.

    Args:
        data: What :func:`gradflow.data.one_hot` returned, of at most twelve steps.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are more steps than fit in a figure.
    """
    matrix = data.pivot(index="time", columns="index", values="value").to_numpy()
    if len(matrix) > MOST:
        raise ValueError(f"data: expected at most {MOST} steps, got {len(matrix)}; draw a shorter name")
    labels = Labels(lang)
    name = list(data.groupby("time")["character"].first())
    entries = list(data.groupby("index")["entry"].first())
    with style(lang, context):
        figure = new_figure()
        strip, excerpt = figure.subplots(2, 1, height_ratios=[1, 2.6])
        _draw_strip(strip, matrix, labels)
        _draw_excerpt(excerpt, matrix, name, entries)
        excerpt.set_ylabel(labels("axis.time"), labelpad=3 * mpl.rcParams["axes.labelpad"])
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_strip(axes: Axes, matrix: np.ndarray, labels: Labels) -> None:
    """The whole matrix; a one is drawn wider than its column, or it could not be seen."""
    steps, size = matrix.shape
    for time, index in np.argwhere(matrix == 1):
        axes.plot(
            [index, index], [time - 0.5, time + 0.5], color=shade(BLUE), linewidth=thin(1.6), solid_capstyle="butt"
        )
    axes.hlines(np.arange(1, steps) - 0.5, -0.5, size - 0.5, color=shade(NOTHING), linewidth=thin(0.3))
    axes.set_xlim(-0.5 - size / 200, size - 0.5 + size / 200)
    axes.set_ylim(steps - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(False)
    axes.set_title(labels("facet.all_columns", count=str(size)), loc="left")


def _draw_excerpt(axes: Axes, matrix: np.ndarray, name: Sequence[str], entries: Sequence[str]) -> None:
    columns = _shown(matrix)
    places = np.arange(len(columns)) + np.cumsum(np.diff(columns, prepend=columns[0]) > 1)
    for place, index in zip(places, columns, strict=True):
        for time, value in enumerate(matrix[:, index]):
            one = value == 1
            face: dict[str, Any] = {"facecolor": shade(BLUE if one else PAPER), "edgecolor": shade(GREY)}
            axes.add_patch(Rectangle((place - 0.5, time - 0.5), 1, 1, linewidth=thin(0.3), **face))
            colour = shade(PAPER if one else GREY)
            axes.text(place, time, f"{value:g}", ha="center", va="center", color=colour)
    for place in set(range(places[-1])) - set(places):
        axes.text(place, (len(matrix) - 1) / 2, "…", ha="center", va="center", color=shade(GREY), fontsize="x-large")
    axes.set_xlim(-0.6, places[-1] + 0.6)
    axes.set_ylim(len(matrix) - 0.4, -0.6)
    axes.set_xticks(places, [f"{entries[index]}\n{index}" for index in columns])
    axes.set_yticks(range(len(name)), list(name), fontsize="large")
    axes.tick_params(length=0)
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)


def _shown(matrix: np.ndarray) -> np.ndarray:
    """The first and the last column and those that hold a one, with their neighbours where there are few."""
    hits = np.unique(np.argwhere(matrix == 1)[:, 1])
    beside = 1 if len(hits) <= _BESIDE else 0
    wanted = {0, matrix.shape[1] - 1} | {int(i) + step for i in hits for step in range(-beside, beside + 1)}
    return np.array(sorted(index for index in wanted if 0 <= index < matrix.shape[1]))
