"""How open are the gates of this cell, before and after training?

The cell as on the slide. Colour and numbers are the means of its gates, left before and right after training. The wide
band is the path along which the state is only multiplied by the gate that keeps: above it what that mean leaves in a
step and, to the power of the steps, in all.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradflow.cells.facts import CELLS, KEEPING_GATES
from gradflow.figures.catalogue import Labels, number, short
from gradflow.figures.cell_diagram import ROOM
from gradflow.figures.cell_diagram.numbers import check_one_network
from gradflow.figures.diagram import Node, Point, arrow, band, box, canvas, fill, junction, pointer, sign, write
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.options import built, in_force
from gradflow.figures.theme import BLACK, NOTHING, ON_DARK, ON_LIGHT, look, new_figure, style

WIDTH, HEIGHT, NAME = 2.3, 1.5, 0.65  # of a gate; height of the strip that names it
LINE, GATE, BUS = 6.1, 2.9, 1.2  # heights of the state, of the middle of the gates, of what goes into them
LEFT, RIGHT = 1.15, 14.9  # where lines come in and go out
EDGE = GATE - HEIGHT / 2
KEEP, LET_IN, ADD, SHOW, BAND = 1, 2, 3, 4, ROOM.steps  # the parts in which an LSTM is built up
RESET, CANDIDATE, MIX = 2, 3, 4  # those of a GRU, whose first and last are the same
NAMED = {"gru_before": "gru"}  # the drawing itself shows where r acts
DARK = 0.45  # gates below have so dark a colour that white is read better on it than black

Means = Mapping[str, Sequence[float]]


def plot_cell_diagram(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the cell of an LSTM or a GRU, its gates coloured by their means before (left) and after training (right).

    Args:
        data: What :func:`gradflow.analysis.gate_means` returned, of one network.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several networks.
    """
    check_one_network(data)
    labels, first = Labels(lang), data.iloc[0]
    with style(lang, context):
        figure = new_figure()
        axes = canvas(figure, 16, 8)
        means = {gate: data.loc[data["gate"] == gate, "mean"].tolist() for gate in CELLS[first["cell"]].sigmoid_gates}
        _DRAWN[first["cell"]](axes, means)
        colour = look(first["cell"]).colour
        if built(BAND):
            band(axes, [(LEFT, LINE), (RIGHT, LINE)], colour)
            write(axes, 3.9, LINE + 0.62, _kept(data, labels), "left", colour=colour)
        title = labels.title(NAMED.get(first["cell"], first["cell"]), first["start"])
        write(axes, 0.1, 7.6, title, "left", colour=colour, size="large")
        write(axes, 15.9, 0.25, labels(_formula(first["cell"])), "right")
        _draw_scale(figure, axes, labels)
        add_caption(figure, data, claims, labels, notes=_notes(data, labels), steps=ROOM.steps)
        finish(figure)
    return figure


def _draw_lstm(axes: Axes, means: Means) -> None:
    """What the forget gate keeps and the input gate lets in is c; the output gate shows it."""
    at = {"f": 3.1, "i": 5.8, "g": 8.5, "o": 11.2}
    parts = {"f": KEEP, "i": LET_IN, "g": LET_IN, "o": SHOW}
    gates = {name: _gate(axes, x, name, means.get(name)) for name, x in at.items() if built(parts[name])}
    stops = [sign(axes, at["f"], LINE, "×"), *([sign(axes, 7.15, LINE, "+")] if built(ADD) else [])]
    _named(axes, LINE, "$c_{t-1}$", "$c_t$")
    _named(axes, BUS, "$h_{t-1}$", "$h_t$" if built(SHOW) else "")
    _named(axes, BUS - 0.8, "$x_t$")
    _carry(axes, *stops)
    arrow(axes, (LEFT, BUS - 0.8), (1.6, BUS - 0.8), (1.6, BUS), head=False)
    junction(axes, 1.6, BUS)
    *others, last = gates
    arrow(axes, (LEFT, BUS), (at[last], BUS), gates[last])
    for name in others:
        arrow(axes, (at[name], BUS), gates[name])
        junction(axes, at[name], BUS)
    arrow(axes, gates["f"], stops[0])
    if built(LET_IN):
        let_in = sign(axes, 7.15, 4.7, "×")
        for name in "ig":
            arrow(axes, gates[name], (at[name], let_in.y), let_in)
        if built(ADD):
            arrow(axes, let_in, stops[-1])
    if built(SHOW):
        _show_cell(axes, gates["o"])


