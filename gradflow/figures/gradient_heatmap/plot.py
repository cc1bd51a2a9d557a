"""How does gradient flow through time change while the network learns?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.by_lag import of_lag
from gradflow.figures.catalogue import Labels
from gradflow.figures.heat import add_colour_bar, draw_cells, grey_notes, log_colours
from gradflow.figures.layout import add_caption, facet_grid, finish, label_outer, limit_loss, mark_top_edge
from gradflow.figures.theme import GREY, look, style, thin

MOST_COLUMNS = 5


def plot_gradient_heatmap(
    data: pd.DataFrame,
    *,
    relative: bool = True,
    claims: Sequence[Mapping[str, Any]] = (),
    lang: str = "en",
    context: str = "slide",
) -> Figure:
    """Draw gradient (colour) over lag and training iteration, the loss under it: a panel per cell and start.

    Args:
        data: What :func:`gradflow.analysis.gradient_heatmap` returned.
        relative: Whether it is relative to lag 0; it decides the label only.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure, grid, panels = facet_grid(data, labels, most=MOST_COLUMNS, heights=(3, 1.2))
        gradient = data.loc[data["quantity"] == "gradient", "value"]
        norm = log_colours(gradient)
        for row in grid[1::2]:
            limit_loss(row[0], data[data["quantity"] == "loss"], ticks=2)
        for (image, panel), below in zip(panels.items(), grid[1::2].flat, strict=False):
            draw_gradient(image, panel[panel["quantity"] == "gradient"], norm)
            _draw_loss(below, panel[panel["quantity"] == "loss"], panel.iloc[0])
        label_outer(grid, labels("axis.iteration"), labels("axis.lag_short"))
        _label_losses(grid[1::2], data, labels)
        words = of_lag(data[data["quantity"] == "gradient"], labels)
        label = words.gradient if relative else labels("axis.absolute_gradient")
        add_colour_bar(figure, grid.flat, gradient, norm, label)
        add_caption(figure, data, claims, labels, notes=words.notes + grey_notes(gradient, labels))
        finish(figure)
    return figure


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
    axes.grid(False)


def _label_losses(losses: np.ndarray, data: pd.DataFrame, labels: Labels) -> None:
    for axes in losses[:, 0]:
        axes.set_ylabel(labels("axis.loss"))
    chance = data["chance_loss"].iloc[0]
    if np.isfinite(chance):
        place: dict[str, Any] = {"xy": (1, chance), "xycoords": ("axes fraction", "data"), "xytext": (0, 1)}
        place |= {"textcoords": "offset points", "ha": "right", "va": "bottom"}
        losses[0, 0].annotate(labels("note.chance"), color=GREY, fontsize="small", **place)
