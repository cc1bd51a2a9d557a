"""Does depth in layers or depth in time kill the gradient?

Beside the network, where it is one alone: a row is a layer, a column a step back; colour is the norm of the total
gradient. The loss enters at the upper right corner. The arrows say what all steps to the left
cost, and all layers down at the last step, whose column has a frame.
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

from gradflow.figures.architecture import beside_a_diagram, draw_stack, hide_measured
from gradflow.figures.catalogue import Labels, short
from gradflow.figures.heat import add_colour_bar, draw_cells, grey_notes, log_colours
from gradflow.figures.layout import add_caption, finish, label_outer
from gradflow.figures.stacked_lattice import ROOM
from gradflow.figures.stacked_lattice.numbers import cost_of_all
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
        notes = grey_notes(data["value"], labels) + (_each(data, labels) if diagram is not None else [])
        notes += [labels("note.many_steps")] if data["many_steps"].any() else []
        add_caption(figure, data, claims, labels, notes=notes, steps=ROOM.steps)
        finish(figure)
        hide_measured(figure, diagram)
    return figure


def _each(panel: pd.DataFrame, labels: Labels) -> list[str]:
    """That a layer costs about what a step costs, where it does; only their numbers differ."""
    step, layer = panel.iloc[0][["per_step", "per_layer"]]
    return [labels("note.each", step=short(step), layer=short(layer))] if _is_a_factor(step * layer) else []


def _point_out_costs(axes: Axes, panel: pd.DataFrame, labels: Labels) -> None:
    """Arrows back in time, and down the last column, which has a frame, with what all steps and all layers cost."""
    back, down = cost_of_all(panel)
    top, lag = int(panel["layer"].max()), int(panel["lag"].max())
    column = 1 / (lag + 1)
    beside = 0.985 - column
    if _is_a_factor(back):
        _draw_arrow(axes, (beside, top + 0.25), (0.02, top + 0.25))
        _write(axes, beside, top - 0.05, labels("note.steps_back", steps=str(lag), factor=short(back)))
    if _is_a_factor(down):
        _frame(axes, 1 - column, column, top)
        _write(axes, beside, (top - 1) / 2, labels("note.layers_down", layers=str(top), factor=short(down)))


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


def _write(axes: Axes, x: float, y: float, text: str) -> None:
    seen: dict[str, Any] = {"color": ON_LIGHT, "path_effects": _halo(), "fontsize": "small", "va": "center"}
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha="right", **seen)


def _halo() -> list[AbstractPathEffect]:
    return [withStroke(linewidth=thin(1.4), foreground=ON_DARK)]
