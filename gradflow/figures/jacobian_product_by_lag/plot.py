"""How fast does the product of Jacobians shrink or grow, and what sets the rate?

The norm of the product of k Jacobians against k, logarithmic. Left, orthogonal weights times a
number, to which all singular values are equal: exact straight lines.
Right, other weights (Gaussian): the dashed line is the bound by the largest singular value, the dotted one the rate by
the spectral radius. The linear network follows the latter, the tanh network falls faster.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import EndLabel, add_caption, finish, keep_margins, label_ends, log_scale
from gradflow.figures.theme import DASHES, GREY, look, new_figure, shade, style, thin

BOUNDS = {"log_sigma": DASHES[1], "log_rho": DASHES[2]}
LOWEST, HIGHEST = 1e-21, 1e5  # σ_max^k goes on beyond


def plot_jacobian_product_by_lag(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the norm of the product of k Jacobians against k: orthogonal weights left, Gaussian ones right.

    Args:
        data: What :func:`gradflow.theory.linear_slopes` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    exact, random = (data[data["weights"] == name] for name in ("orthogonal", "gaussian"))
    with style(lang, context):
        figure = new_figure(1.2)
        left, right = figure.subplots(1, 2)
        ends = {left: _draw_exact(left, exact, labels), right: _draw_random(right, random, labels)}
        left.set_title(labels("facet.scaled_orthogonal"))
        right.set_title(labels("facet.gaussian_weights"))
        left.set_ylabel(labels("axis.product_norm"))
        right.set_ylim(LOWEST, HIGHEST)
        for axes in (left, right):
            axes.set_xlabel(labels("axis.lag"))
            axes.set_xlim(0, data["lag"].max())
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            log_scale(axes)
        keep_margins(figure)
        add_caption(figure, data, claims, labels)
        label_ends(figure, ends)
        finish(figure)
    return figure


def _draw_exact(axes: Axes, data: pd.DataFrame, labels: Labels) -> list[EndLabel]:
    ends, colour = [], look("linear").colour
    for scale, dash in zip(sorted(data["scale"].unique()), (DASHES[1], DASHES[0], DASHES[3]), strict=False):
        curve = data[data["scale"] == scale]
        norm = np.exp(curve["log_norm"])
        axes.plot(curve["lag"], norm, color=colour, linestyle=dash)
        ends.append(EndLabel(norm.iloc[-1], _with_factor(labels("curve.scaled", scale=scale), scale, labels), colour))
    return ends


def _draw_random(axes: Axes, data: pd.DataFrame, labels: Labels) -> list[EndLabel]:
    ends, first = [], data.iloc[0]
    lag = data["lag"].drop_duplicates()
    for column, dash in BOUNDS.items():
        bound = np.exp(lag * first[column])
        axes.plot(lag, bound, color=shade(GREY), linestyle=dash, linewidth=thin())
    sigma, rho = (labels(f"curve.{column}", value=f"{np.exp(first[column]):.2f}") for column in BOUNDS)
    leaves = min(np.log(HIGHEST) / first["log_sigma"], lag.max())
    axes.text(leaves + 2, HIGHEST / 3, sigma, color=shade(GREY), fontsize="small", va="top")
    ends.append(EndLabel(np.exp(lag.max() * first["log_rho"]), rho, GREY))
    for cell, curve in data.groupby("cell", sort=False):
        colour, marker = look(str(cell))
        norm = np.exp(curve["log_norm"])
        axes.plot(curve["lag"], norm, color=colour, marker=marker, markevery=15)
        late = curve[curve["lag"] >= curve["lag"].max() / 2]
        factor = np.exp((late["log_norm"].iloc[-1] - late["log_norm"].iloc[0]) / (len(late) - 1))
        ends.append(EndLabel(norm.iloc[-1], _with_factor(labels(f"curve.gaussian_{cell}"), factor, labels), colour))
    return ends


def _with_factor(name: str, factor: float, labels: Labels) -> str:
    return f"{name}\n{labels('curve.factor', factor=format(factor, '.2f'))}"
