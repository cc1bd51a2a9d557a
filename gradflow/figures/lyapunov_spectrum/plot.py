"""What is the long-run growth rate in every direction?

Left, all exponents of three networks, sorted: how fast a small change grows or shrinks in each direction, in nats per
step. Right, the largest against the gain of the weights, measured and by theory. Below 0 the network forgets, above 0
it is chaotic; gradients grow and vanish with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import EndLabel, add_caption, corner_note, finish, label_ends
from gradflow.figures.theme import BLACK, DASHES, GREY, PAPER, VERMILLION, new_figure, shade, style, thin

SYSTEMS = {"linear": (BLACK, "s", "-"), "autonomous": (VERMILLION, "o", "-"), "driven": (VERMILLION, "o", "--")}
LOWEST = -3.0  # nats per step; the smallest exponents go on below


def plot_lyapunov_spectrum(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw all Lyapunov exponents of three networks, and the largest against the gain beside what theory says.

    Args:
        data: What :func:`gradflow.theory.lyapunov_gains` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure(1.2)
        spectra, largest = figure.subplots(1, 2)
        _draw_spectra(spectra, data[data["quantity"] == "spectrum"], labels)
        ends = _draw_largest(largest, data, labels)
        for axes in (spectra, largest):
            axes.axhline(0, color=shade(BLACK), linestyle="--", linewidth=thin(0.5))
        add_caption(figure, data, claims, labels)
        label_ends(figure, {largest: ends})
        finish(figure)
    return figure


def _draw_spectra(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    for (gain, part), dash in zip(data.groupby("gain"), (DASHES[2], DASHES[1], DASHES[0]), strict=False):
        axes.plot(part["position"], part["measured"], color=shade(VERMILLION), linestyle=dash, label=f"$g = {gain:g}$")
    axes.legend(loc="lower left")
    axes.set_ylim(LOWEST, 0.4)
    axes.set_xlim(0, 1)
    axes.set_xlabel(labels("axis.exponent_index"))
    axes.set_ylabel(labels("axis.exponents"))


def _draw_largest(axes: Axes, data: pd.DataFrame, labels: Labels) -> list[EndLabel]:
    ends = []
    for system, (colour, marker, dash) in SYSTEMS.items():
        own = data[data["system"] == system]
        theory = own[own["quantity"] == "largest_curve"]
        measured = own[own["quantity"] == "largest"].groupby("gain")["measured"].mean()
        axes.plot(theory["gain"], theory["mean_field"], color=shade(colour), linestyle=dash, linewidth=thin())
        face = shade(PAPER if system == "driven" else colour)
        axes.plot(measured.index, measured, marker, color=shade(colour), markerfacecolor=face, zorder=4)
        ends.append(EndLabel(measured.iloc[-1], labels(f"curve.{system}"), colour))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.axvline(1, color=shade(GREY), linestyle=":", linewidth=thin())
    axes.set_xlabel(labels("axis.gain"))
    axes.set_ylabel(labels("axis.largest_exponent"))
    corner_note(axes, [labels("note.points_and_line")], "lower right")
    return ends