def _show_cell(axes: Axes, gate: Node) -> None:
    """From the line of the cell by way of tanh and the output gate to h."""
    tanh, shown = box(axes, 13.5, 5.1, 1.2, 0.7, "tanh"), sign(axes, 13.5, 3.95, "×")
    arrow(axes, gate, (gate.x, shown.y), shown)
    junction(axes, tanh.x, LINE)
    arrow(axes, (tanh.x, LINE), tanh)
    arrow(axes, tanh, shown)
    arrow(axes, shown, (shown.x, BUS), (RIGHT, BUS))


def _draw_gru(axes: Axes, means: Means, *, before: bool = False) -> None:
    """What z keeps and 1 - z of n are h; r acts before the product with W_hn or, as in torch, after it."""
    at, rail = {"z": 3.5, "r": 6.5, "n": 12.1}, BUS + 0.3
    words = {"n": r"\tilde{h}"} if before else {}  # torch's letter is that of torch's GRU
    parts = {"z": KEEP, "r": RESET, "n": CANDIDATE}
    gates = {
        name: _gate(axes, x, words.get(name, name), means.get(name)) for name, x in at.items() if built(parts[name])
    }
    stops = [sign(axes, at["z"], LINE, "×"), *([sign(axes, at["n"], LINE, "+")] if built(MIX) else [])]
    _named(axes, LINE, "$h_{t-1}$", "$h_t$")
    _named(axes, BUS - 0.45, "$x_t$")
    _carry(axes, *stops)
    arrow(axes, gates["z"], stops[0])
    ends = {BUS - 0.45: [(at["z"] - 0.5, EDGE)], rail: [(at["z"] + 0.5, EDGE)]}  # of what goes in, from left to right
    if built(RESET):
        ends[BUS - 0.45].append((at["r"] - 0.5, EDGE))
        ends[rail].append((at["r"] + 0.5, EDGE))
    if built(CANDIDATE):
        ends[BUS - 0.45].append((at["n"], EDGE))
        reset = _draw_reset(axes, gates, before=before)
        ends[rail].append((reset.x, reset.y - reset.height / 2))
    _lay(axes, [(LEFT, BUS - 0.45)], ends[BUS - 0.45])
    _lay(axes, [(1.7, LINE), (1.7, rail)], ends[rail])
    junction(axes, 1.7, LINE)
    if built(MIX):
        rest, let_in = sign(axes, 10.2, 4.85, "1−"), sign(axes, at["n"], 4.85, "×")
        junction(axes, at["z"], rest.y)
        arrow(axes, (at["z"], rest.y), rest)
        arrow(axes, rest, let_in)
        arrow(axes, gates["n"], let_in)
        arrow(axes, let_in, stops[-1])


def _lay(axes: Axes, start: Sequence[Point], ends: Sequence[Point]) -> None:
    """A line that goes on at its height to the last of what it goes into, with a branch to each of the others."""
    height = start[-1][1]
    for x, y in ends[:-1]:
        arrow(axes, (x, height), (x, y))
        junction(axes, x, height)
    arrow(axes, *start, (ends[-1][0], height), ends[-1])


