"""What does clipping do to the gradient norm and the loss?

Above, the norm of the whole gradient at every update, logarithmic: without clipping, before it and after it, the
threshold dashed. Below, the loss of the same seeds. Look where the norm first exceeds the threshold: until there the
curves are the same, from there on they part.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gradflow.analysis.runs import UNCLIPPED
from gradflow.figures.catalogue import Labels, number
from gradflow.figures.layout import (
    add_caption,
    finish,
    label_outer,
    limit_loss,
    log_scale,
    mark_alone,
    mark_top_edge,
    note_beyond,
    panel_grid,
    top_legend,
)
from gradflow.figures.theme import BLACK, BLUE, FADED, VERMILLION, shade, style, thin

MOST_COLUMNS = 5
SPIKE = 0.35  # opacity of what clipping cut off
FEW = 30  # seeds whose lines can be told apart; more of them behind the typical one are drawn as one


def plot_clipping_effect(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw gradient norm and loss with and without clipping, from the same seed: a column per cell and start.

    Args:
        data: What :func:`gradflow.analysis.clipping_effect` returned, of runs without clipping and of one kind of
            clipping.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are several kinds of clipping.
    """
    kinds = sorted(set(data["clip"]) - {*UNCLIPPED})
    if len(kinds) > 1:
        raise ValueError(f"data: expected one kind of clipping beside none, got {kinds}; draw each in its own figure")
    labels = Labels(lang)
    with style(lang, context):
        deep = 2 if data["has_loss"].any() else 1
        figure, grid, panels = panel_grid(data, labels, most=MOST_COLUMNS, heights=(1,) * deep)
        for norm, panel in panels.items():
            norm.set_title(norm.get_title(), pad=1.5 * mpl.rcParams["font.size"], color=shade(BLACK))
            _draw_norms(norm, panel)
            _note_share(norm, panel, labels)
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
        label_outer(grid, labels("axis.iteration"), labels("axis.gradient_norm"))
        for row in grid[::deep]:
            log_scale(row[0])
        if deep > 1:
            _add_losses(grid[1::2], list(panels.values()), data, labels)
        _add_legend(figure, data, labels)
        non_finite = int(data["non_finite"].sum())
        notes = [labels("note.non_finite", count=str(non_finite))] if non_finite else []
        add_caption(figure, data, claims, labels, notes)
        finish(figure)
    return figure


def _add_losses(losses: np.ndarray, panels: Sequence[pd.DataFrame], data: pd.DataFrame, labels: Labels) -> None:
    for row in losses:
        limit_loss(row[0], data, "loss_trend", ticks=3)
        row[0].set_ylabel(labels("axis.loss"))
    for axes, panel in zip(losses.flat, panels, strict=False):
        _draw_losses(axes, panel[panel["has_loss"]])
        note_beyond(axes, panel["loss"], labels)


def _seeds(panel: pd.DataFrame, clipped: bool) -> list[tuple[pd.DataFrame, float]]:
    """Rows and opacity of each seed: the typical one stands out, and is drawn last."""
    side = panel[~panel["clip"].isin(UNCLIPPED) == clipped]
    order = side.drop_duplicates("seed").sort_values(["typical", "seed"])
    behind = order.loc[~order["typical"], "seed"]
    if len(behind) > FEW and side["seed"].value_counts().min() > 1:  # single points would have no line
        return [(_joined(side, behind), FADED), *_seeds(panel[panel["typical"]], clipped)]
    return [(side[side["seed"] == row.seed], 1.0 if row.typical else FADED) for row in order.itertuples()]


def _joined(side: pd.DataFrame, seeds: pd.Series) -> pd.DataFrame:
    """The rows of some seeds after each other, with an empty one between them, in which a line stops."""
    gaps = pd.DataFrame({"seed": seeds})
    rows = pd.concat([side[side["seed"].isin(seeds)].astype({"iteration": float}), gaps])
    return rows.sort_values("seed", kind="stable")


def _draw_norms(axes: Axes, panel: pd.DataFrame) -> None:
    for run, opacity in _seeds(panel, clipped=False):
        _line(axes, run, "before", VERMILLION, opacity)
    for run, opacity in _seeds(panel, clipped=True):
        acted = run[run["clipped"] == 1]
        axes.vlines(
            acted["iteration"],
            acted["after"],
            acted["before"],
            color=shade(BLUE),
            alpha=SPIKE * opacity,
            linewidth=thin(0.4),
        )
        _line(axes, run, "after", BLUE, opacity)
        for threshold in run["threshold"].unique():
            if np.isfinite(threshold):
                axes.axhline(threshold, color=shade(BLACK), linestyle="--", linewidth=thin(0.5))


def _draw_losses(axes: Axes, panel: pd.DataFrame) -> None:
    for clipped, colour in ((False, VERMILLION), (True, BLUE)):
        for run, opacity in _seeds(panel, clipped):
            axes.plot(run["iteration"], run["loss"], color=shade(colour), alpha=FADED * opacity, linewidth=thin(0.3))
            _line(axes, run, "loss_trend", colour, opacity)


def _line(axes: Axes, run: pd.DataFrame, quantity: str, colour: str, opacity: float) -> None:
    """A line that stops where the value is not finite, and triangles there on the top edge."""
    values = run[quantity].where(np.isfinite(run[quantity]))
    axes.plot(run["iteration"], values, color=shade(colour), alpha=opacity, linewidth=thin(0.55), **mark_alone(values))
    mark_top_edge(axes, run.loc[values.isna(), "iteration"].dropna(), colour)


def _note_share(axes: Axes, panel: pd.DataFrame, labels: Labels) -> None:
    clipped = panel[~panel["clip"].isin(UNCLIPPED)]
    if len(clipped):
        percent = float(f"{100 * clipped['clipped'].mean():.2g}")  # of two digits, never as a power of ten
        share = labels("note.clipped_share", share=f"{percent:g}")
        axes.text(
            0.5, 1.01, share, transform=axes.transAxes, ha="center", va="bottom", fontsize="small", color=shade(BLUE)
        )


def _add_legend(figure: Figure, data: pd.DataFrame, labels: Labels) -> None:
    clipped, entries = data[~data["clip"].isin(UNCLIPPED)], list[tuple[str, str, float]]()
    if (data["clip"] == "none").any():
        entries.append(("note.without", VERMILLION, 1.0))
    if clipped["clipped"].any():
        entries += [("note.before", BLUE, SPIKE), ("note.after", BLUE, 1.0)]
    elif len(clipped):
        entries.append(("note.with", BLUE, 1.0))
    handles = [Line2D([], [], color=shade(colour), alpha=alpha, label=labels(key)) for key, colour, alpha in entries]
    if clipped["threshold"].notna().any():
        text = labels("note.threshold", threshold=number(clipped["threshold"].iloc[0]))
        handles.append(Line2D([], [], color=shade(BLACK), linestyle="--", linewidth=thin(0.5), label=text))
    top_legend(figure, handles)
