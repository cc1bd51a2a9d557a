"""Does depth in layers or depth in time kill the gradient?

Beside the network, where it is one alone: a row is a layer, a column a step back; colour is the norm of the total
gradient. The loss enters at the upper right corner. The two arrows say what one step to the left and one layer down
costs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from gradflow.figures.architecture import beside_a_diagram, draw_stack, hide_measured
from gradflow.figures.catalogue import Labels
from gradflow.figures.heat import add_colour_bar, draw_cells, grey_notes, log_colours
from gradflow.figures.layout import add_caption, finish, label_outer
from gradflow.figures.stacked_lattice import ROOM
from gradflow.figures.theme import ON_DARK, ON_LIGHT, style, thin


def plot_stacked_lattice(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the gradient (colour) over layers and lag, the last step at the right: a panel per cell and start.

    One network has its diagram beside it.

    Args:
        data: What :func:`gradflow.analysis.stacked_lattice` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure, diagram, grid, panels = beside_a_diagram(data, labels, most=2)
        norm = log_colours(data["value"])
        for axes, panel in panels.items():
            draw_cells(axes, panel, "lag", "layer", norm)
            _point_out_costs(axes, panel, labels)
        layers = int(data["layer"].max())
        if diagram is not None:
            draw_stack(diagram, layers + 1)
        grid[0, 0].set_xlim(data["lag"].max() + 0.5, -0.5)
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        grid[0, 0].set_yticks(range(layers + 1), [str(layer + 1) for layer in range(layers + 1)])
        label_outer(grid, labels("axis.lag"), labels("axis.layer"))
        add_colour_bar(figure, grid.flat, data["value"], norm, labels("axis.state_gradient"))
        notes = grey_notes(data["value"], labels)
        notes += [labels("note.many_steps")] if data["many_steps"].any() else []
        add_caption(figure, data, claims, labels, notes=notes, steps=ROOM.steps)
        finish(figure)
        hide_measured(figure, diagram)
    return figure


def _point_out_costs(axes: Axes, panel: pd.DataFrame, labels: Labels) -> None:
    """Arrows down the layers and back in time, from the top layer's end, with what a layer and a step cost."""
    first, top = panel.iloc[0], panel["layer"].max()
    across = axes.get_yaxis_transform()  # along the axes, and in layers
    seen: dict[str, Any] = {"color": ON_LIGHT, "path_effects": [withStroke(linewidth=thin(1.4), foreground=ON_DARK)]}
    arrow = seen | {"arrowstyle": "-|>", "linewidth": thin(), "shrinkA": 0, "shrinkB": 0}
    costs = {"note.step_back": first["per_step"], "note.layer_down": first["per_layer"]}
    lines = {"note.step_back": ((0.4, top + 0.25), (0.94, top + 0.25)), "note.layer_down": ((0.97, -0.35), (0.97, top))}
    places = {"note.step_back": (0.94, top - 0.05), "note.layer_down": (0.94, 0)}
    for key, factor in costs.items():
        if np.isfinite(factor) and factor > 0:
            end, start = lines[key]
            axes.annotate("", end, start, xycoords=across, textcoords=across, arrowprops=arrow)
            decades = format(round(np.log10(factor), 2) + 0.0, "+.2f").replace("-", "−")  # + 0.0: there is a -0.0
            text = labels(key, factor=format(factor, ".2g"), decades=decades)
            axes.text(*places[key], text, transform=across, ha="right", va="center", fontsize="small", **seen)
