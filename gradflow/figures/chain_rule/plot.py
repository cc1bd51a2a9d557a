"""Why does the gradient many steps back vanish, line by line?

The network; its Jacobian for one step, with tanh' on the diagonal (four of 64 units are shown); the product for all
steps; and of a real network the number for every factor, from the last step on the left to the first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradflow.figures.catalogue import Labels, short
from gradflow.figures.chain_rule import ROOM
from gradflow.figures.diagram import canvas, mixed, write
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.options import built
from gradflow.figures.theme import BLACK, BLUE, GREY, VERMILLION, new_figure, shade, style, thin

LINES = (7.05, 5.2, 3.35)  # heights of the formulas
RECURRENCE, JACOBIAN, PRODUCT, MEASURED = 1, 2, 3, ROOM.steps  # the parts in which it is built up
DIAGONAL, WEIGHTS = 7.65, 11.65  # left edges of the matrices
HIGH, WIDE, WIDER = 0.44, 0.95, 1.08  # an entry; those of the weights may have a minus
FACTORS, WIDTH, HEIGHT = 2.15, 1.13, 0.5  # left edge of the first factor; a factor
DIAG = r"$\mathrm{diag}(\tanh^{\prime})$"
ROWS = {"tanh": (1.7, VERMILLION), "weights": (1.05, BLUE), "factor": (0.3, BLACK)}
"""Height and colour of what each step leaves."""


def plot_chain_rule(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the derivation of the product of Jacobians in four lines, the last of them in numbers.

    Args:
        data: What :func:`gradflow.theory.chain_of_jacobians` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure()
        axes = canvas(figure, 16, 7.6)
        write(axes, 0.1, LINES[0], labels("diagram.recurrence"), "left", size="x-large")
        if built(JACOBIAN):
            _draw_jacobian(axes, data, labels)
        if built(PRODUCT):
            _draw_product(axes, data, labels)
        if built(MEASURED):
            _draw_factors(axes, data, labels)
        add_caption(figure, data, claims, labels, notes=(labels("note.chain_rule"),), steps=ROOM.steps)
        finish(figure)
    return figure


def _draw_jacobian(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    """The formula of one step and its two matrices, as far as they are shown."""
    _write_line(axes, LINES[1], labels("diagram.one_step_back"))
    slope, weight = (_matrix(data, name) for name in ("derivative", "weight"))
    strength = np.where(np.isfinite(weight), np.abs(weight), 0)
    size, strongest = len(weight), strength.max() or 1.0
    for row, column in np.ndindex(size, size):
        y, on = LINES[1] + (size / 2 - row - 1) * HIGH, row == column
        _entry(axes, DIAGONAL + column * WIDE, y, WIDE, mixed(VERMILLION, 0.25 if on else 0.0))
        text, colour = (f"{slope[row, column]:.3f}", BLACK) if on else ("0", GREY)
        write(axes, DIAGONAL + (column + 0.5) * WIDE, y + HIGH / 2, text, colour=colour, size="small")
        share = float(0.4 * strength[row, column] / strongest)
        _entry(axes, WEIGHTS + column * WIDER, y, WIDER, mixed(BLUE, share))
        value = f"{weight[row, column]:.2f}".replace("-", "−")
        write(axes, WEIGHTS + (column + 0.5) * WIDER, y + HIGH / 2, value, size="small")
    for middle, name, colour in (
        (DIAGONAL + size / 2 * WIDE, DIAG, VERMILLION),
        (WEIGHTS + size / 2 * WIDER, "$W_{hh}$", BLUE),
    ):
        top = LINES[1] + size / 2 * HIGH + 0.35
        write(axes, middle, top, name, colour=colour, size="small")


def _matrix(data: pd.DataFrame, name: str) -> np.ndarray:
    rows = data[data["quantity"] == name]
    return rows.pivot(index="row", columns="column", values="measured").to_numpy(float)


def _entry(axes: Axes, x: float, y: float, width: float, colour: str) -> None:
    axes.add_patch(Rectangle((x, y), width, HIGH, facecolor=colour, edgecolor=shade(GREY), linewidth=thin(0.3)))


def _write_line(axes: Axes, height: float, start: str) -> None:
    """A formula whose two factors have their colours."""
    write(axes, 0.1, height, start, "left", size="large")
    write(axes, 3.0, height, r"$\mathrm{diag}(\tanh^{\prime}(a_t))$", "left", colour=VERMILLION, size="large")
    write(axes, 6.55, height, "$W_{hh}$", "left", colour=BLUE, size="large")


def _draw_product(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    last = int(data.loc[data["quantity"] == "product", "time"].iloc[0])
    _write_line(axes, LINES[2], labels("diagram.all_steps_back", last=str(last)))
    if not built(MEASURED):  # a remark on this line alone
        write(axes, DIAGONAL, LINES[2], labels("diagram.one_term"), "left", colour=GREY, size="medium")


def _draw_factors(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    """A column for each step back, what tanh', W_hh and both leave; after the last the product of all."""
    names = {"tanh": r"$\tanh^{\prime}$", "weights": "$W_{hh}$", "factor": labels("diagram.factor")}
    for name, (y, colour) in ROWS.items():
        size = "medium" if name == "factor" else "small"
        write(axes, FACTORS - 0.15, y, names[name], "right", colour=colour, size=size)
        values = data[data["quantity"] == name].sort_values("time", ascending=False)
        for place, (_, step) in enumerate(values.iterrows()):
            x = FACTORS + place * WIDTH
            share = float(np.clip(step["measured"], 0, 1)) if np.isfinite(step["measured"]) else 0.0
            ground = mixed(colour, 0.3 * share)
            axes.add_patch(Rectangle((x, y - HEIGHT / 2), 0.94 * WIDTH, HEIGHT, facecolor=ground, linewidth=0))
            write(axes, x + 0.47 * WIDTH, y, short(step["measured"]), size=size)
    end = FACTORS + WIDTH * int((data["quantity"] == "factor").sum())
    product = data.loc[data["quantity"] == "product", "measured"].iloc[0]
    y, _ = ROWS["factor"]
    write(axes, end + 0.1, y, f"= {short(product)}", "left", size="x-large")
