"""What does the network see of a name?

Above, the dictionary: the characters that are kept, by rank, which is their index from 0. Below, a row for each
character of the name, with its index; a column for each index, of which one in every row is 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.one_hot import ROOM
from gradflow.figures.options import built
from gradflow.figures.theme import BLUE, GREY, PAPER, new_figure, shade, style, thin

MOST = 12  # steps in a figure
ENTRIES = 8  # of the dictionary, before its last
INDICES, VECTORS = 2, ROOM.steps  # the parts, after the dictionary, in which it is built up
_BESIDE = 4  # distinct characters up to which the neighbours of their columns are shown, too


def plot_one_hot(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the one-hot matrix of a name: the dictionary, and the columns that matter as numbers, with breaks.

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
        dictionary, excerpt = figure.subplots(2, 1, height_ratios=[1, 2.4])
        _draw_dictionary(dictionary, entries, labels)
        vectors = _draw_excerpt(excerpt, matrix, name, entries)
        excerpt.set_ylabel(labels("axis.time"), labelpad=3 * mpl.rcParams["axes.labelpad"])
        add_caption(figure, data, claims, labels, steps=ROOM.steps)
        finish(figure)
        excerpt.set_visible(built(INDICES))
        for part in vectors if not built(VECTORS) else ():
            part.set_visible(False)
    return figure


def _draw_dictionary(axes: Axes, entries: Sequence[str], labels: Labels) -> None:
    """The first entries and the last, each over its index."""
    count = len(entries)
    shown = [*range(min(count, ENTRIES)), *([count - 1] if count > ENTRIES else [])]
    places = [*range(min(count, ENTRIES)), *([ENTRIES + 1] if count > ENTRIES else [])]
    for place, index in zip(places, shown, strict=True):
        face: dict[str, Any] = {"facecolor": shade(PAPER), "edgecolor": shade(GREY), "linewidth": thin(0.3)}
        axes.add_patch(Rectangle((place - 0.5, 0), 1, 1, **face))
        axes.text(place, 0.5, entries[index], ha="center", va="center", fontsize="large")
    if count > ENTRIES + 1:
        axes.text(ENTRIES, 0.5, "…", ha="center", va="center", color=shade(GREY), fontsize="x-large")
    axes.set_xticks(places, [str(index) for index in shown])
    axes.set_xlim(-0.6, places[-1] + 0.6)
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0.5], [labels("facet.dictionary", count=str(count))], color=shade(GREY), fontsize="small")
    axes.get_yticklabels()[0].set_linespacing(1.3)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0)
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_excerpt(axes: Axes, matrix: np.ndarray, name: Sequence[str], entries: Sequence[str]) -> list[Artist]:
    """A row for each character, at its left its index; all of the vectors themselves, which may be hidden yet."""
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
    indices = [entries.index(character) for character in name]
    read = [f"{character} → {index}" for character, index in zip(name, indices, strict=True)]
    axes.set_yticks(range(len(name)), read, fontsize="large")
    _bare(axes)
    return [*axes.patches, *axes.texts, axes.xaxis]


def _shown(matrix: np.ndarray) -> np.ndarray:
    """The first and the last column and those that hold a one, with their neighbours where there are few."""
    hits = np.unique(np.argwhere(matrix == 1)[:, 1])
    beside = 1 if len(hits) <= _BESIDE else 0
    wanted = {0, matrix.shape[1] - 1} | {int(i) + step for i in hits for step in range(-beside, beside + 1)}
    return np.array(sorted(index for index in wanted if 0 <= index < matrix.shape[1]))
