"""What do the singular values and eigenvalues of the recurrent weights look like, before and after training?

Above, the singular values of the recurrent weights, sorted; below, the eigenvalues in the complex plane with the unit
circle. Grey is before training, colour after. The largest singular value bounds one step; the largest modulus of an
eigenvalue, ρ, rules the long run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels, matrix, number
from gradflow.figures.layout import add_caption, arrange, finish, panel_title, panels_of, top_legend
from gradflow.figures.theme import BLACK, GREY, look, new_figure, shade, style, thin, under_words

MOST_COLUMNS = 6
FARTHEST = 2.0  # eigenvalues beyond do not stretch the axes further, they are arrows at the edge
LARGEST = 2.5  # the same of singular values, whose lines leave the axes


def plot_weight_spectrum(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw singular values against rank, and eigenvalues in the plane with the unit circle: a column per matrix.

    Args:
        data: What :func:`gradflow.analysis.weight_spectrum` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    panels = [
        data[(data["cell"] == cell) & (data["start"] == start) & (data["gate"] == gate)]
        for cell, start in panels_of(data)
        for gate in data.loc[(data["cell"] == cell) & (data["start"] == start), "gate"].unique()
    ]
    with style(lang, context):
        figure, singular, eigen = spectrum_axes(len(panels))
        for values, plane, panel in zip(singular, eigen, panels, strict=False):
            _draw_panel(values, plane, panel)
            first = panel.iloc[0]
            title, colour = labels.title(first["cell"], first["start"]), look(first["cell"]).colour
            panel_title(values, title, colour, matrix(first["gate"]))
        label_spectrum(singular, eigen, len(panels), labels)
        limit_spectrum(singular, eigen, data)
        _add_legend(figure, data, labels)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def spectrum_axes(count: int) -> tuple[Figure, list[Axes], list[Axes]]:
    """A figure, its axes of singular values and those of eigenvalues: side by side for one matrix, else a column each.

    More columns than MOST_COLUMNS begin anew below; axes left over are off.
    """
    if count == 1:
        figure = new_figure()
        left, right = figure.subplots(1, 2)
        return figure, [left], [right]
    rows, columns = arrange(count, MOST_COLUMNS)
    figure = new_figure(1.2, 1.0 if rows == 1 else 0.95 * rows)
    grid = figure.subplots(2 * rows, columns, sharey="row", squeeze=False, height_ratios=[1, 1.25] * rows)
    singular, eigen = list(grid[::2].flat), list(grid[1::2].flat)
    for axes in singular[count:] + eigen[count:]:
        axes.set_axis_off()
    return figure, singular, eigen


def draw_ones(values: Axes, plane: Axes) -> None:
    """The line at 1 and the unit circle, with axes that suit them."""
    values.axhline(1, color=shade(BLACK), linestyle="--", linewidth=thin(0.5))
    values.set_xlim(0, 1)
    values.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    plane.add_patch(Circle((0, 0), 1, fill=False, edgecolor=shade(BLACK), linestyle="--", linewidth=thin(0.5)))
    plane.set_aspect("equal")


def draw_singular(axes: Axes, part: pd.DataFrame, colour: str, width: float) -> Line2D:
    """The singular values of one matrix against rank."""
    values = part["singular_value"].where(np.isfinite(part["singular_value"]))
    return axes.plot(part["share"], values, color=shade(colour), linewidth=thin(width))[0]


def draw_eigen(axes: Axes, part: pd.DataFrame, colour: str) -> Line2D:
    """The eigenvalues of one matrix in the plane, hollow in grey; those beyond FARTHEST are left out."""
    hollow = colour is GREY
    near = within(part)
    return axes.plot(
        part.loc[near, "eigenvalue_re"],
        part.loc[near, "eigenvalue_im"],
        "o",
        color=shade(colour),
        markerfacecolor="none" if hollow else shade(colour),
        markersize=thin(1.6),
        markeredgewidth=thin(0.35),
        alpha=1.0 if hollow else 0.8,
    )[0]


def within(part: pd.DataFrame) -> pd.Series:
    """Which eigenvalues lie where axes may reach."""
    return part[["eigenvalue_re", "eigenvalue_im"]].abs().max(axis=1) <= FARTHEST


def _draw_panel(values: Axes, plane: Axes, panel: pd.DataFrame) -> None:
    draw_ones(values, plane)
    parts = _parts(panel)
    for part, colour, width in reversed(parts):
        draw_singular(values, part, colour, width)
    for part, colour, _ in parts:
        _mark_beyond(plane, part[~within(part)], colour)
        draw_eigen(plane, part, colour)
    text = _moved(panel, "singular_value", r"\sigma_1")
    values.text(0.97, 0.95, text, transform=values.transAxes, ha="right", va="top", fontsize="small")
    radius: dict[str, Any] = {"transform": plane.transAxes, "va": "top", "fontsize": "small", "bbox": under_words()}
    plane.text(0.03, 0.97, _moved(panel, "modulus", r"\rho"), **radius)


def _mark_beyond(axes: Axes, part: pd.DataFrame, colour: str) -> None:
    """Arrows at the edge, in the direction of the eigenvalues that lie beyond it."""
    for real, imaginary in part[["eigenvalue_re", "eigenvalue_im"]].to_numpy():
        if np.isfinite([real, imaginary]).all():
            edge = FARTHEST / max(abs(real), abs(imaginary))
            end, start = (real * edge, imaginary * edge), (0.75 * real * edge, 0.75 * imaginary * edge)
            axes.annotate(
                "", end, start, arrowprops={"arrowstyle": "->", "color": shade(colour), "linewidth": thin(0.7)}
            )


def _parts(panel: pd.DataFrame) -> list[tuple[pd.DataFrame, str, float]]:
    """Rows before and after training, with their colour and line width."""
    looks = {"after": (look(panel["cell"].iloc[0]).colour, 0.6), "before": (GREY, 1.2)}
    return [(panel[panel["when"] == when], *how) for when, how in looks.items() if (panel["when"] == when).any()]


def _moved(panel: pd.DataFrame, column: str, symbol: str) -> str:
    modulus = np.hypot(panel["eigenvalue_re"], panel["eigenvalue_im"])
    ends = panel.assign(modulus=modulus).groupby("when", sort=False)[column].max()
    return rf"${symbol}$ = " + " → ".join(number(float(f"{value:.3g}")) for value in ends)


def label_spectrum(singular: Sequence[Axes], eigen: Sequence[Axes], count: int, labels: Labels) -> None:
    """Labels of the axes of so many matrices, see :func:`spectrum_axes`."""
    for values, plane in zip(singular[:count], eigen[:count], strict=True):
        values.set_xlabel(labels("axis.rank"))
        plane.set_xlabel(labels("axis.real"))
    across = arrange(count, MOST_COLUMNS)[1]
    height = labels("axis.singular_value")
    for values, plane in zip(singular[::across], eigen[::across], strict=True):
        values.set_ylabel(height if count == 1 else height.replace(" ", "\n", 1))  # above one another they are low
        plane.set_ylabel(labels("axis.imaginary"))


def limit_spectrum(values: Sequence[Axes], planes: Sequence[Axes], data: pd.DataFrame) -> None:
    """Limits that hold all values of all panels, up to LARGEST and FARTHEST."""
    singular = data.loc[np.isfinite(data["singular_value"]), "singular_value"]
    modulus = np.hypot(data["eigenvalue_re"], data["eigenvalue_im"])
    for axes in values:
        axes.set_ylim(0, min(1.22 * max(singular.max() if len(singular) else 1, 1), LARGEST))
        axes.yaxis.set_major_locator(MaxNLocator(3))  # as many whatever the height, on which the layout depends
    reach = min(1.3 * max(modulus[np.isfinite(modulus)].max() if np.isfinite(modulus).any() else 1, 1), FARTHEST)
    for axes in planes:
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _add_legend(figure: Figure, data: pd.DataFrame, labels: Labels) -> None:
    cells = data["cell"].unique()
    after = look(cells[0]).colour if len(cells) == 1 else shade(BLACK)
    handles = [
        Line2D([], [], color=shade(GREY), marker="o", markerfacecolor="none", label=labels("note.before_training"))
    ]
    if (data["when"] == "after").any():
        iteration = int(data.loc[data["when"] == "after", "iteration"].max())
        text = labels("note.after_training", iteration=str(iteration))
        handles.append(Line2D([], [], color=after, marker="o", label=text))
    handles.append(Line2D([], [], color=shade(BLACK), linestyle="--", linewidth=thin(0.5), label=labels("note.one")))
    top_legend(figure, handles)
