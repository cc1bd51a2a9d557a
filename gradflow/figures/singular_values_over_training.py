"""Does training push the spectrum of the recurrent weights over 1?"""

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
    distinct,
    finish,
    label_ends,
    log_scale,
    panels_of,
)
from gradflow.figures.style import BLACK, GREY, look, new_figure, style, thin

SMALLEST = 1e-4  # singular values below do not stretch the axis further


def plot_singular_values_over_training(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw all singular values against training iteration: a column per cell and start, a row per clipping.

    Args:
        data: What :func:`gradflow.analysis.singular_values_over_training` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    clips = distinct(data, "clip")
    columns = panels_of(data)
    with style(lang, context):
        figure = new_figure(1.0 if len(columns) == 1 else 1.2, 1.0 if len(clips) == 1 else 0.35 + 0.4 * len(clips))
        grid = figure.subplots(len(clips), len(columns), sharex=True, sharey=True, squeeze=False)
        for row, clip in zip(grid, clips, strict=True):
            name = labels("axis.singular_value")
            row[0].set_ylabel(name if len(clips) == 1 else f"{labels.clip(clip)}\n{name}", fontsize="medium")
            for axes, (cell, start) in zip(row, columns, strict=True):
                _draw_panel(axes, data[(data["cell"] == cell) & (data["start"] == start) & (data["clip"] == clip)])
        _set_axes(grid, data, columns, labels)
        add_caption(figure, data, claims, labels)
        if (data["quantity"] == "clipped").any():
            rug = Line2D([], [], color=GREY, marker="|", linestyle="none", label=labels("note.rug"))
            figure.legend(handles=[rug], loc="outside upper right")
        label_ends(figure, {row[-1]: _ends(row[-1], labels) for row in grid})
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
        axes.plot(iterations, column, color=colour, linewidth=thin(width))
    clipped = panel.loc[panel["quantity"] == "clipped", "iteration"]
    axes.vlines(clipped, 0, 0.04, color=GREY, linewidth=thin(0.3), transform=axes.get_xaxis_transform())
    axes.axhline(1, color=BLACK, linestyle="--", linewidth=thin(0.5))


def _set_axes(grid: np.ndarray, data: pd.DataFrame, columns: Sequence[tuple[str, str]], labels: Labels) -> None:
    values = data.loc[
        (data["quantity"] == "singular_value") & (data["value"] > 0) & np.isfinite(data["value"]), "value"
    ]
    if len(values):
        grid[0, 0].set_ylim(max(values.min(), SMALLEST) / 1.5, max(values.max(), 1) * 1.3)
    log_scale(grid[0, 0])
    for axes, (cell, start) in zip(grid[0], columns, strict=True):
        gate = data.loc[data["cell"] == cell, "gate"].iloc[0]
        axes.set_title(f"{labels.title(cell, start)}\n{matrix(gate)}", color=look(cell).colour)
    for axes in grid[-1]:
        axes.set_xlabel(labels("axis.iteration"))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))


def _ends(axes: Axes, labels: Labels) -> list[EndLabel]:
    """Names of the three bold lines, for the last panel of a row."""
    keys = ("note.largest", "note.median", "note.smallest")
    return [
        EndLabel(float(np.asarray(line.get_ydata())[-1]), labels(key), str(line.get_color()))
        for key, line in zip(keys, axes.lines, strict=False)
    ]
