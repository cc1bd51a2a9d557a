"""Which way does the gradient take through an unrolled network, and what is left of it at each step?

The network unrolled in time. Orange arrows are the gradient on its way back from the loss, the numbers in the boxes
what is left of it there, relative to the last state.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradflow.figures.catalogue import Labels, short
from gradflow.figures.diagram import Node, arrow, box, canvas, mixed, write
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.theme import GREY, VERMILLION, new_figure, style

PLACES = {0: 2.9, 1: 5.55, -3: 9.2, -2: 11.85, -1: 14.5}
"""Steps that are drawn, counted from the first and from the last, and where."""
START, MIDDLE = 0.6, 7.375  # h_0; the steps left out
ROW, LANE, WIDTH, HEIGHT = 3.45, 0.4, 1.75, 1.75  # the states, and what runs above and below their middle
INPUT, OUTPUT, LOSS = 0.7, 5.75, 7.3
_EDGES = [START + 0.45, *(x + side for x in PLACES.values() for side in (-WIDTH / 2, WIDTH / 2))]
_EDGES[5:5] = [MIDDLE - 0.35, MIDDLE + 0.35]
GAPS = list(zip(_EDGES[::2], _EDGES[1::2], strict=False))
"""From where to where the arrows between states go."""
BROAD, FINE = 2.8, 0.5  # widths of the gradient's arrow where it is largest and smallest


def plot_unrolled_graph(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the unrolled graph of an RNN, and on it the path of the gradient, as broad as what is left of it.

    Args:
        data: What :func:`gradflow.theory.unrolled_gradients` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = canvas(figure, 16, 8)
        gradient = data[data["quantity"] == "gradient"].sort_values("time")["measured"].to_numpy()
        states = _draw_states(axes, gradient)
        read_out = box(axes, PLACES[-1], OUTPUT, 1.1, 0.8, "$y$"), box(axes, PLACES[-1], LOSS, 1.1, 0.8, "$L$")
        _draw_forward(axes, states, read_out)
        _draw_backward(axes, read_out, gradient)
        _explain(axes, float(np.exp(data.loc[data["quantity"] == "slope", "measured"].iloc[0])), gradient, labels)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_states(axes: Axes, gradient: np.ndarray) -> list[Node]:
    """The states that are shown: above the name, below what is left of the gradient."""
    states = []
    for step, x in PLACES.items():
        states.append(box(axes, x, ROW, WIDTH, HEIGHT))
        write(axes, x, ROW + LANE, f"$h_{{{_index(step)}}}$")
        left = short(np.exp(gradient[step]))
        write(axes, x, ROW - LANE, left, colour=VERMILLION, size="small")
    return states


def _index(step: int) -> str:
    """As on the slide: from 1 to T."""
    return str(step + 1) if step >= 0 else "T" if step == -1 else f"T{step + 1}"


def _draw_forward(axes: Axes, states: Sequence[Node], read_out: tuple[Node, Node]) -> None:
    """Grey: inputs from below, states from left to right, read-out and loss above the last."""
    box(axes, START, ROW + LANE, 0.9, 0.8, "$h_0$")
    for (step, x), state in zip(PLACES.items(), states, strict=True):
        arrow(axes, box(axes, x, INPUT, 1.25, 0.8, f"$x_{{{_index(step)}}}$"), state)
        _weights(axes, x + 0.2, 1.8, "$W_{hx}$", "left")
    for left, right in GAPS:
        arrow(axes, (left, ROW + LANE), (right, ROW + LANE))
        if right - left > 0.85:
            _weights(axes, (left + right) / 2, ROW + LANE + 0.4, "$W_{hh}$", "center")
    for height in (ROW + LANE, ROW - LANE):
        write(axes, MIDDLE, height, "…", colour=GREY)
    x = PLACES[-1] - 0.27
    for low, high in _climbs(read_out):
        arrow(axes, (x, low), (x, high))
    _weights(axes, x - 0.15, sum(_climbs(read_out)[0]) / 2, "$W_{yh}$", "right")


def _climbs(read_out: tuple[Node, Node]) -> list[tuple[float, float]]:
    """From the last state to the read-out, and on to the loss."""
    y, loss = read_out
    return [(ROW + HEIGHT / 2, y.y - y.height / 2), (y.y + y.height / 2, loss.y - loss.height / 2)]


def _weights(axes: Axes, x: float, y: float, text: str, side: str) -> None:
    write(axes, x, y, text, side, colour=GREY, size="small")


def _draw_backward(axes: Axes, read_out: tuple[Node, Node], gradient: np.ndarray) -> None:
    """Down from the loss and back to the first step, as broad as the logarithm of what is left is large."""
    for low, high in _climbs(read_out):
        arrow(axes, (PLACES[-1] + 0.27, high), (PLACES[-1] + 0.27, low), **_strength(gradient, -1))
    for (left, right), step in zip(GAPS[1:], (0, 1, -4, -3, -2), strict=True):
        arrow(axes, (right, ROW - LANE), (left, ROW - LANE), **_strength(gradient, step))


def _strength(gradient: np.ndarray, step: int) -> dict[str, Any]:
    """Colour and width of an arrow to this step: all at the last, least at the first."""
    lost = gradient[step] / gradient[0] if gradient[0] < 0 else 0.0
    share = float(np.clip(1 - lost, 0, 1)) if np.isfinite(lost) else 0.0
    return {"colour": mixed(VERMILLION, 0.35 + 0.65 * share), "width": FINE + (BROAD - FINE) * share}


def _explain(axes: Axes, rate: float, gradient: np.ndarray, labels: Labels) -> None:
    """The formulas; what a step back leaves, and all of them; how long the sequence is, beside its last state."""
    write(axes, 0.2, 7.2, labels("diagram.jacobian"), "left", size="large")
    write(axes, 0.2, 5.85, labels("diagram.gradient"), "left", colour=VERMILLION, size="large")
    factor = labels("curve.factor", factor=format(rate, ".2f"))
    write(axes, 2.8, 5.85, factor, "left", colour=VERMILLION, size="large")
    whole = labels("diagram.all_back", left=short(np.exp(gradient[0])), back=str(len(gradient) - 1))
    write(axes, 2.8, 5.1, whole, "left", colour=VERMILLION, size="large")
    length = labels("diagram.length", steps=str(len(gradient)))
    write(axes, PLACES[-1] + 0.62, ROW + HEIGHT / 2 + 0.4, length, "left", size="small")
    text = labels("diagram.relative_gradient")
    write(axes, _EDGES[1] - 0.1, ROW - LANE, text, "right", colour=VERMILLION, size="small")
