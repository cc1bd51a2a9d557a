"""Why do gradients explode with memory even where no gradient through time does?

Across, the weight λ of a linear unit, hence its memory; up, mean squares, logarithmic. Black is the largest gradient
through time, never above 1; blue the state; red the gradient of the weight. Points are measured, lines are theory. All
three are of one network: vanishing is avoided, and learning gets hard all the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import EndLabel, add_caption, corner_note, finish, label_ends, log_scale
from gradflow.figures.theme import BLACK, BLUE, VERMILLION, new_figure, shade, style, thin

QUANTITIES = {"sensitivity": (VERMILLION, "o"), "state": (BLUE, "D"), "state_gradient": (BLACK, "s")}


def plot_memory_sensitivity(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the size of the state, of its sensitivity to λ and of the gradient through time against λ.

    Args:
        data: What :func:`gradflow.theory.memory_curse` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = figure.subplots()
        ends = []
        for name, (colour, marker) in QUANTITIES.items():
            theory, measured = (data[data["quantity"] == quantity] for quantity in (f"{name}_curve", name))
            axes.plot(theory["decay"], theory["expected"], color=shade(colour), linewidth=thin())
            axes.errorbar(
                measured["decay"],
                measured["measured"],
                measured["standard_error"],
                fmt=marker,
                color=shade(colour),
                linewidth=thin(0.5),
                zorder=4,
            )
            ends.append(EndLabel(measured["measured"].iloc[-1], labels(f"curve.{name}"), colour))
        axes.set_xlabel(labels("axis.decay"))
        axes.set_ylabel(labels("axis.mean_square"))
        log_scale(axes)
        corner_note(axes, [labels("note.points_and_line")], "upper left")
        axes.set_xlim(0.485, 0.995)
        add_caption(figure, data, claims, labels)
        label_ends(figure, {axes: ends})
        finish(figure)
    return figure
