"""What several figures need: panels, logarithmic axes, labels at the end of lines, notes, the caption."""

import re
from collections.abc import Mapping, Sequence, Sized
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from gradflow.analysis.proofs import RECORD_PROVED
from gradflow.analysis.runs import ORDER, rank
from gradflow.figures.catalogue import Labels, wrap
from gradflow.figures.options import in_force
from gradflow.figures.theme import DASHES, GREY, INK, TITLE, look, new_figure, shade, thin, under_words, without_engine

CAPTION_SIZE = 0.833  # of the base font: as "small", whose indices are 24 of 1920 pixels
LEFT, TOP = 0.012, 0.012  # margins of what is written across, in parts of the figure
COLUMN = 0.53  # width of a letter in its size, half that of a Chinese character
HEADLINE = "headline"  # by which it is known among the texts of a figure, and in its SVG
HEADLINE_SIZE = 0.025  # of the width of the figure: 48 of 1920 pixels
LOG_FROM = 30.0  # losses that span more are drawn on a logarithmic axis
VISIBLE = 0.06  # of the height of the axes; a band that is nowhere higher hides behind its line


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


def arrange(panels: int, most: int) -> tuple[int, int]:
    """Rows and columns of a grid for so many panels, at most `most` of them side by side."""
    rows = -(-panels // most)
    return rows, -(-panels // rows)


def facet_grid(data: pd.DataFrame, labels: Labels, **more: Any) -> tuple[Figure, np.ndarray, dict[Axes, pd.DataFrame]]:
    """As :func:`panel_grid`, of runs with one kind of clipping.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    check_one_clipping(data)
    return panel_grid(data, labels, **more)


def panel_grid(
    data: pd.DataFrame, labels: Labels, *, most: int = 4, heights: Sequence[float] = (1.0,)
) -> tuple[Figure, np.ndarray, dict[Axes, pd.DataFrame]]:
    """A figure with a panel per cell and start, titled and sharing its axes; call it inside the style.

    Args:
        data: Columns init, cell, start and others.
        labels: Of the language.
        most: Panels side by side; more begin a new row, in which those of one initialisation stay together.
        heights: Of the axes of a panel, which lie under one another; those on one height share their scale.

    Returns:
        The figure, all its axes (those left over are off), and the uppermost axes of each panel with its rows.
    """
    panels = panels_of(data)
    rows, columns = arrange(len(panels), most)
    if rows > 1:
        inits = {(c, s): i for c, s, i in zip(data["cell"], data["start"], data["init"], strict=True)}
        panels.sort(key=lambda panel: rank(inits[panel], ORDER["init"]))
    figure = new_figure(1.0 if columns == 1 else 1.2, max(1.0, 0.4 + 0.5 * rows))
    deep = len(heights)
    shared: Any = {"sharex": True, "sharey": "row" if deep > 1 else True}
    grid = figure.subplots(rows * deep, columns, squeeze=False, height_ratios=[*heights] * rows, **shared)
    own: dict[Axes, pd.DataFrame] = {}
    for axes, (cell, start) in zip(grid[::deep].flat, panels, strict=False):
        panel_title(axes, labels.title(cell, start), look(cell).colour)
        own[axes] = data[(data["cell"] == cell) & (data["start"] == start)]
    for axes in grid[-deep:, len(panels) - (rows - 1) * columns :].flat:
        axes.set_axis_off()
    return figure, grid, own


def panel_title(axes: Axes, text: str, colour: str, more: str = "") -> None:
    """A title in lines that are not wider than the panel, and a line after it."""
    figure, place = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure is not None
    assert place is not None
    room = 0.85 * figure.get_figwidth() / place.get_gridspec().ncols
    lines = [_wrapped(text, room, mpl.rcParams["axes.titlesize"])]
    axes.set_title("\n".join(lines + [more] * bool(more)), color=shade(colour))


def _wrapped(text: str, inches: float, size: float) -> str:
    return wrap(text, int(inches * 72 / (0.56 * size)), words=True)


def label_outer(grid: np.ndarray, x: str, y: str) -> None:
    """Axis labels along the left, in lines no longer than a panel is high, and the lower edge of a grid of panels."""
    room = 0.7 * grid[0, 0].figure.get_figheight() / len(grid)
    for axes in grid[:, 0]:
        axes.set_ylabel(y if "$" in y else _wrapped(y, room, mpl.rcParams["axes.labelsize"]))
    label_lowest(grid, x)


def label_lowest(grid: np.ndarray, x: str) -> None:
    """The horizontal axis, under the lowest panel of each column: the last row may have axes that are off."""
    for column in grid.T:
        lowest = [axes for axes in column if axes.axison][-1]
        lowest.set_xlabel(x)
        lowest.tick_params(labelbottom=True)


def cell_curves(data: pd.DataFrame, position: str = "lag") -> list[tuple[pd.Series, pd.DataFrame, Any]]:
    """First row, rows and line style of every curve over `position`; the variants of a cell differ in their dashes."""
    curves = []
    for cell in distinct(data, "cell"):
        own = data[data["cell"] == cell]
        variants = [(s, c) for c in distinct(own, "clip") for s in own.loc[own["clip"] == c, "start"].unique()]
        for (start, clip), dash in zip(variants, DASHES * len(variants), strict=False):
            curve = own[(own["start"] == start) & (own["clip"] == clip)].sort_values(position)
            curves.append((curve.iloc[0], curve, dash))
    return curves


def log_scale(axes: Axes, *, ticks: int = 7) -> None:
    """Make the vertical axis logarithmic: powers of ten over several decades, so many, plain numbers within fewer."""
    axes.set_yscale("log")
    axis, (low, high) = axes.yaxis, axes.get_ylim()
    if high / low < 1.1:  # as of norms that are all clipped: ticks would differ in their last digits alone
        low, high = axes.set_ylim((low * high) ** 0.5 / 1.1, (low * high) ** 0.5 * 1.1)
    if high / low > 50:
        axis.set_major_locator(LogLocator(numticks=ticks))
        axis.set_major_formatter(LogFormatterSciNotation())
    else:
        subs = (1.0, 2.0, 5.0) if high / low > 6 else (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def limit_loss(axes: Axes, loss: pd.DataFrame, column: str = "value", *, ticks: int = 5) -> None:
    """Up to somewhat above where the losses start, so that one that explodes does not flatten the others.

    Logarithmic where the lowest is a small part of that, else from zero.

    Args:
        axes: The axes, or one of several that share the vertical axis.
        loss: Columns iteration and `column`, the loss.
        column: Its name.
        ticks: At most as many and one, if not logarithmic: fewer where the axes are low.
    """
    loss = loss[np.isfinite(loss[column])]
    if loss.empty:
        return
    start = loss.loc[loss["iteration"] == loss["iteration"].min(), column].median()
    top = max(min(loss[column].max() * 1.05, 1.7 * start), 1e-3)
    lowest = loss.loc[loss[column] > 0, column].min()
    if lowest < top / LOG_FROM:
        axes.set_ylim(lowest / 1.3, top)
        log_scale(axes)
    else:
        axes.set_ylim(0, top)
        axes.yaxis.set_major_locator(MaxNLocator(ticks))


def note_beyond(axes: Axes, loss: pd.Series, labels: Labels) -> None:
    """How large losses get that leave the axes far behind at the top; after :func:`limit_loss`."""
    largest = loss[np.isfinite(loss)].max()
    if largest > 2 * axes.get_ylim()[1]:
        corner_note(axes, [labels("note.beyond", value=float(largest))], "upper right")


def shows_band(axes: Axes, low: pd.Series, high: pd.Series) -> bool:
    """Whether the band between two curves is high enough to be seen, somewhere, in the limits of the axes."""
    scaled = axes.yaxis.get_transform().transform
    bottom, top = scaled(np.array(axes.get_ylim()))
    with np.errstate(all="ignore"):
        heights = (scaled(high.to_numpy(float)) - scaled(low.to_numpy(float))) / (top - bottom)
    return bool((np.isfinite(heights) & (heights > VISIBLE)).any())


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
            leader = {
                "arrowstyle": "-",
                "color": shade(text.colour),
                "linewidth": thin(0.4),
                "shrinkA": 0,
                "shrinkB": 0,
            }
            axes.annotate(
                text.text,
                (1, start),
                (1.06, end),
                xycoords="axes fraction",
                color=shade(text.colour),
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
    kind["bbox"] = (
        under_words() if colour == GREY else None
    )  # words of another colour are chosen for what is under them
    if lines:
        axes.text(*place, "\n".join(lines), transform=axes.transAxes, color=shade(colour), fontsize="small", **kind)


def top_legend(figure: Figure, handles: Sequence[Artist], **more: Any) -> None:
    """A legend above the panels, in as few lines as the width of the figure allows."""
    for lines in range(1, len(handles) + 1):
        columns = -(-len(handles) // lines)
        legend = figure.legend(handles=handles, loc="outside upper center", ncols=columns, **more)
        if legend.get_window_extent().width <= 0.98 * figure.bbox.width or columns == 1:
            return
        legend.remove()


def mark_alone(points: Sized) -> dict[str, Any]:
    """How a line is drawn so that it is seen if it has but one point."""
    return {"marker": "o", "clip_on": False} if len(points) == 1 else {}


def mark_top_edge(axes: Axes, x: pd.Series, colour: str) -> None:
    """Triangles on the top edge, where a value is not finite."""
    if len(x):
        axes.plot(
            x, np.ones(len(x)), "^", color=shade(colour), transform=axes.get_xaxis_transform(), clip_on=False, zorder=5
        )


def keep_margins(figure: Figure) -> None:
    """Leave at both sides the margin of the headline, where words would begin or end at the very edge."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(LEFT, 0, 1 - 2 * LEFT, 1))


def finish(figure: Figure) -> None:
    """Settle the layout, so that every format and size gets the same and saving need not work it out again.

    It is left without an engine: matplotlib's "none" is one too, for which every format would be drawn twice.
    """
    _settle(figure)
    if any(axes.get_aspect() != "auto" for axes in figure.axes):
        _settle(figure)  # such axes are smaller than their place, which the first time does not know
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
    steps: int = 1,
) -> None:
    """The first claim as a headline over the figure; small, under it, the setting, what fails, and notes.

    Args:
        figure: All but finished.
        data: Its table.
        claims: Checked statements.
        labels: Of the language.
        notes: Further sentences of the small print.
        steps: Of a figure that is built up.
    """
    options = in_force()
    broken = [labels("claim.record_proved", **claim) for claim in claims if claim["claim"] == RECORD_PROVED]
    claims = [claim for claim in claims if claim["claim"] != RECORD_PROVED]
    title = labels.headline(claims[0], options.step) if options.title is None and claims else options.title or ""
    if title:
        size = HEADLINE_SIZE * 72 * figure.get_figwidth()
        built = range(1, steps + 1) if options.title is None and steps > 1 else ()
        others = [_in_lines(figure, labels.headline(claims[0], step), size) for step in built]
        own: dict[str, Any] = {"fontsize": size, "color": shade(TITLE), "gid": HEADLINE, "linespacing": 1.25}
        put_on_top(figure, _in_lines(figure, title, size), others, **own)
    failed = [labels("claim.check_fails", check=claim["claim"]) for claim in claims[1:] if not claim["holds"]]
    setting = labels.setting(data)
    small = [*([labels("claim.setting", setting=setting)] if setting else []), *broken, *failed, *notes]
    text = labels("sentence.separator").join(small) if options.caption is True else options.caption or ""
    if text:
        size = mpl.rcParams["font.size"] * CAPTION_SIZE
        lines = _in_lines(figure, text, size)
        figure.supxlabel(lines, x=LEFT, ha="left", fontsize=size, color=shade(INK), linespacing=1.25)


_PAUSE = re.compile("[，：；。]")
"""Where a Chinese text is broken first."""


def _in_lines(figure: Figure, text: str, size: float) -> str:
    """A text in as few lines as the figure's width allows, which are about as long as one another; its own are kept."""
    if "\n" in text:
        return "\n".join(_in_lines(figure, line, size) for line in text.split("\n"))
    columns = max(1, int((1 - 2 * LEFT) * figure.get_figwidth() * 72 / (size * COLUMN)))
    if "\n" not in wrap(text, columns):
        return text
    for place in sorted((end.end() for end in _PAUSE.finditer(text)), key=lambda place: abs(place - len(text) / 2)):
        both = text[:place], text[place:]
        if both[1].strip() and all("\n" not in wrap(part, columns) for part in both):
            return "\n".join(part.strip() for part in both)
    count = wrap(text, columns).count("\n")
    while count and columns > 1 and wrap(text, columns - 1).count("\n") == count:
        columns -= 1
    return wrap(text, columns)


def put_on_top(figure: Figure, text: str, others: Sequence[str] = (), **look: Any) -> Text:
    """Write above everything that the figure shows; its legend comes under that, and a second text under the legend.

    matplotlib's layout leaves room for the higher one of a title and a legend above the axes, not for both. Room is
    left for the highest of `others`, too, which have this place in other steps of the figure: nothing moves between.
    """
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    left, bottom, width, height = engine.get()["rect"]
    words = figure.text(LEFT, bottom + height - TOP, text, ha="left", va="top", in_layout=False, **look)
    taken = [words.get_window_extent().height]
    for other in others:
        words.set_text(other)
        taken.append(words.get_window_extent().height)
    words.set_text(text)
    height -= max(taken) / figure.bbox.height + TOP
    for legend in figure.legends:
        if legend.get_bbox_to_anchor() is figure.bbox:  # not yet moved
            legend.set_bbox_to_anchor((left, bottom, width, height), transform=figure.transFigure)
            height -= legend.get_window_extent().height / figure.bbox.height + TOP
    engine.set(rect=(left, bottom, width, height))
    return words


def headline_share(figure: Figure) -> float:
    """The share of the height of a figure that its headline takes, with the margin under it; 0 without one."""
    for text in figure.texts:
        if text.get_gid() == HEADLINE:
            return 1 - text.get_window_extent().y0 / figure.bbox.height + TOP / 2
    return 0.0
