"""What does each unit keep, character by character?

A row is a unit, a column a character; colour is how much of its state the unit keeps there. Units are sorted by memory,
the longest on top. Right, the time scale of each, in steps: those beyond the dashed line outlast the sequence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from gradflow.analysis.gates import NEVER
from gradflow.figures.catalogue import Labels
from gradflow.figures.heat import beyond
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.theme import BLACK, NOTHING, ON_LIGHT, look, new_figure, shade, style, thin

MARKS = np.array([0.01, 0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999])  # of the colours, even in the gate's pre-activation
MOST_CHARACTERS = 40  # labelled along the sequence


def plot_gate_map(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the gate that keeps (colour) over units and the characters of a sequence, and how long each unit remembers.

    Args:
        data: What :func:`gradflow.training.prediction.gate_map` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels, first = Labels(lang), data.iloc[0]
    steps = int(data["position"].max()) + 1
    with style(lang, context):
        figure = new_figure()
        image, scales = figure.subplots(1, 2, sharey=True, width_ratios=[2.5, 1])
        marks = _marks(data["value"])
        norm = FuncNorm((_logit, _sigmoid), marks[0], marks[-1])
        _draw_gates(image, data, norm)
        extend = beyond(data["value"], norm)
        bar = figure.colorbar(ScalarMappable(norm), ax=image, extend=extend, aspect=28, pad=0.015, ticks=marks)
        bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        bar.ax.set_title(f"${first['gate']}_t$")
        _draw_scales(scales, data, steps)
        longer = int((data.drop_duplicates("rank")["time_scale"] > steps).sum())
        for axes, colour in ((image, ON_LIGHT), (scales, shade(BLACK))):
            axes.axhline(longer - 0.5, color=colour, linestyle="--", linewidth=thin(0.6))
        image.set_title(labels.cell(first["cell"]), color=look(first["cell"]).colour)
        image.set_ylabel(labels("axis.units"))
        scales.set_xlabel(labels("axis.time_scale"))
        scales.set_title(labels("note.length", steps=str(steps)), fontsize="small")
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _marks(values: pd.Series) -> np.ndarray:
    """The marks that hold all gates but the lowest and the highest fiftieth."""
    low, high = values.quantile(0.02), values.quantile(0.98)
    first = max(int(np.searchsorted(MARKS, low, side="right")) - 1, 0)
    last = min(int(np.searchsorted(MARKS, high)), len(MARKS) - 1)
    return MARKS[min(first, len(MARKS) - 2) : max(last, first + 1) + 1]


def _logit(value: np.ndarray) -> np.ndarray:
    inside = np.clip(value, 1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside))


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def _draw_gates(axes: Axes, data: pd.DataFrame, norm: FuncNorm) -> None:
    values = data.pivot(index="rank", columns="position", values="value")
    axes.set_facecolor(shade(NOTHING))
    axes.pcolormesh(values.columns, values.index, np.ma.masked_invalid(values), norm=norm, rasterized=True)
    axes.set_ylim(len(values) - 0.5, -0.5)
    every = -(-len(values.columns) // MOST_CHARACTERS)
    axes.set_xticks(values.columns[::every], list(data.loc[data["rank"] == 0, "character"])[::every], fontsize="small")
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _draw_scales(axes: Axes, data: pd.DataFrame, steps: int) -> None:
    """Time scales, up to NEVER times the length, and where they pass it."""
    units = data.drop_duplicates("rank")
    axes.plot(units["time_scale"].clip(upper=NEVER * steps), units["rank"], color=look(data["cell"].iloc[0]).colour)
    axes.axvline(steps, color=shade(BLACK), linestyle="--", linewidth=thin(0.6))
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    wide = high / low > 6
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=5) if wide else MaxNLocator(3))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
