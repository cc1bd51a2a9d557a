"""Heat maps of logarithms of gradients: colours, cells, the bar that explains them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels
from gradflow.figures.theme import NOTHING, ON_LIGHT, shade, thin

GROWN, OVER, _COLOURS = (0.45, 1.0), "#F16043", 256  # of OrRd: what is above 1, and that within a factor of two
FAINTEST = 1e-9  # colours end here: below it nothing is learned in any number of iterations


def log_colours(log_gradient: pd.Series) -> LogNorm:
    """Whole decades that hold the finite gradients of all panels (up to a factor of two), not below FAINTEST."""
    values = log_gradient[np.isfinite(log_gradient)] / np.log(10)
    low, high = (np.floor(values.min()), np.ceil(values.max() - 0.3)) if len(values) else (-1.0, 0.0)
    return LogNorm(max(10**low, FAINTEST), 10 ** max(high, low + 1, np.log10(FAINTEST) + 1))


def ratio_colours(norm: LogNorm) -> Colormap:
    """Viridis up to 1, where it is brightest; what exceeds 1 is red, darker with its size.

    Args:
        norm: Of the ratios.
    """
    assert norm.vmin is not None
    assert norm.vmax is not None
    below = round(float(np.clip(np.log(1 / norm.vmin) / np.log(norm.vmax / norm.vmin), 0, 1)) * _COLOURS)
    parts = [colormaps["viridis"](np.linspace(0, 1, below)), colormaps["OrRd"](np.linspace(*GROWN, _COLOURS - below))]
    return ListedColormap(np.concatenate(parts)).with_extremes(under=parts[0][0] if below else None, over=OVER)


def draw_cells(axes: Axes, panel: pd.DataFrame, x: str, y: str, norm: LogNorm, colours: Colormap | None = None) -> None:
    """Draw the column `value` (natural logs): in colour where it is finite, else grey; nothing where no row is.

    Args:
        axes: Where.
        panel: A row per cell.
        x: Its column along the horizontal axis.
        y: Its column along the vertical axis.
        norm: Of the gradients themselves.
        colours: Of ratios, :func:`ratio_colours`; None is viridis.
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
    axes.pcolormesh(columns, rows, np.exp(np.ma.masked_invalid(values)), norm=norm, cmap=colours, **kind)
    flat = np.ma.masked_where(~grey, np.ones_like(values))
    axes.pcolormesh(columns, rows, flat, cmap=ListedColormap([shade(NOTHING)]), **kind)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def grey_notes(values: pd.Series, labels: Labels) -> list[str]:
    """For the caption: what the grey cells of these natural logs are; nothing without any."""
    lost = values[~np.isfinite(values)]
    if lost.empty:
        return []
    note = labels("note.zero_cells" if (lost == -np.inf).all() else "note.lost_cells")
    return [labels("claim.setting", setting=note[0].upper() + note[1:])]


def add_colour_bar(
    figure: Figure,
    axes: Iterable[Axes],
    values: pd.Series,
    norm: LogNorm,
    label: str,
    colours: Colormap | None = None,
) -> Colorbar:
    """A colour bar beside these axes, pointed where values (natural logs) go beyond it; of ratios 1 is marked.

    Args:
        figure: Where.
        axes: Those that make room for it.
        values: All that is drawn.
        norm: Of the gradients themselves.
        label: What is drawn.
        colours: Of ratios, :func:`ratio_colours`; None is viridis.
    """
    extend = beyond(np.exp(values[np.isfinite(values)]), norm)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=list(axes), extend=extend, aspect=28, pad=0.015)
    bar.set_label(label)
    if colours is not None:
        bar.ax.axhline(1, color=ON_LIGHT, linewidth=thin())
    return bar


def beyond(values: pd.Series, norm: Normalize) -> str:
    """Which ends of a colour bar are pointed: those beyond which there are values."""
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return ends[bool((values < norm.vmin).any()), bool((values > norm.vmax).any())]
