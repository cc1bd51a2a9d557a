"""Does depth in layers or depth in time kill the gradient?"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels
from gradflow.figures.heat import add_colour_bar, draw_cells, grey_note, log_colours
from gradflow.figures.layout import add_caption, facet_grid, finish, label_outer
from gradflow.figures.style import style


def plot_stacked_lattice(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the gradient (colour) over layers and lag, the last step at the right: a panel per cell and start.

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
        figure, grid, panels = facet_grid(data, labels, most=2)
        norm = log_colours(data["value"])
        for axes, panel in panels.items():
            draw_cells(axes, panel, "lag", "layer", norm)
            _note_costs(axes, panel.iloc[0], labels)
        layers = int(data["layer"].max())
        grid[0, 0].set_xlim(data["lag"].max() + 0.5, -0.5)
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        grid[0, 0].set_yticks(range(layers + 1), [str(layer + 1) for layer in range(layers + 1)])
        label_outer(grid, labels("axis.lag"), labels("axis.layer"))
        note = grey_note(data["value"], labels)
        add_colour_bar(figure, grid.flat, data["value"], norm, labels("axis.state_gradient"), note)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _note_costs(axes: Axes, first: pd.Series, labels: Labels) -> None:
    """What a layer down and a step back multiply the gradient by, under the title."""
    costs = labels("note.costs", layer=format(first["per_layer"], ".2g"), step=format(first["per_step"], ".2g"))
    axes.set_title(f"{axes.get_title()}\n{costs}", color=axes.title.get_color(), fontsize="medium", linespacing=1.3)
