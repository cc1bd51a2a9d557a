"""Why does a network that applies the same layer again and again get both flat and steep?

A random layer applied k times, seen along a line in its input. The more often, the more turns, and between steep places
flat ones: a gradient is either nothing or enormous, depending on where one stands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, finish, label_outer
from gradflow.figures.theme import VERMILLION, new_figure, shade, style

COLUMNS = 3


def plot_repeated_composition(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the layer composed with itself k times along a line through its inputs, a panel for each k.

    Args:
        data: What :func:`gradflow.theory.repeated_composition` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    curves = [curve for _, curve in data[data["quantity"] == "curve"].groupby("k")]
    turns = data[(data["quantity"] == "turning_points") & (data["network"] == 0)].set_index("k")["measured"]
    with style(lang, context):
        figure = new_figure(1.2, 1.2)
        grid = figure.subplots(-(-len(curves) // COLUMNS), COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.set_axis_off()
        for axes, curve in zip(grid.flat, curves, strict=False):
            k = curve["k"].iloc[0]
            axes.plot(curve["s"], curve["measured"].where(np.isfinite(curve["measured"])), color=shade(VERMILLION))
            axes.set_title(labels("facet.composition", k=k, turns=turns[k]))
        label_outer(grid, labels("axis.projection"), labels("axis.projected"))
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure
