"""Does depth in layers or depth in time kill the gradient?

Beside the network, where it is one alone: a row is a layer, a column a step back; colour is the norm of the total
gradient. The loss enters at the upper right corner. The two arrows say what one step to the left costs, and one layer
down at the last step, whose column has a frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
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
    """Arrows back in time, and down the last column, which has a frame, with what a step and a layer cost."""
    first, top, column = panel.iloc[0], panel["layer"].max(), 1 / (panel["lag"].max() + 1)
    across = axes.get_yaxis_transform()  # along the axes, and in layers
    seen: dict[str, Any] = {"color": ON_LIGHT, "path_effects": [withStroke(linewidth=thin(1.4), foreground=ON_DARK)]}
    arrow = seen | {"arrowstyle": "-|>", "linewidth": thin(), "shrinkA": 0, "shrinkB": 0}
    costs = {"note.step_back": first["per_step"], "note.layer_down": first["per_layer"]}
    beside, down = 0.985 - column, 1 - column / 2
    lines = {
        "note.step_back": ((max(beside - 0.55, 0.02), top + 0.25), (beside, top + 0.25)),
        "note.layer_down": ((down, -0.35), (down, top + 0.35)),
    }
    places = {"note.step_back": (beside, top - 0.05), "note.layer_down": (beside, (top - 1) / 2)}
    for key, factor in costs.items():
        if np.isfinite(factor) and factor > 0:
            end, start = lines[key]
            axes.annotate("", end, start, xycoords=across, textcoords=across, arrowprops=arrow)
            text = labels(key, factor=format(factor, ".2g"))
            axes.text(*places[key], text, transform=across, ha="right", va="center", fontsize="small", **seen)
    if np.isfinite(first["per_layer"]):
        edge: dict[str, Any] = {"facecolor": "none", "edgecolor": ON_LIGHT, "linewidth": thin(), "clip_on": False}
        frame = Rectangle((1 - column, -0.5), column, top + 1, transform=across, zorder=3, **edge)
        frame.set_path_effects(seen["path_effects"])
        axes.add_patch(frame)
