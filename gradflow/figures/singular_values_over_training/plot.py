"""Does training push the spectrum of the recurrent weights over 1?

Every line is a singular value of the recurrent weights, the largest, the median and the smallest bold, logarithmic; a
dashed line at 1. Values are sorted anew at each record, so lines never cross though directions may.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels, matrix
from gradflow.figures.layout import (
    EndLabel,
    add_caption,
    arrange,
    distinct,
    finish,
    label_ends,
    label_lowest,
    log_scale,
    mark_alone,
    panel_title,
    panels_of,
)
from gradflow.figures.theme import BLACK, GREY, look, new_figure, shade, style, thin

MOST_COLUMNS = 5
SMALLEST = 1e-4  # singular values below do not stretch the axis further


def plot_singular_values_over_training(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw all singular values against training iteration: a column per cell and start, a row per clipping.

    More than five columns begin anew below.

    Args:
        data: What :func:`gradflow.analysis.singular_values_over_training` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    clips, networks = distinct(data, "clip"), panels_of(data)
    blocks, width = arrange(len(networks), MOST_COLUMNS)
    rows = [(networks[i * width : (i + 1) * width], clip) for i in range(blocks) for clip in clips]
    with style(lang, context):
        figure = new_figure(1.0 if width == 1 else 1.2, 1.0 if len(rows) == 1 else 0.4 + 0.45 * len(rows))
        grid = figure.subplots(len(rows), width, sharex=True, sharey=True, squeeze=False)
        for i, (line, (own, clip)) in enumerate(zip(grid, rows, strict=True)):
            name = labels("axis.singular_value")
            line[0].set_ylabel(name if len(clips) == 1 else f"{labels.clip(clip)}\n{name}", fontsize="medium")
            for axes, (cell, start) in zip(line, own, strict=False):
                panel = data[(data["cell"] == cell) & (data["start"] == start)]
                if i % len(clips) == 0:
                    panel_title(axes, labels.title(cell, start), look(cell).colour, matrix(panel["gate"].iloc[0]))
                _draw_panel(axes, panel[panel["clip"] == clip])
            for axes in line[len(own) :]:
                axes.set_axis_off()
        _set_axes(grid, data, labels)
        add_caption(figure, data, claims, labels)
        if (data["quantity"] == "clipped").any():
            rug = Line2D([], [], color=shade(GREY), marker="|", linestyle="none", label=labels("note.rug"))
            figure.legend(handles=[rug], loc="outside upper right")
        last = [line[len(own) - 1] for line, (own, _) in zip(grid, rows, strict=True)]
        label_ends(figure, {axes: _ends(axes, labels) for axes in last})
        finish(figure)
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame) -> None:
    if panel.empty:
        return
    colour = look(panel["cell"].iloc[0]).colour
    singular = panel[panel["quantity"] == "singular_value"].pivot(index="iteration", columns="index", values="value")
    iterations, values = singular.index.to_numpy(), singular.to_numpy()
    lines = [np.column_stack([iterations, column]) for column in values.T]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=thin(0.25), alpha=0.3), autolim=True)
    for column, width in ((values[:, 0], 1.0), (np.median(values, axis=1), 0.7), (values[:, -1], 0.7)):
        axes.plot(iterations, column, color=colour, linewidth=thin(width), **mark_alone(iterations))
    clipped = panel.loc[panel["quantity"] == "clipped", "iteration"]
    axes.vlines(clipped, 0, 0.04, color=shade(GREY), linewidth=thin(0.3), transform=axes.get_xaxis_transform())
    axes.axhline(1, color=shade(BLACK), linestyle="--", linewidth=thin(0.5))


def _set_axes(grid: np.ndarray, data: pd.DataFrame, labels: Labels) -> None:
    values = data.loc[
        (data["quantity"] == "singular_value") & (data["value"] > 0) & np.isfinite(data["value"]), "value"
    ]
    if len(values):
        grid[0, 0].set_ylim(max(values.min(), SMALLEST) / 1.5, max(values.max(), 1) * 1.3)
    log_scale(grid[0, 0])
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    label_lowest(grid, labels("axis.iteration"))


def _ends(axes: Axes, labels: Labels) -> list[EndLabel]:
    """Names of the three bold lines, for the last panel of a row."""
    keys = ("note.largest", "note.median", "note.smallest")
    return [
        EndLabel(float(np.asarray(line.get_ydata())[-1]), labels(key), str(line.get_color()))
        for key, line in zip(keys, axes.lines, strict=False)
    ]
