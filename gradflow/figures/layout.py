"""What several figures need: panels, logarithmic axes, labels at the end of lines, notes, the caption."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter, StrMethodFormatter

from gradflow.analysis.runs import ORDER, rank
from gradflow.figures.catalogue import Labels, wrap
from gradflow.figures.style import DASHES, GREY, look, new_figure, thin, without_engine

CAPTION_SIZE = 0.8  # of the base font


def distinct(data: pd.DataFrame, column: str) -> list[str]:
    """The distinct cells, initialisations or clippings of a table, in the order in which they are shown."""
    return sorted(data[column].unique(), key=lambda value: rank(value, ORDER[column]))


def panels_of(data: pd.DataFrame) -> list[tuple[str, str]]:
    """Cell and start of every panel, in the order in which they are shown."""
    return [(c, s) for c in distinct(data, "cell") for s in data.loc[data["cell"] == c, "start"].unique()]


def check_one_clipping(data: pd.DataFrame) -> None:
    """Raise a ValueError if runs differ in their clipping, which a panel per cell and start would mix."""
    clips = distinct(data, "clip")
    if len(clips) > 1:
        raise ValueError(f"data: expected one kind of clipping, got {clips}; draw each in its own figure")


def facet_grid(
    data: pd.DataFrame, labels: Labels, *, most: int = 4
) -> tuple[Figure, np.ndarray, dict[Axes, pd.DataFrame]]:
    """A figure with a panel per cell and start, titled and sharing its axes; call it inside the style.

    Args:
        data: Columns cell, start and others.
        labels: Of the language.
        most: Panels side by side.

    Returns:
        The figure, all its axes (those left over are off), and the rows of each panel.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    check_one_clipping(data)
    panels = panels_of(data)
    rows = -(-len(panels) // most)
    columns = -(-len(panels) // rows)
    figure = new_figure(1.0 if columns == 1 else 1.2, 1.0 if rows == 1 else 1.2)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (cell, start) in zip(grid.flat, panels, strict=False):
        axes.set_title(labels.title(cell, start), color=look(cell).colour)
    own = [data[(data["cell"] == cell) & (data["start"] == start)] for cell, start in panels]
    return figure, grid, dict(zip(grid.flat, own, strict=False))


def label_outer(grid: np.ndarray, x: str, y: str) -> None:
    """Axis labels along the left and the lower edge of a grid of panels."""
    for axes in grid[:, 0]:
        axes.set_ylabel(y)
    for axes in grid[-1]:
        axes.set_xlabel(x)


def cell_curves(data: pd.DataFrame) -> list[tuple[pd.Series, pd.DataFrame, Any]]:
    """First row, rows and line style of every curve over lag; the variants of a cell differ in their dashes."""
    curves = []
    for cell in distinct(data, "cell"):
        own = data[data["cell"] == cell]
        variants = [(s, c) for c in distinct(own, "clip") for s in own.loc[own["clip"] == c, "start"].unique()]
        for (start, clip), dash in zip(variants, DASHES * len(variants), strict=False):
            curve = own[(own["start"] == start) & (own["clip"] == clip)].sort_values("lag")
            curves.append((curve.iloc[0], curve, dash))
    return curves


def log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic: powers of ten over several decades, plain numbers within fewer."""
    axes.set_yscale("log")
    axis, (low, high) = axes.yaxis, axes.get_ylim()
    if high / low > 50:
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_major_formatter(LogFormatterSciNotation())
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=10))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def limit_loss(axes: Axes, loss: pd.DataFrame, column: str = "value") -> None:
    """From zero to somewhat above where the losses start, so that one that explodes does not flatten the others.

    Args:
        axes: The axes, or one of several that share the vertical axis.
        loss: Columns iteration and `column`, the loss.
        column: Its name.
    """
    loss = loss[np.isfinite(loss[column])]
    if len(loss):
        first = loss["iteration"].min()
        start = loss.loc[loss["iteration"] <= first + 5, column].median()
        axes.set_ylim(0, max(min(loss[column].max() * 1.05, 1.7 * start), 1e-3))


class EndLabel(NamedTuple):
    """Text beside the right end of a line that ends at height y."""

    y: float
    text: str
    colour: str


def label_ends(figure: Figure, labels: Mapping[Axes, Sequence[EndLabel]]) -> None:
    """Write labels right of each axes at the height where their lines end, moved apart where they would touch."""
    _settle(figure)  # heights must be known
    size = font_manager.FontProperties(size="small").get_size_in_points()
    for axes, texts in labels.items():
        texts = sorted((text for text in texts if np.isfinite(text.y)), key=lambda text: text.y)
        place = axes.transScale + axes.transLimits
        wanted = np.array([np.clip(place.transform((1, text.y))[1], 0, 1) for text in texts])
        line = size * 1.25 * figure.dpi / 72 / axes.get_window_extent().height
        heights = line * np.array([text.text.count("\n") + 1 for text in texts])
        for text, start, end in zip(texts, wanted, spread(wanted, heights), strict=True):
            leader = {"arrowstyle": "-", "color": text.colour, "linewidth": thin(0.4), "shrinkA": 0, "shrinkB": 0}
            axes.annotate(
                text.text,
                (1, start),
                (1.06, end),
                xycoords="axes fraction",
                color=text.colour,
                fontsize="small",
                va="center",
                linespacing=1.05,
                arrowprops=leader | {"relpos": (0, 0.5)},
            )


def spread(wanted: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Centres of boxes of these heights, as near as may be to the wanted ones (ascending), not overlapping, in [0, 1].

    Stacked without gaps the boxes have offsets; what each would shift the stack by must not decrease, so the nearest
    arrangement is the isotonic regression of these shifts (pooling of adjacent violators).

    Example:
        >>> spread(np.array([0.5, 0.5]), np.array([0.2, 0.2]))
        array([0.4, 0.6])
    """
    offsets = np.cumsum(heights) - heights / 2
    pools: list[tuple[float, int]] = []
    for shift in wanted - offsets:
        mean, count = float(shift), 1
        while pools and pools[-1][0] > mean:
            below, size = pools.pop()
            mean, count = (below * size + mean * count) / (size + count), size + count
        pools.append((mean, count))
    shifts = np.array([mean for mean, count in pools for _ in range(count)])
    return np.clip(shifts, 0, max(0.0, 1 - heights.sum())) + offsets


def corner_note(axes: Axes, lines: Sequence[str], corner: str = "lower left", colour: str = GREY) -> None:
    """Small remarks in a corner of the axes: `lower left`, `upper right` and so on."""
    vertical, side = corner.split()
    place = {"left": 0.02, "right": 0.98}[side], {"lower": 0.03, "upper": 0.97}[vertical]
    kind: dict[str, Any] = {"ha": side, "va": {"lower": "bottom", "upper": "top"}[vertical]}
    if lines:
        axes.text(*place, "\n".join(lines), transform=axes.transAxes, color=colour, fontsize="small", **kind)


def mark_top_edge(axes: Axes, x: pd.Series, colour: str) -> None:
    """Triangles on the top edge, where a value is not finite."""
    if len(x):
        axes.plot(x, np.ones(len(x)), "^", color=colour, transform=axes.get_xaxis_transform(), clip_on=False, zorder=5)


def finish(figure: Figure) -> None:
    """Settle the layout, so that every format and size gets the same and saving need not work it out again.

    It is left without an engine: matplotlib's "none" is one too, for which every format would be drawn twice.
    """
    _settle(figure)
    with without_engine():
        figure.set_layout_engine(None)


def _settle(figure: Figure) -> None:
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)


def add_caption(
    figure: Figure,
    data: pd.DataFrame,
    claims: Sequence[Mapping[str, Any]],
    labels: Labels,
    notes: Sequence[str] = (),
) -> None:
    """The setting, the figure's claim (the first), the names of checks that fail and notes, small, under the figure."""
    setting = labels.setting(data)
    sentences = [labels.claim(claim) for claim in claims[:1]]
    failed = [labels("claim.check_fails", check=claim["claim"]) for claim in claims[1:] if not claim["holds"]]
    text = labels("sentence.separator").join(
        [*([labels("claim.setting", setting=setting)] if setting else []), *sentences, *failed, *notes]
    )
    size = mpl.rcParams["font.size"] * CAPTION_SIZE
    columns = int(figure.get_figwidth() * 72 / (size * 0.56))
    if text:
        figure.supxlabel(wrap(text, columns), x=0.012, ha="left", fontsize=size, color=GREY, linespacing=1.25)
