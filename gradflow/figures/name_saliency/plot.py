"""Which character decided the answer?

A panel is a name. A bar is what its character adds to the score of the answer or takes from it, coloured by the label.
A tall bar decided. In Chinese names the given name, after the surname, is on a grey ground.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, finish, top_legend
from gradflow.figures.name_saliency.numbers import surname_first
from gradflow.figures.theme import BLACK, BLUE, GREEN, GREY, GRID, PURPLE, VERMILLION, new_figure, shade, style, thin

COLOURS = (VERMILLION, BLUE, GREEN, PURPLE, BLACK)  # of the predicted labels
MOST = 8  # small multiples in a figure


def plot_name_saliency(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw what each character of a name adds to the winning score.

    Args:
        data: What :func:`gradflow.training.prediction.name_saliency` returned, of at most eight names.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are more names than fit in a figure.
    """
    examples = [group for _, group in data.groupby("example", sort=True)]
    if len(examples) > MOST:
        raise ValueError(f"data: expected at most {MOST} names, got {len(examples)}; draw the others in another figure")
    labels = Labels(lang)
    predicted = list(dict.fromkeys(data["predicted"]))
    colours = dict(zip(predicted, COLOURS * len(predicted), strict=False))
    with style(lang, context):
        longest = max(len(group) for group in examples)
        most = 4 if longest <= 8 else 1
        rows = -(-len(examples) // most)
        columns = -(-len(examples) // rows)
        figure = new_figure(1.0 if columns <= 2 else 1.2, 1.0 if rows <= 2 else 0.5 * rows)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(examples) :]:
            axes.set_axis_off()
        for axes, group in zip(grid.flat, examples, strict=False):
            _draw_name(axes, group, colours[group["predicted"].iloc[0]], labels)
            axes.set_xlim(-0.6, longest - 0.4)
        for axes in grid[:, 0]:
            axes.set_ylabel(labels("axis.score"))
        _add_legend(figure, colours, surname_first(data), labels)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_name(axes: Axes, group: pd.DataFrame, colour: str, labels: Labels) -> None:
    first = group.iloc[0]
    place = np.arange(len(group))
    score = group["score"].where(np.isfinite(group["score"]), 0)
    axes.bar(place, score, width=0.7, color=shade(colour))
    if surname_first(group):
        axes.axvspan(0.5, len(group) - 0.5, color=shade(GRID), linewidth=0, zorder=0)
    axes.axhline(0, color=shade(GREY), linewidth=thin(0.4))
    axes.set_xticks(place, list(group["character"]), fontsize="large")
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    answer = labels.word("answer", first["predicted"])
    axes.set_title(f"{answer} {100 * first['probability']:.0f}{labels('percent')}", color=shade(colour))


def _add_legend(figure: Figure, colours: Mapping[str, str], given: bool, labels: Labels) -> None:
    names = {name: labels("note.score", label=labels.word("answer", name)) for name in colours}
    handles: list[Any] = [Patch(color=shade(colour), label=names[name]) for name, colour in colours.items()]
    if given:
        handles.append(Patch(color=shade(GRID), label=labels("note.given_name")))
    top_legend(figure, handles)
