"""Does depth in layers or depth in time kill the gradient?

Beside the network, where it is one alone: a row is a layer, a column a step back; colour is the norm of the total
gradient. The loss enters at the upper right corner. The arrows say what one step to the left costs, and one layer down
at the last step and, of one network alone, at the first, whose columns have frames: far from the loss it is another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import MaxNLocator

from gradflow.analysis.by_lag import SHORT
from gradflow.figures.architecture import beside_a_diagram, draw_stack, hide_measured
from gradflow.figures.catalogue import Labels
from gradflow.figures.heat import add_colour_bar, draw_cells, grey_notes, log_colours
from gradflow.figures.layout import add_caption, finish, label_outer
from gradflow.figures.stacked_lattice import ROOM
from gradflow.figures.stacked_lattice.numbers import per_layer
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
            _point_out_costs(axes, panel, labels, both_ends=diagram is not None and panel["lag"].max() >= SHORT)
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


def _point_out_costs(axes: Axes, panel: pd.DataFrame, labels: Labels, *, both_ends: bool) -> None:
    """Arrows back in time, and down the last column, which has a frame, with what a step and a layer cost.

    With `both_ends` down the first column too: what a layer costs is another thing there.
    """
    top, column = panel["layer"].max(), 1 / (panel["lag"].max() + 1)
    costs = panel.iloc[0]
    beside = 0.985 - column
    if _is_a_factor(costs["per_step"]):
        _draw_arrow(axes, (beside, top + 0.25), (max(beside - 0.55, 0.02), top + 0.25))
        _write(axes, beside, top - 0.05, "note.step_back", costs["per_step"], labels)
    if _is_a_factor(costs["per_layer"]):
        _frame(axes, 1 - column, column, top)
        _write(axes, beside, (top - 1) / 2, "note.layer_down", costs["per_layer"], labels)
    if both_ends and _is_a_factor(far := per_layer(panel[panel["lag"] == panel["lag"].max()])):
        _frame(axes, 0, column, top)
        _write(axes, 1 - beside, (top - 1) / 2, "note.layer_down_first", far, labels, align="left")


def _is_a_factor(value: float) -> bool:
    return bool(np.isfinite(value) and value > 0)


def _frame(axes: Axes, left: float, width: float, top: int) -> None:
    """Around a column, with an arrow down it."""
    edge: dict[str, Any] = {"facecolor": "none", "edgecolor": ON_LIGHT, "linewidth": thin(), "clip_on": False}
    frame = Rectangle((left, -0.5), width, top + 1, transform=axes.get_yaxis_transform(), zorder=3, **edge)
    frame.set_path_effects(_halo())
    axes.add_patch(frame)
    _draw_arrow(axes, (left + width / 2, top + 0.35), (left + width / 2, -0.35))


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    across = axes.get_yaxis_transform()  # along the axes, and in layers
    arrow = {"arrowstyle": "-|>", "linewidth": thin(), "shrinkA": 0, "shrinkB": 0}
    arrow |= {"color": ON_LIGHT, "path_effects": _halo()}
    axes.annotate("", end, start, xycoords=across, textcoords=across, arrowprops=arrow)


def _write(axes: Axes, x: float, y: float, key: str, factor: float, labels: Labels, align: str = "right") -> None:
    seen: dict[str, Any] = {"color": ON_LIGHT, "path_effects": _halo(), "fontsize": "small", "va": "center"}
    text = labels(key, factor=format(factor, ".2g"))
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha=align, **seen)


def _halo() -> list[AbstractPathEffect]:
    return [withStroke(linewidth=thin(1.4), foreground=ON_DARK)]
