"""What does one tanh do to a gradient, and what do twenty?

tanh and its derivative. The mark is a unit at |a| = 1: what one step leaves of a gradient there, and what twenty do
that all are taken there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.theme import BLACK, BLUE, VERMILLION, new_figure, shade, style, thin


def plot_tanh_derivative(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw tanh and tanh', and the factor at one pre-activation.

    Args:
        data: What :func:`gradflow.theory.tanh_derivative` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = figure.subplots()
        _draw_curves(axes, data)
        _draw_factor(axes, data[data["quantity"] == "product"], labels)
        axes.set_xlabel(labels("axis.preactivation"))
        axes.set_xlim(-4, 4)
        axes.set_ylim(-1.12, 1.12)
        axes.set_yticks([-1, -0.5, 0, 0.5, 1])
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_curves(axes: Axes, data: pd.DataFrame) -> None:
    shapes = {"tanh": (BLACK, r"$\tanh(a)$", (2.4, 0.83)), "derivative": (BLUE, r"$\tanh'(a)$", (-1.8, 0.4))}
    for quantity, (colour, text, place) in shapes.items():
        curve = data[data["quantity"] == quantity]
        axes.plot(curve["a"], curve["measured"], color=shade(colour))
        axes.text(*place, text, color=shade(colour), fontsize="large", ha="center", va="center")


def _draw_factor(axes: Axes, product: pd.DataFrame, labels: Labels) -> None:
    """A dot where the product was taken, its value, and the product itself."""
    one, last = product[product["steps"] == 1].iloc[0], product.nlargest(1, "steps").iloc[0]
    axes.plot(one["a"], one["measured"], "o", color=shade(VERMILLION), zorder=5)
    values = {"preactivation": one["a"], "factor": one["measured"], "steps": last["steps"], "product": last["measured"]}
    axes.annotate(
        labels("note.factors", **values),
        (one["a"], one["measured"]),
        (1.1, -0.3),
        color=shade(VERMILLION),
        va="top",
        linespacing=1.5,
        arrowprops={
            "arrowstyle": "-",
            "color": shade(VERMILLION),
            "linewidth": thin(0.4),
            "relpos": (0.1, 1),
            "shrinkB": 6,
        },
    )
