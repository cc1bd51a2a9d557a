"""How long does each unit remember, before and after training?

Up, the time scale -1/ln of the gate that keeps, in steps, logarithmic; across, the position. Grey is before training,
colour after; the line is the median over units and examples, the band 10 to 90 %. The dashed line is the length of the
sequences: a unit that reaches it can carry something from the beginning to the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradflow.analysis.gates import NEVER
from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, facet_grid, finish, label_outer, log_scale, mark_alone, top_legend
from gradflow.figures.theme import BLACK, GREY, look, shade, style, thin


def plot_gate_timescales(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw time scales (median and 10-90 % band over units and examples) against position: a panel per cell and start.

    Args:
        data: What :func:`gradflow.analysis.gate_timescales` returned, of one clipping.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure, grid, panels = facet_grid(data, labels)
        steps = float(data["steps"].max())
        for axes, panel in panels.items():
            _draw_panel(axes, panel, steps)
            axes.axhline(steps, color=shade(BLACK), linestyle="--", linewidth=thin(0.6))
        log_scale(grid[0, 0])
        grid[0, 0].set_xlim(0, max(data["time"].max(), 1))
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        label_outer(grid, labels("axis.time"), labels("axis.time_scale"))
        _add_legend(figure, data, steps, labels)
        add_caption(figure, data, claims, labels, notes=_notes(data, steps, labels))
        finish(figure)
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame, steps: float) -> None:
    for when, colour in (("before", GREY), ("after", look(panel["cell"].iloc[0]).colour)):
        part = panel[panel["when"] == when].sort_values("time")
        low, middle, high = (part[name].clip(upper=NEVER * steps) for name in ("low", "median", "high"))
        axes.fill_between(part["time"], low, high, color=shade(colour), alpha=0.25, linewidth=0)
        axes.plot(part["time"], middle, color=shade(colour), **mark_alone(part))


def _add_legend(figure: Figure, data: pd.DataFrame, steps: float, labels: Labels) -> None:
    cells = data["cell"].unique()
    after = look(cells[0]).colour if len(cells) == 1 else shade(BLACK)
    handles = [Line2D([], [], color=shade(GREY), label=labels("note.before_training"))]
    if (data["when"] == "after").any():
        iteration = str(int(data.loc[data["when"] == "after", "iteration"].max()))
        handles.append(Line2D([], [], color=after, label=labels("note.after_training", iteration=iteration)))
    text = labels("note.length", steps=format(steps, ".0f"))
    handles.append(Line2D([], [], color=shade(BLACK), linestyle="--", linewidth=thin(0.6), label=text))
    top_legend(figure, handles)


def _notes(data: pd.DataFrame, steps: float, labels: Labels) -> list[str]:
    beyond = int((data[["low", "median", "high"]] > NEVER * steps).sum().sum())
    band = [labels("note.gate_band")]
    return band + ([labels("note.never", count=str(beyond), limit=format(NEVER * steps, ".0f"))] if beyond else [])