def _draw_reset(axes: Axes, gates: Mapping[str, Node], *, before: bool) -> Node:
    """From h and r to the candidate; where h goes in."""
    edges = gates["r"].x + WIDTH / 2, gates["n"].x - WIDTH / 2
    if before:
        times, weight = sign(axes, 8.6, GATE, "×"), box(axes, 9.9, GATE, 1.0, 0.7, "$W_{hn}$")
        arrow(axes, gates["r"], times)
        arrow(axes, times, weight)
        arrow(axes, weight, gates["n"])
        return times
    times, weight = sign(axes, 9.2, GATE + 0.4, "×"), box(axes, 9.2, GATE - 0.65, 1.0, 0.7, "$W_{hn}$")
    arrow(axes, (edges[0], times.y), times)
    arrow(axes, weight, times)
    arrow(axes, times, (edges[1], times.y))
    return weight


_DRAWN: dict[str, Callable[[Axes, Means], None]] = {
    "lstm": _draw_lstm,
    "gru": _draw_gru,
    "gru_before": partial(_draw_gru, before=True),
}


def _gate(axes: Axes, x: float, name: str, means: Sequence[float] | None) -> Node:
    """A gate with its means, or a candidate without, which is no gate and stays white."""
    node = box(axes, x, GATE, WIDTH, HEIGHT)
    if means is None:
        write(axes, x, GATE, rf"${name} = \tanh(\ldots)$", size="small")
        return node
    write(axes, x, GATE + (HEIGHT - NAME) / 2, rf"${name} = \sigma(\ldots)$", size="small")
    width, height, bottom = WIDTH / len(means), HEIGHT - NAME, GATE - HEIGHT / 2
    parts = []
    for place, mean in enumerate(means):
        left = x - WIDTH / 2 + place * width
        colour = to_hex(mpl.colormaps["viridis"](mean)) if np.isfinite(mean) else NOTHING
        parts.append((Rectangle((left, bottom), width, height), colour))
        ink = ON_DARK if mean < DARK else ON_LIGHT
        text = f"{mean:.2f}" if np.isfinite(mean) else number(mean)
        write(axes, left + width / 2, bottom + height / 2, text, colour=ink)
    fill(axes, node, parts)
    if len(means) > 1:
        pointer(axes, x, bottom + height / 2)
    return node


def _carry(axes: Axes, *stops: Node) -> None:
    """The line of the state, from left to right by way of what acts on it."""
    line: list[Node | Point] = [(LEFT, LINE), *stops, (RIGHT, LINE)]
    for start, end in pairwise(line):
        arrow(axes, start, end, colour=BLACK, width=0.9)


def _named(axes: Axes, height: float, start: str, end: str = "") -> None:
    """What comes in and what goes out at a height."""
    write(axes, LEFT - 0.1, height, start, "right")
    write(axes, RIGHT + 0.1, height, end, "left")


def _kept(data: pd.DataFrame, labels: Labels) -> str:
    """What the gate that keeps multiplies the path by: in a step, and in all of them."""
    gate = data[data["gate"].isin(KEEPING_GATES)].sort_values("iteration").iloc[-1]
    if not np.isfinite(gate["mean"]):
        return ""
    left = short(gate["mean"] ** gate["steps"])
    return labels("diagram.kept", factor=f"{gate['mean']:.2f}", left=left, steps=str(int(gate["steps"])))


def _draw_scale(figure: Figure, axes: Axes, labels: Labels) -> None:
    place = axes.inset_axes((10.6, 7.5, 5.0, 0.26), transform=axes.transData)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), "viridis"), cax=place, orientation="horizontal", ticks=(0, 0.5, 1)
    )
    bar.ax.tick_params(labelsize="small", length=0)
    write(axes, 10.4, 7.63, labels("diagram.gate_mean"), "right", size="small")


def _formula(cell: str) -> str:
    """The id of what is computed so far."""
    step = in_force().step
    return f"diagram.{cell}" if step is None or built(SHOW) else f"diagram.{cell}_{step}"


def _notes(data: pd.DataFrame, labels: Labels) -> list[str]:
    after = data.loc[data["when"] == "after", "iteration"]
    return [labels("note.gate_halves", iteration=str(int(after.max())))] if len(after) else []
