"""Why is the cell of an LSTM like a residual network, and how far does the analogy go?

A row is an architecture. The straight path is what a gradient meets that goes only through additions and the gate that
keeps: its factor per step. The last column has all paths together, measured 19 steps back.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels, short
from gradflow.figures.diagram import Node, arrow, band, box, canvas, junction, sign, write
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.theme import BLACK, BLUE, GREY, VERMILLION, new_figure, shade, style, thin

ROWS = {"residual": (5.7, BLACK), "lstm": (3.5, BLUE), "rnn": (0.7, VERMILLION)}
"""Height of the straight line and colour."""
STATES, BRANCH = (4.0, 7.3, 10.6), 1.0  # where the states are; how far below the line what is added comes from
COLUMNS = (13.0, 15.05)  # straight path per step; all paths in the end
NAMES = {
    "residual": ("$x_l$", "$x_{l+1}$", "$x_{l+2}$"),
    "lstm": ("$c_{t-1}$", "$c_t$", "$c_{t+1}$"),
    "rnn": ("$h_{t-1}$", "$h_t$", "$h_{t+1}$"),
}


def plot_residual_analogy(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw two steps of a residual network, an LSTM and an RNN, and beside them what is left of the gradient.

    Args:
        data: What :func:`gradflow.theory.additive_paths` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = canvas(figure, 16, 8)
        for system in ROWS:
            _name(axes, system, labels)
            _draw_chain(axes, system)
            _write_numbers(axes, system, data[data["system"] == system], labels)
        _write_head(axes, int(data["lag"].max()), labels)
        add_caption(figure, data, claims, labels, notes=(labels("note.all_paths"),))
        finish(figure)
    return figure


def _name(axes: Axes, system: str, labels: Labels) -> None:
    height, colour = ROWS[system]
    name = labels("diagram.residual") if system == "residual" else labels.cell(system)
    write(axes, 0.1, height + 0.35, name, "left", colour=colour)
    write(axes, 0.1, height - 0.35, labels(f"diagram.{system}_step"), "left", size="small")


def _draw_chain(axes: Axes, system: str) -> None:
    """Three states, and what happens between them; the straight path is picked out."""
    height, colour = ROWS[system]
    states = [box(axes, x, height, 0.95, 0.75, name) for x, name in zip(STATES, NAMES[system], strict=True)]
    for left, right in pairwise(states):
        _BETWEEN[system](axes, left, right)
    if system != "rnn":
        band(axes, [(STATES[0], height), (STATES[-1], height)], colour)


def _add_branch(axes: Axes, left: Node, right: Node) -> None:
    """A residual network adds F(x) to x."""
    y, fork, join = left.y, left.x + 0.8, right.x - 1.15
    plus = sign(axes, join, y, "+")
    branch = box(axes, (fork + join) / 2, y - BRANCH, 0.8, 0.65, "$F$")
    _straight(axes, left, plus)
    _straight(axes, plus, right)
    junction(axes, fork, y)
    arrow(axes, (fork, y), (fork, branch.y), branch)
    arrow(axes, branch, (join, branch.y), plus)


def _gate(axes: Axes, left: Node, right: Node) -> None:
    """An LSTM multiplies c by f, and adds i ∘ g."""
    y = left.y
    times, plus = sign(axes, left.x + 1.15, y, "×"), sign(axes, right.x - 1.15, y, "+")
    forget, add = (
        box(axes, times.x, y - BRANCH, 0.6, 0.65, "$f$"),
        box(axes, plus.x, y - BRANCH, 0.95, 0.65, r"$i \odot g$"),
    )
    for start, end in pairwise((left, times, plus, right)):
        _straight(axes, start, end)
    arrow(axes, forget, times)
    arrow(axes, add, plus)


def _transform(axes: Axes, left: Node, right: Node) -> None:
    """tanh(W h), which is in the way."""
    middle = box(axes, (left.x + right.x) / 2, left.y, 1.0, 0.75, "tanh")
    _straight(axes, left, middle)
    _straight(axes, middle, right)


_BETWEEN = {"residual": _add_branch, "lstm": _gate, "rnn": _transform}


def _straight(axes: Axes, start: Node, end: Node) -> None:
    arrow(axes, start, end, colour=BLACK, width=0.9)


def _write_head(axes: Axes, lag: int, labels: Labels) -> None:
    kind: dict[str, Any] = {"ha": "center", "fontsize": "small"}
    words = {"straight": labels("diagram.per_step"), "whole": labels("diagram.steps_back", steps=str(lag))}
    for x, (path, under) in zip(COLUMNS, words.items(), strict=True):
        axes.text(x, 7.75, labels(f"diagram.{path}"), va="center", **kind)
        axes.plot([x - 0.75, x + 0.75], [7.42, 7.42], color=shade(GREY), linewidth=thin(0.4))
        axes.text(x, 7.25, under, va="top", linespacing=1.1, **kind)


def _write_numbers(axes: Axes, system: str, data: pd.DataFrame, labels: Labels) -> None:
    """A line for every forget bias: what the straight path is multiplied by, and what is left in all.

    That of a gate less open is grey: it tells why the bias matters, beside what a straight path can do.
    """
    height, own_colour = ROWS[system]
    far = data[data["lag"] == data["lag"].max()].set_index("path")
    shown = far.loc[["whole"]].sort_values("forget_bias")
    for place, (_, whole) in enumerate(shown.iterrows()):
        y = height + 0.8 * ((len(shown) - 1) / 2 - place)
        own = far[far["forget_bias"].isna() | (far["forget_bias"] == whole["forget_bias"])]["measured"]
        log_path = own.get("straight", np.nan)
        factor = _factor(log_path / whole["lag"]) if np.isfinite(log_path) else labels("diagram.no_path")
        colour = own_colour if place == len(shown) - 1 else GREY
        for x, text in zip(COLUMNS, (factor, short(np.exp(whole["measured"]))), strict=True):
            write(axes, x, y, text, colour=colour)
        if system == "lstm":
            bias = rf"$b_f = {whole['forget_bias']:g}$"
            write(axes, COLUMNS[0] - 0.7, y, bias, "right", colour=colour, size="small")
    if system == "rnn":
        rate = far["measured"].iloc[0] / far["lag"].iloc[0]
        texts = labels("diagram.rnn_factor"), labels("curve.factor", factor=format(np.exp(rate), ".2f"))
        for left, right, text in zip(STATES, STATES[1:], texts, strict=False):
            write(axes, (left + right) / 2, height + 0.7, text, colour=own_colour, size="small")


def _factor(log_value: float) -> str:
    return f"×{np.exp(log_value):.2f}".replace("×1.00", "×1")
