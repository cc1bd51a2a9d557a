"""Does it matter that test names were among those that the network learnt from?

A row is a network. The filled mark is its share of right answers to names that it learnt from, the open one to names
that it has not met; bars are the range over seeds. The dotted line is the lecture's own result, of a test set that
overlaps with training.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, distinct, finish, top_legend
from gradflow.figures.theme import GREY, look, new_figure, shade, style, thin

QUANTITIES = ("seen", "unseen")
_APART = 0.11  # half the distance of the marks of a row, in rows


def plot_overlap(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the accuracy on names that were learnt from beside that on new ones, a row per network.

    Args:
        data: What :func:`gradflow.training.prediction.overlap` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = figure.subplots()
        rows = [
            (cell, start)
            for cell in distinct(data, "cell")
            for start in data.loc[data["cell"] == cell, "start"].drop_duplicates()
        ]
        for y, (cell, start) in enumerate(rows):
            _draw_row(axes, data[(data["cell"] == cell) & (data["start"] == start)], y, labels)
        axes.set_yticks(range(len(rows)), [labels.curve(cell, start) for cell, start in rows])
        for text, (cell, _) in zip(axes.get_yticklabels(), rows, strict=True):
            text.set_color(look(cell).colour)
        axes.set_ylim(len(rows) - 0.3, -0.7)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        _draw_slide(axes, data["slide"].iloc[0], labels)
        axes.margins(x=0.2)
        axes.set_xlabel(labels("axis.names_right"))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=labels("percent"), decimals=0))
        _add_legend(figure, labels)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_row(axes: Axes, row: pd.DataFrame, y: float, labels: Labels) -> None:
    """Both shares of one network, each with its range over seeds and its number."""
    colour = look(row["cell"].iloc[0]).colour
    means = row.groupby("quantity")["value"].mean()
    for quantity, side in zip(QUANTITIES, (-1, 1), strict=True):
        own, place = row.loc[row["quantity"] == quantity, "value"], y + side * _APART
        mean = means.get(quantity, np.nan)
        if not np.isfinite(mean):
            continue
        axes.plot([own.min(), own.max()], [place, place], color=colour, linewidth=thin())
        face = colour if quantity == "seen" else "none"
        axes.plot(mean, place, "o", color=colour, markerfacecolor=face)
        words, outwards = f"{100 * mean:.1f}{labels('percent')}", mean == means.max()  # away from the other mark
        end, offset, align = (own.max(), 0.6, "left") if outwards else (own.min(), -0.6, "right")
        axes.annotate(
            words, (end, place), (offset, 0), textcoords="offset fontsize", color=colour, ha=align, va="center"
        )


def _draw_slide(axes: Axes, slide: float, labels: Labels) -> None:
    if not np.isfinite(slide):
        return
    axes.axvline(slide, color=shade(GREY), linestyle=":", linewidth=thin())
    words, place = labels("note.slide", slide=f"{100 * slide:.1f}"), axes.get_xaxis_transform()
    axes.text(slide, 1.005, words, transform=place, color=shade(GREY), fontsize="small", ha="right", va="bottom")


def _add_legend(figure: Figure, labels: Labels) -> None:
    colour = shade(GREY)
    words = {labels("note.seen"): colour, labels("note.unseen"): "none"}
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="none", markerfacecolor=face, label=label)
        for label, face in words.items()
    ]
    top_legend(figure, handles)
