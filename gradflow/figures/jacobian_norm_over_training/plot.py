"""Do the recurrent weights tell whether a step shrinks gradients or stretches them?

Thin lines are the largest singular value of the Jacobian of each step, the thick one their median, the dotted one that
of the recurrent weights. Above the line at 1 a step can stretch a gradient, below it every step shrinks it. Where
dotted and solid part, the units saturate.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradflow.cells.facts import CANDIDATE_GATES
from gradflow.figures.catalogue import Labels, matrix
from gradflow.figures.layout import add_caption, facet_grid, finish, label_outer, log_scale, panel_title, top_legend
from gradflow.figures.theme import BLACK, DASHES, look, shade, style, thin

SMALLEST = 1e-3  # values below do not stretch the axis further


def plot_jacobian_norm_over_training(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw σ_1(J_t) of every position, their median and σ_1(W_hh) against training iteration: a panel per network.

    Args:
        data: What :func:`gradflow.analysis.jacobian_norm_over_training` returned, of one clipping.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure, grid, panels = facet_grid(data, labels)
        for axes, panel in panels.items():
            first = panel.iloc[0]
            colour, title = look(first["cell"]).colour, labels.title(first["cell"], first["start"])
            panel_title(axes, title, colour, matrix(first["gate"]))
            _draw_panel(axes, panel, colour)
        _set_limits(grid[0, 0], data)
        label_outer(grid, labels("axis.iteration"), labels("axis.largest_singular_value"))
        _add_legend(figure, data, labels)
        add_caption(figure, data, claims, labels, notes=_notes(data, labels))
        finish(figure)
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame, colour: str) -> None:
    by_position = panel.pivot(index="iteration", columns="time", values="median")
    lines = [np.column_stack([by_position.index, values]) for values in by_position.to_numpy().T]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=thin(0.25), alpha=0.3), autolim=True)
    records: dict[str, Any] = {"marker": "o", "markersize": thin(1.2)}  # a single one would be no line
    axes.plot(by_position.index, by_position.median(axis=1), color=colour, **records)
    weights = panel.groupby("iteration")["weights"].first()
    axes.plot(weights.index, weights, color=shade(BLACK), linestyle=DASHES[2], **records)
    axes.axhline(1, color=shade(BLACK), linestyle="--", linewidth=thin(0.5))


def _set_limits(axes: Axes, data: pd.DataFrame) -> None:
    values = data[["median", "weights"]].to_numpy()
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        axes.set_ylim(min(max(values.min(), SMALLEST), 1) / 1.3, max(values.max(), 1) * 1.3)
    log_scale(axes)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))


def _add_legend(figure: Figure, data: pd.DataFrame, labels: Labels) -> None:
    cells = data["cell"].unique()
    colour = look(cells[0]).colour if len(cells) == 1 else shade(BLACK)
    handles = [
        Line2D([], [], color=shade(BLACK), linestyle=DASHES[2], label=labels("note.of_weights")),
        Line2D([], [], color=colour, label=labels("note.of_jacobian")),
        Line2D([], [], color=colour, linewidth=thin(0.25), alpha=0.6, label=labels("note.each_position")),
    ]
    top_legend(figure, handles)


def _notes(data: pd.DataFrame, labels: Labels) -> list[str]:
    gated = data["gate"].isin(CANDIDATE_GATES).any()
    return [labels("note.median_of_examples")] + ([labels("note.of_candidate")] if gated else [])
