"""Heat maps of logarithms of gradients: colours, cells, the bar that explains them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels, wrap
from gradflow.figures.theme import GREY, NOTHING

FAINTEST = 1e-9  # colours end here: below it nothing is learned in any number of iterations
NOTE = 18  # columns of a note above a colour bar, which lies near the figure's edge


def log_colours(log_gradient: pd.Series) -> LogNorm:
    """Whole decades that hold the finite gradients of all panels (up to a factor of two), not below FAINTEST."""
    values = log_gradient[np.isfinite(log_gradient)] / np.log(10)
    low, high = (np.floor(values.min()), np.ceil(values.max() - 0.3)) if len(values) else (-1.0, 0.0)
    return LogNorm(max(10**low, FAINTEST), 10 ** max(high, low + 1, np.log10(FAINTEST) + 1))


def draw_cells(axes: Axes, panel: pd.DataFrame, x: str, y: str, norm: LogNorm) -> None:
    """Draw the column `value` (natural logs): in colour where it is finite, else grey; nothing where no row is.

    Args:
        axes: Where.
        panel: A row per cell.
        x: Its column along the horizontal axis.
        y: Its column along the vertical axis.
        norm: Of the gradients themselves.
    """
    cells = panel.pivot(index=y, columns=x, values="value")
    there = panel.assign(value=np.isfinite(panel["value"]).astype(float)).pivot(index=y, columns=x, values="value")
    columns, rows = cells.columns.to_numpy(), cells.index.to_numpy()
    values, grey = cells.to_numpy(), there.to_numpy() == 0
    if len(columns) == 1:  # a cell needs a width
        columns = columns[0] + np.array([-0.25, 0.25])
        values, grey = np.repeat(values, 2, axis=1), np.repeat(grey, 2, axis=1)
    if len(rows) == 1:  # and a height
        rows = rows[0] + np.array([-0.25, 0.25])
        values, grey = np.repeat(values, 2, axis=0), np.repeat(grey, 2, axis=0)
    kind: dict[str, Any] = {"shading": "nearest", "rasterized": True}
    axes.pcolormesh(columns, rows, np.exp(np.ma.masked_invalid(values)), norm=norm, **kind)
    flat = np.ma.masked_where(~grey, np.ones_like(values))
    axes.pcolormesh(columns, rows, flat, cmap=ListedColormap([NOTHING]), **kind)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def grey_note(values: pd.Series, labels: Labels) -> str:
    """What the grey cells of these natural logs are; empty without any."""
    lost = values[~np.isfinite(values)]
    return "" if lost.empty else labels("note.zero_cells" if (lost == -np.inf).all() else "note.lost_cells")


def add_colour_bar(
    figure: Figure, axes: Iterable[Axes], values: pd.Series, norm: LogNorm, label: str, note: str = ""
) -> Colorbar:
    """A colour bar beside these axes, pointed where values (natural logs) go beyond it.

    Args:
        figure: Where.
        axes: Those that make room for it.
        values: All that is drawn.
        norm: Of the gradients themselves.
        label: What is drawn.
        note: Small, above it.
    """
    extend = beyond(np.exp(values[np.isfinite(values)]), norm)
    bar = figure.colorbar(ScalarMappable(norm), ax=list(axes), extend=extend, aspect=28, pad=0.015)
    bar.set_label(label)
    if note:
        bar.ax.set_title(wrap(note, NOTE), fontsize="small", color=GREY)
    return bar


def beyond(values: pd.Series, norm: Normalize) -> str:
    """Which ends of a colour bar are pointed: those beyond which there are values."""
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return ends[bool((values < norm.vmin).any()), bool((values > norm.vmax).any())]
