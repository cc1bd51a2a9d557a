"""Networks as diagrams beside what is measured of them: a stack of layers, and two directions."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels
from gradflow.figures.diagram import Node, arrow, box, canvas, write
from gradflow.figures.layout import check_one_clipping, facet_grid, panel_title, panels_of
from gradflow.figures.options import built, in_force
from gradflow.figures.theme import GREY, look, new_figure

MEASURED = 2  # the part, after the diagram, in which such a figure is built up
SIDE = 7.0, 8.0  # of a diagram
TIMES = (("1", 1.15), ("2", 3.2), ("T", 5.85))
"""Index of the steps that are drawn, and where."""
BETWEEN, WIDTH, HEIGHT, MOST = 4.55, 1.35, 0.95, 4  # where "…" stands; of a state; layers that are drawn
FORWARD, INPUT, REVERSE = 1.9, 4.0, 6.1  # heights of two directions, and between them of what both read


def beside_a_diagram(
    data: pd.DataFrame, labels: Labels, **grid: int
) -> tuple[Figure, Axes | None, np.ndarray, dict[Axes, pd.DataFrame]]:
    """As :func:`facet_grid`, of one network with the canvas of a diagram at its left.

    Raises:
        ValueError: There are several networks, and a step was asked for: they have no diagram.
    """
    panels = panels_of(data)
    if len(panels) > 1:
        if in_force().step is not None:
            raise ValueError(f"step: expected none for {len(panels)} networks, which have no diagram; draw one network")
        figure, axes, own = facet_grid(data, labels, **grid)
        return figure, None, axes, own
    check_one_clipping(data)
    figure = new_figure(1.2)
    places = figure.add_gridspec(1, 2, width_ratios=[1, 1.45])
    diagram, measured = canvas(figure, *SIDE, place=places[0]), figure.add_subplot(places[1])
    [(cell, start)] = panels
    panel_title(measured, labels.title(cell, start), look(cell).colour)
    return figure, diagram, np.array([[measured]]), {measured: data}


def hide_measured(figure: Figure, diagram: Axes | None) -> None:
    """Before its step everything but the diagram is not yet seen; its room is kept. For finished figures."""
    if not built(MEASURED):
        for part in (*(axes for axes in figure.axes if axes is not diagram), *figure.legends):
            part.set_visible(False)


def draw_stack(axes: Axes, layers: int) -> None:
    """A state for every layer and step: up are the layers, to the right the time; the loss reads the last of all."""
    shown = [*range(1, min(layers, MOST)), layers]
    heights = np.linspace(2.2, 6.1, len(shown)) if len(shown) > 1 else [3.7]
    below = _inputs(axes, 0.5)
    for layer, height in zip(shown, heights, strict=True):
        row = _row(axes, float(height), f"({layer})", 1)
        for low, high in zip(below, row, strict=True):
            if layer == layers > MOST:
                write(axes, low.x, (low.y + high.y) / 2, r"$\vdots$", colour=GREY, size="small")
            else:
                arrow(axes, low, high)
        below = row
    arrow(axes, below[-1], box(axes, below[-1].x, 7.55, 0.9, 0.75, "$L$"))


def draw_directions(axes: Axes, *, read_at_ends: bool) -> None:
    """One row of states reads from the left, one from the right; one loss reads where each of them ends."""
    inputs = _inputs(axes, INPUT)
    rows = [_row(axes, FORWARD, r"\rightarrow", 1), _row(axes, REVERSE, r"\leftarrow", -1)]
    for row in rows:
        for symbol, state in zip(inputs, row, strict=True):
            arrow(axes, symbol, state)
    if read_at_ends:
        (*_, last), (first, *_) = rows
        loss, aside = box(axes, 6.5, 7.4, 0.9, 0.65, "$L$"), 6.75
        arrow(axes, last, (aside, last.y), (aside, loss.y - loss.height / 2))
        arrow(axes, first, (first.x, loss.y), loss)


def _inputs(axes: Axes, height: float) -> list[Node]:
    write(axes, BETWEEN, height, "…", colour=GREY)
    return [box(axes, x, height, WIDTH, 0.7, f"$x_{{{time}}}$") for time, x in TIMES]


def _row(axes: Axes, height: float, mark: str, way: int) -> list[Node]:
    """The states of one layer or direction, with arrows from each to the next."""
    row = [box(axes, x, height, WIDTH, HEIGHT, f"$h_{{{time}}}^{{{mark}}}$") for time, x in TIMES]
    write(axes, BETWEEN, height, "…", colour=GREY)
    edges = [row[0].x, row[1].x, BETWEEN, row[2].x]
    halves = [WIDTH / 2, WIDTH / 2, 0.3, WIDTH / 2]
    for (left, right), (before, after) in zip(pairwise(edges), pairwise(halves), strict=True):
        ends: Sequence[tuple[float, float]] = [(left + before, height), (right - after, height)][::way]
        arrow(axes, *ends)
    return row
