"""What several figures need: panels, logarithmic axes, labels at the end of lines, notes, the caption."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter, StrMethodFormatter

from gradflow.figures.catalogue import Labels, wrap
from gradflow.figures.style import GREY, thin

CAPTION_SIZE = 0.8  # of the base font
INIT_ORDER = ["default", "gaussian", "orthogonal", "identity", "remember"]
CELL_ORDER = ["linear", "rnn", "rnn_relu", "lstm", "gru", "gru_before"]
CLIP_ORDER = ["none", "norm", "value", "parameter"]


def in_order(values: pd.Series, order: Sequence[str]) -> list[str]:
    """The distinct values, the known ones in the given order, others after them."""
    return sorted(values.unique(), key=lambda value: (order.index(value) if value in order else len(order), value))


def log_axis(axis: Axis) -> None:
    """Make an axis logarithmic: powers of ten over several decades, plain numbers within fewer."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    if high / low > 50:
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_major_formatter(LogFormatterSciNotation())
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=10))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


class EndLabel(NamedTuple):
    """Text beside the right end of a line that ends at height y."""

    y: float
    text: str
    colour: str


def label_ends(axes: Axes, labels: Sequence[EndLabel], size: str | float = "small") -> None:
    """Write labels right of the axes, highest line first, moved apart where they would touch."""
    labels = sorted((label for label in labels if np.isfinite(label.y)), key=lambda label: label.y)
    if not labels:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    place = axes.transScale + axes.transLimits
    wanted = np.clip([place.transform((1, label.y))[1] for label in labels], 0, 1)
    line = mpl.font_manager.FontProperties(size=size).get_size_in_points() * 1.25 * figure.dpi / 72
    heights = np.array([label.text.count("\n") + 1 for label in labels]) * line / axes.get_window_extent().height
    for label, start, end in zip(labels, wanted, spread(wanted, heights), strict=True):
        axes.annotate(
            label.text,
            (1, start),
            (1.06, end),
            xycoords="axes fraction",
            color=label.colour,
            fontsize=size,
            va="center",
            linespacing=1.05,
            arrowprops={
                "arrowstyle": "-",
                "color": label.colour,
                "linewidth": thin(0.4),
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def spread(wanted: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Centres of boxes of these heights, near the wanted ones (ascending), without overlap and within [0, 1].

    Example:
        >>> spread(np.array([0.5, 0.5]), np.array([0.2, 0.2]))
        array([0.4, 0.6])
    """
    gaps = (heights[:-1] + heights[1:]) / 2
    up = wanted.astype(float)
    for i, gap in enumerate(gaps):
        up[i + 1] = max(up[i + 1], up[i] + gap)
    down = wanted.astype(float)
    for i in range(len(gaps) - 1, -1, -1):
        down[i] = min(down[i], down[i + 1] - gaps[i])
    centre = (up + down) / 2
    excess = max(0.0, centre[-1] + heights[-1] / 2 - 1.0), max(0.0, -(centre[0] - heights[0] / 2))
    return centre - excess[0] + excess[1]


def corner_note(axes: Axes, lines: Sequence[str], x: float = 0.02, y: float = 0.03) -> None:
    """Small grey remarks inside the axes, in the lower left unless told otherwise."""
    if lines:
        side = {"ha": "left" if x < 0.5 else "right", "va": "bottom" if y < 0.5 else "top"}
        axes.text(x, y, "\n".join(lines), transform=axes.transAxes, color=GREY, fontsize="small", **side)


def mark_top_edge(axes: Axes, x: Sequence[float], colour: str) -> None:
    """Triangles on the top edge, where a value is not finite."""
    if len(x):
        axes.plot(x, np.ones(len(x)), "^", color=colour, transform=axes.get_xaxis_transform(), clip_on=False, zorder=5)


def add_caption(figure: Figure, data: pd.DataFrame, claims: Sequence[Mapping[str, Any]], labels: Labels) -> None:
    """The setting, the figure's claim (the first) and the names of checks that fail, small, under the figure."""
    setting = labels.setting(data)
    sentences = [labels.claim(claim) for claim in claims[:1]]
    failed = [labels("claim.check_fails", check=claim["claim"]) for claim in claims[1:] if not claim["holds"]]
    text = labels("sentence.separator").join(
        [*([labels("claim.setting", setting=setting)] if setting else []), *sentences, *failed]
    )
    size = mpl.rcParams["font.size"] * CAPTION_SIZE
    columns = int(figure.get_figwidth() * 72 / (size * 0.56))
    if text:
        figure.supxlabel(wrap(text, columns), x=0.012, ha="left", fontsize=size, color=GREY, linespacing=1.25)
