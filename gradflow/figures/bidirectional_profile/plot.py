"""Which positions does a bidirectional network still hear?

Across, the position in the sequence; up, the norm of the total gradient there, logarithmic. Solid is the forward
direction, dashed the reverse, the grey band both together. Where the band dips, the loss hardly depends on what stands
there; the arrow says by how much. With a read-out of both ends the dip lies in the middle.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradflow.analysis.by_lag import SHORT
from gradflow.figures.architecture import beside_a_diagram, draw_directions, hide_measured
from gradflow.figures.bidirectional_profile import ROOM
from gradflow.figures.bidirectional_profile.numbers import VALLEY
from gradflow.figures.catalogue import Labels, short
from gradflow.figures.layout import add_caption, finish, label_outer, log_scale, mark_alone, top_legend
from gradflow.figures.theme import BLACK, DASHES, GREY, PALE, look, shade, style, thin, under_words

LINES: dict[str, tuple[float, Any, str]] = {
    "both": (3.6, DASHES[0], PALE),
    "forward": (1.0, DASHES[0], ""),
    "reverse": (1.0, DASHES[1], ""),
}
"""Width, line style and, unless it is the cell's, colour; in the order of drawing."""


def plot_bidirectional_profile(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the gradient of either direction, and of both, against position: a panel per cell and start.

    One network has its diagram beside it.

    Args:
        data: What :func:`gradflow.analysis.bidirectional_profile` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure, diagram, grid, panels = beside_a_diagram(data, labels)
        if diagram is not None:
            draw_directions(diagram, read_at_ends=bool(data["read_at_ends"].all()))
        for axes, panel in panels.items():
            _draw_panel(axes, panel)
            _measure_valley(axes, panel)
        log_scale(grid[0, 0])
        grid[0, 0].set_xlim(0, max(data["time"].max(), 1))
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        label_outer(grid, labels("axis.time"), labels("axis.state_gradient"))
        _add_legend(figure, data, labels)
        add_caption(figure, data, claims, labels, steps=ROOM.steps)
        finish(figure)
        hide_measured(figure, diagram)
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame) -> None:
    for quantity, (width, dash, colour) in LINES.items():
        curve = panel[panel["quantity"] == quantity].sort_values("time")
        values = np.exp(curve["log_median"].where(np.isfinite(curve["log_median"])))
        colour = shade(colour) or look(panel["cell"].iloc[0]).colour
        axes.plot(curve["time"], values, color=colour, linestyle=dash, linewidth=thin(width), **mark_alone(curve))


def _measure_valley(axes: Axes, panel: pd.DataFrame) -> None:
    """An arrow from the height of the loudest position down to the quietest, where that is a valley between two."""
    log = panel[panel["quantity"] == "both"].set_index("time")["log_median"].sort_index()
    log = log[np.isfinite(log)]
    if len(log) < SHORT or log.min() - log.max() > np.log(VALLEY):
        return
    place, top, bottom = log.idxmin(), np.exp(log.max()), np.exp(log.min())
    if not 0.25 <= place / log.index.max() <= 0.75:
        return
    axes.axhline(top, color=shade(GREY), linewidth=thin(0.5), linestyle=DASHES[2], zorder=1)
    arrow = {"arrowstyle": "-|>", "color": shade(GREY), "linewidth": thin(0.6), "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (place, bottom), (place, top), arrowprops=arrow)
    text = f"×{short(bottom / top)}"
    middle = np.exp(0.3 * log.min() + 0.7 * log.max())
    axes.annotate(text, (place, middle), (0.5, 0), textcoords="offset fontsize", va="center", bbox=under_words())


def _add_legend(figure: Figure, data: pd.DataFrame, labels: Labels) -> None:
    cells = data["cell"].unique()
    own = look(cells[0]).colour if len(cells) == 1 else shade(BLACK)
    handles = [
        Line2D(
            [],
            [],
            color=shade(colour) or own,
            linestyle=dash,
            linewidth=thin(width),
            label=labels(f"curve.direction_{quantity}"),
        )
        for quantity, (width, dash, colour) in (*list(LINES.items())[1:], ("both", LINES["both"]))
    ]
    top_legend(figure, handles, handlelength=2.8)
