"""How does gradient flow through time change while the network learns?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, facet_grid, finish, label_outer, limit_loss, mark_top_edge
from gradflow.figures.style import GREY, NOTHING, look, style, thin

MOST_COLUMNS = 5
FAINTEST = 1e-9  # colours end here: below it nothing is learned in any number of iterations


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
        relative: Whether it is relative to the last step; it decides the label only.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure, grid, panels = facet_grid(data, labels, most=MOST_COLUMNS, heights=(3, 1.2))
        norm = log_colours(data.loc[data["quantity"] == "gradient", "value"])
        for row in grid[1::2]:
            limit_loss(row[0], data[data["quantity"] == "loss"], ticks=2)
        for (image, panel), below in zip(panels.items(), grid[1::2].flat, strict=False):
            gradient, loss = (panel[panel["quantity"] == quantity] for quantity in ("gradient", "loss"))
            _draw_image(image, gradient.pivot(index="lag", columns="iteration", values="value"), norm)
            _draw_loss(below, loss, panel.iloc[0])
        label_outer(grid, labels("axis.iteration"), labels("axis.lag_short"))
        _label_losses(grid[1::2], data, labels)
        _add_colour_bar(figure, grid, data, norm, labels, relative)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def log_colours(log_gradient: pd.Series) -> LogNorm:
    """Whole decades that hold the finite gradients of all panels (up to a factor of two), not below FAINTEST."""
    values = log_gradient[np.isfinite(log_gradient)] / np.log(10)
    low, high = (np.floor(values.min()), np.ceil(values.max() - 0.3)) if len(values) else (-1.0, 0.0)
    return LogNorm(max(10**low, FAINTEST), 10 ** max(high, low + 1, np.log10(FAINTEST) + 1))


def _draw_image(axes: Axes, gradient: pd.DataFrame, norm: LogNorm) -> None:
    values, lags, iterations = gradient.to_numpy(), gradient.index.to_numpy(), gradient.columns.to_numpy()
    if len(iterations) == 1:  # a cell needs a width
        iterations, values = np.array([iterations[0], iterations[0] + 1]), np.repeat(values, 2, axis=1)
    kind: dict[str, Any] = {"shading": "nearest", "rasterized": True}
    shown = np.exp(np.ma.masked_invalid(values))
    axes.pcolormesh(iterations, lags, shown, norm=norm, **kind)
    zero = np.ma.masked_where(values != -np.inf, np.ones_like(values))
    axes.pcolormesh(iterations, lags, zero, cmap=ListedColormap([NOTHING]), **kind)
    axes.set_ylim(lags.max() + 0.5, lags.min() - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.spines[:].set_visible(False)
    axes.grid(False)


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


def _add_colour_bar(
    figure: Figure, grid: np.ndarray, data: pd.DataFrame, norm: LogNorm, labels: Labels, relative: bool
) -> None:
    gradient = data.loc[data["quantity"] == "gradient", "value"]
    shown = np.exp(gradient[np.isfinite(gradient)])
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    beyond = extend[bool((shown < norm.vmin).any()), bool((shown > norm.vmax).any())]
    bar = figure.colorbar(ScalarMappable(norm), ax=grid, extend=beyond, aspect=30, pad=0.015)
    bar.set_label(labels("axis.relative_gradient" if relative else "axis.absolute_gradient"))
    if (gradient == -np.inf).any():
        bar.ax.set_title(labels("note.zero_cells"), fontsize="small", color=GREY)
