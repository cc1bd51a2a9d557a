"""Why is the product of tanh' almost always below 1, and when does saturation make gradients vanish?

Left, tanh and its derivative, and below where the units of a weak and of a strong network are. Middle, the mean of
tanh' against the gain g of the weights: the larger, the more saturated. Right, how many nats the gradient gains or
loses per step back. Points are measured, lines are theory. At the right end tanh' is small and gradients
grow all the same: the weights outweigh it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels, wrap
from gradflow.figures.layout import add_caption, corner_note, finish
from gradflow.figures.theme import BLACK, BLUE, FADED, GREY, VERMILLION, new_figure, shade, style, thin

DENSITIES = (GREY, VERMILLION)


def plot_activation_saturation(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw tanh, tanh' and where units are; the mean of tanh' against the gain; and the slope of gradients against it.

    Args:
        data: What :func:`gradflow.theory.mean_field_slopes` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure(1.2, 1.0)
        grid = figure.add_gridspec(2, 3, height_ratios=[1.6, 1], width_ratios=[1.1, 1, 1], wspace=0.06)
        curves, density = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        moments, slopes = figure.add_subplot(grid[:, 1]), figure.add_subplot(grid[:, 2])
        _draw_curves(curves, data)
        _draw_densities(density, data, labels)
        curves.sharex(density)
        curves.tick_params(labelbottom=False)
        _draw_moments(moments, data)
        _note_zeros(moments, data, labels)
        _draw_slopes(slopes, data, labels)
        for axes in (moments, slopes):
            axes.set_xlabel(labels("axis.gain"))
            axes.set_xlim(0, None)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_curves(axes: Axes, data: pd.DataFrame) -> None:
    shapes = {"tanh": (BLACK, r"$\tanh$", (2.2, 0.78)), "derivative": (BLUE, r"$\tanh'$", (-2.6, 0.3))}
    for name, (colour, text, place) in shapes.items():
        curve = data[data["quantity"] == name]
        axes.plot(curve["x"], curve["expected"], color=shade(colour))
        axes.text(*place, text, color=shade(colour), va="top" if name == "tanh" else "bottom", ha="center")
    axes.set_ylim(-1.08, 1.08)
    axes.set_yticks([-1, 0, 1])


def _draw_densities(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    density = data[data["quantity"] == "density"]
    for (gain, part), colour in zip(density.groupby("gain"), DENSITIES, strict=False):
        axes.fill_between(part["x"], part["measured"], step="mid", color=shade(colour), alpha=FADED, linewidth=0)
        axes.plot(part["x"], part["expected"], color=shade(colour), linewidth=thin())
        half = part[(part["x"] > 0) & (part["expected"] < part["expected"].max() * 0.65)].iloc[0]
        axes.text(half["x"] + 0.2, half["expected"] + 0.02, f"$g = {gain:g}$", color=shade(colour), fontsize="small")
    axes.set_ylim(0, None)
    axes.set_yticks([])
    axes.set_xlim(-6, 6)
    axes.set_xticks([-6, -3, 0, 3, 6])
    axes.set_xlabel(labels("axis.preactivation"))
    axes.set_ylabel(labels("axis.density"))


def _points_and_line(axes: Axes, data: pd.DataFrame, quantity: str, colour: str, marker: str) -> pd.DataFrame:
    theory, measured = (data[data["quantity"] == name] for name in (f"{quantity}_curve", quantity))
    axes.plot(theory["gain"], theory["expected"], color=shade(colour), linewidth=thin())
    axes.plot(measured["gain"], measured["measured"], marker, color=shade(colour), clip_on=False, zorder=4)
    return theory


def _draw_moments(axes: Axes, data: pd.DataFrame) -> None:
    root = _points_and_line(axes, data, "root_mean_square", BLUE, "s")
    mean = _points_and_line(axes, data, "mean", BLACK, "o")
    for theory, text, colour, away in ((root, r"$\sqrt{E[\tanh'^2]}$", BLUE, 0.4), (mean, r"$E[\tanh']$", BLACK, -0.4)):
        middle = theory.iloc[len(theory) * 3 // 5]
        axes.annotate(
            text,
            (middle["gain"], middle["expected"]),
            (away, away),
            textcoords="offset fontsize",
            color=shade(colour),
            ha="left" if away > 0 else "right",
            va="bottom" if away > 0 else "top",
        )
    axes.set_ylim(0, 1)


def _note_zeros(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    zeros = data[(data["quantity"] == "zeros") & (data["measured"] > 0)]
    if len(zeros):
        most = zeros.nlargest(1, "measured").iloc[0]
        text = labels("note.exact_zeros", gain=most["gain"], share=f"{100 * most['measured']:.2g}")
        corner_note(axes, [wrap(text, 32)])


def _draw_slopes(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    theory = _points_and_line(axes, data, "slope", VERMILLION, "o")
    axes.axhline(0, color=shade(BLACK), linestyle="--", linewidth=thin(0.5))
    axes.set_ylabel(labels("axis.slope"))
    low, high = theory["expected"].min(), max(theory["expected"].max(), 0.3)
    axes.set_ylim(1.05 * low if np.isfinite(low) else -1, high + 0.15)
    left = theory["gain"].min()
    axes.text(left, 0.02, labels("note.explodes"), color=shade(GREY), fontsize="small", va="bottom")
    axes.text(left, -0.03, labels("note.vanishes"), color=shade(GREY), fontsize="small", va="top")
    corner_note(axes, [labels("note.points_and_line")], "lower right")
