"""How does gradient flow through time change while the network learns?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels
from gradflow.figures.heat import add_colour_bar, draw_cells, grey_note, log_colours
from gradflow.figures.layout import add_caption, distinct, finish, limit_loss, mark_top_edge
from gradflow.figures.style import GREY, look, new_figure, style, thin


def plot_gradient_heatmap(
    data: pd.DataFrame,
    *,
    relative: bool = True,
    claims: Sequence[Mapping[str, Any]] = (),
    lang: str = "en",
    context: str = "slide",
) -> Figure:
    """Draw gradient (colour) over lag and training iteration, the loss under it: a column per cell.

    Args:
        data: What :func:`gradflow.analysis.gradient_heatmap` returned.
        relative: Whether it is relative to the last step; it decides the label only.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: Runs of one cell and initialisation differ in its gain or bias.
    """
    labels = Labels(lang)
    rows = [(i, c) for i in distinct(data, "init") for c in distinct(data, "clip")]
    cells = distinct(data, "cell")
    with style(lang, context):
        figure = new_figure(1.0 if len(cells) == 1 else 1.2, 1.0 if len(rows) == 1 else 1.2)
        grid = figure.subplots(
            2 * len(rows), len(cells), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1.2] * len(rows)
        )
        gradient = data.loc[data["quantity"] == "gradient", "value"]
        norm = log_colours(gradient)
        for j, cell in enumerate(cells):
            for i, (init, clip) in enumerate(rows):
                panel = data[(data["cell"] == cell) & (data["init"] == init) & (data["clip"] == clip)]
                _draw_panel(grid[2 * i, j], grid[2 * i + 1, j], panel, norm, labels)
            grid[-1, j].set_xlabel(labels("axis.iteration"))
        for row in grid[1::2]:
            limit_loss(row[0], data[data["quantity"] == "loss"])
        _label_rows(grid, data, labels)
        label = labels("axis.relative_gradient" if relative else "axis.absolute_gradient")
        add_colour_bar(figure, grid.flat, gradient, norm, label, grey_note(gradient, labels))
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_panel(image: Axes, loss: Axes, panel: pd.DataFrame, norm: LogNorm, labels: Labels) -> None:
    loss.grid(False)
    if panel.empty:
        image.set_axis_off()
        loss.set_axis_off()
        return
    starts = sorted(panel["start"].unique())
    if len(starts) > 1:
        raise ValueError(f"data: expected one start per cell and initialisation, got {starts}; draw them one by one")
    first = panel.iloc[0]
    name = labels.title(first["cell"], first["start"])
    image.set_title(name, fontsize="medium", color=look(first["cell"]).colour)
    draw_gradient(image, panel[panel["quantity"] == "gradient"], norm)
    _draw_loss(loss, panel[panel["quantity"] == "loss"], first)


def draw_gradient(axes: Axes, gradient: pd.DataFrame, norm: LogNorm) -> None:
    """Draw the gradient over iteration and lag, the last step on top."""
    draw_cells(axes, gradient, "iteration", "lag", norm)
    axes.set_ylim(gradient["lag"].max() + 0.5, gradient["lag"].min() - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _draw_loss(axes: Axes, loss: pd.DataFrame, first: pd.Series) -> None:
    axes.plot(loss["iteration"], loss["value"], color=look(first["cell"]).colour, linewidth=thin(0.7))
    axes.axhline(first["chance_loss"], color=GREY, linestyle=":", linewidth=thin())
    mark_top_edge(axes, loss.loc[loss["non_finite"] > 0, "iteration"], look(first["cell"]).colour)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(2))


def _label_rows(grid: np.ndarray, data: pd.DataFrame, labels: Labels) -> None:
    for i, axes in enumerate(grid[:, 0]):
        axes.set_ylabel(labels("axis.loss") if i % 2 else labels("axis.lag_short"))
    chance = data["chance_loss"].iloc[0]
    if np.isfinite(chance):
        place = {
            "xy": (1, chance),
            "xycoords": ("axes fraction", "data"),
            "xytext": (0, 1),
            "ha": "right",
            "va": "bottom",
        }
        grid[1, 0].annotate(labels("note.chance"), textcoords="offset points", color=GREY, fontsize="x-small", **place)
