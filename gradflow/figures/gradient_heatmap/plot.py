"""How does gradient flow through time change while the network learns?

Up, steps back from the end; across, training; colour is the gradient relative to that at the end, on one scale for all
panels; grey is zero, red is more than at the end. Below each, its loss, and chance dotted. The loss leaves the dotted
line when the bright region has reached the far end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.checks import check_flags
from gradflow.figures.by_lag import of_lag
from gradflow.figures.catalogue import Labels
from gradflow.figures.heat import add_colour_bar, draw_cells, grey_notes, log_colours, ratio_colours
from gradflow.figures.layout import add_caption, facet_grid, finish, label_outer, limit_loss, mark_alone, mark_top_edge
from gradflow.figures.theme import GREY, look, shade, style, thin

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
    check_flags(relative=relative)
    labels = Labels(lang)
    with style(lang, context):
        loss = data[data["quantity"] == "loss"]
        figure, grid, panels = facet_grid(data, labels, most=MOST_COLUMNS, heights=(3, 1.2) if len(loss) else (1,))
        gradient = data.loc[data["quantity"] == "gradient", "value"]
        norm = log_colours(gradient)
        colours = ratio_colours(norm) if relative else None
        for image, panel in panels.items():
            draw_gradient(image, panel[panel["quantity"] == "gradient"], norm, colours)
        label_outer(grid, labels("axis.iteration"), labels("axis.lag_short"))
        if len(loss):
            _draw_losses(grid[1::2], list(panels.values()), loss, labels)
        words = of_lag(data[data["quantity"] == "gradient"], labels)
        label = words.gradient if relative else labels("axis.absolute_gradient")
        add_colour_bar(figure, grid.flat, gradient, norm, label, colours)
        add_caption(figure, data, claims, labels, notes=words.notes + grey_notes(gradient, labels))
        finish(figure)
    return figure


def draw_gradient(axes: Axes, gradient: pd.DataFrame, norm: LogNorm, colours: Colormap | None = None) -> None:
    """Draw the gradient over iteration and lag, the last step on top."""
    draw_cells(axes, gradient, "iteration", "lag", norm, colours)
    axes.set_ylim(gradient["lag"].max() + 0.5, gradient["lag"].min() - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _draw_losses(losses: np.ndarray, panels: Sequence[pd.DataFrame], loss: pd.DataFrame, labels: Labels) -> None:
    """Under each panel its own."""
    for row in losses:
        limit_loss(row[0], loss, ticks=2)
    for below, panel in zip(losses.flat, panels, strict=False):
        _draw_loss(below, panel[panel["quantity"] == "loss"], panel.iloc[0])
    _label_losses(losses, loss, labels)


def _draw_loss(axes: Axes, loss: pd.DataFrame, first: pd.Series) -> None:
    colour = look(first["cell"]).colour
    axes.plot(loss["iteration"], loss["value"], color=colour, linewidth=thin(0.7), **mark_alone(loss))
    axes.axhline(first["chance_loss"], color=shade(GREY), linestyle=":", linewidth=thin())
    mark_top_edge(axes, loss.loc[loss["non_finite"] > 0, "iteration"], colour)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    axes.grid(False)


def _label_losses(losses: np.ndarray, data: pd.DataFrame, labels: Labels) -> None:
    for axes in losses[:, 0]:
        axes.set_ylabel(labels("axis.loss"))
    chance = data["chance_loss"].iloc[0]
    if np.isfinite(chance):
        place: dict[str, Any] = {"xy": (1, chance), "xycoords": ("axes fraction", "data"), "xytext": (0, 1)}
        place |= {"textcoords": "offset points", "ha": "right", "va": "bottom"}
        losses[0, 0].annotate(labels("note.chance"), color=shade(GREY), fontsize="small", **place)
