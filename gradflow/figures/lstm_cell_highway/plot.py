"""Is the gradient through the cell really just the product of forget gates?

Gradient norms against the steps back, logarithmic, a panel per bias of the forget gate. The solid line is the cell's
own path, the product of the forget gates; broad and grey is what their bias says of it. Dashed is the whole gradient of
the cell: what lies between the two comes through the other gates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, facet_grid, finish, label_outer, log_scale, mark_alone, top_legend
from gradflow.figures.theme import DASHES, GREY, PALE, look, shade, style, thin

WIDTHS = {"gate": 3.0, "cell": 0.6, "state": 1.2, "path": 1.2}
"""In the order of drawing: what the gates alone would give lies behind, broad; what it is held against is in front."""


def plot_lstm_cell_highway(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the path through the cells, the whole gradient of c beside it, and σ(b)^k: a panel per cell and start.

    Where there is no gradient of c, as in a GRU, that of the hidden state takes the place of both.

    Args:
        data: What :func:`gradflow.analysis.lstm_cell_highway` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    labels, data = Labels(lang), _shown(data)
    with style(lang, context):
        figure, grid, panels = facet_grid(data, labels)
        for axes, panel in panels.items():
            _draw_panel(axes, panel, labels)
        log_scale(grid[0, 0])
        grid[0, 0].set_xlim(0, max(data["lag"].max(), 1))
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        label_outer(grid, labels("axis.lag" if grid.shape[1] < 3 else "axis.lag_short"), labels("axis.gradient_norm"))
        _add_legend(figure, data, labels)
        notes = [labels("note.many_steps")] if data["many_steps"].any() else []
        add_caption(figure, data, claims, labels, notes)
        finish(figure)
    return figure


def _shown(data: pd.DataFrame) -> pd.DataFrame:
    """Without the gradient of h where there is one of c."""
    known = (data["quantity"] == "cell") & np.isfinite(data["log_median"])
    beside = known.groupby([data["cell"], data["start"]], sort=False, dropna=False).transform("any")
    return data[(data["quantity"] != "state") | ~beside]


def _draw_panel(axes: Axes, panel: pd.DataFrame, labels: Labels) -> None:
    notes = []
    for quantity, width in WIDTHS.items():
        curve = panel[panel["quantity"] == quantity].sort_values("lag")
        if curve.empty or not np.isfinite(curve["log_median"]).any():
            continue
        colour, dash = _look(quantity, panel["cell"].iloc[0])
        values = np.exp(curve["log_median"].where(np.isfinite(curve["log_median"])))
        axes.plot(curve["lag"], values, color=colour, linestyle=dash, linewidth=thin(width), **mark_alone(curve))
        if quantity != "gate" and np.isfinite(curve["factor"].iloc[0]):
            notes.append((curve["factor"].iloc[0], colour))
    for i, (factor, colour) in enumerate(notes):
        text, height = labels("curve.factor", factor=format(factor, ".2f")), 0.04 + 0.085 * i
        axes.text(0.04, height, text, transform=axes.transAxes, color=colour, fontsize="small")


def _look(quantity: str, cell: str) -> tuple[str, Any]:
    colour = look(cell).colour
    return {
        "cell": (shade(GREY), DASHES[1]),
        "state": (colour, DASHES[0]),
        "path": (colour, DASHES[0]),
        "gate": (shade(PALE), DASHES[0]),
    }[quantity]


def _add_legend(figure: Figure, data: pd.DataFrame, labels: Labels) -> None:
    handles = []
    for quantity, width in reversed(WIDTHS.items()):
        own = data[(data["quantity"] == quantity) & np.isfinite(data["log_median"])]
        if len(own):
            cells = own["cell"].unique()
            colour, dash = _look(quantity, cells[0])
            colour = colour if len(cells) == 1 or quantity != "state" else shade(GREY)
            text = labels(f"curve.highway_{quantity}")
            handles.append(Line2D([], [], color=colour, linestyle=dash, linewidth=thin(width), label=text))
    top_legend(figure, handles, handlelength=2.8)
