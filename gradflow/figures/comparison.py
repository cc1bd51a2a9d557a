"""Which cells learned? Final test accuracy and loss over cells, clipping and initialisation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import blended_transform_factory

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, distinct, finish, limit_loss, mark_top_edge
from gradflow.figures.style import DASHES, GREY, look, new_figure, style, thin

APART = 0.32  # distance of the marks of one row, in rows


def plot_comparison(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw final test accuracy (left, a row per cell and start) and training loss (right, a panel per initialisation).

    Args:
        data: What :func:`gradflow.analysis.comparison` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    inits, clips = distinct(data, "init"), distinct(data, "clip")
    with style(lang, context):
        figure = new_figure(1.2, 1.0 if len(inits) == 1 else 1.15)
        grid = figure.add_gridspec(len(inits), 2, width_ratios=[1, 1.15])
        accuracy = figure.add_subplot(grid[:, 0])
        _draw_accuracy(accuracy, data[data["quantity"] == "test_accuracy"], inits, clips, labels)
        first: Axes | None = None
        for i, init in enumerate(inits):
            axes = figure.add_subplot(grid[i, 1], sharex=first, sharey=first)
            first = first or axes
            _draw_losses(axes, data[data["init"] == init], clips, labels)
            axes.set_title(labels(f"facet.{init}"), fontsize="medium")
            axes.tick_params(labelbottom=i == len(inits) - 1)
        axes.set_xlabel(labels("axis.iteration"))
        limit_loss(axes, data[data["quantity"] == "loss"])
        _add_legend(figure, clips, labels)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_accuracy(axes: Axes, final: pd.DataFrame, inits: Sequence[str], clips: Sequence[str], labels: Labels) -> None:
    rows = [
        (cell, start)
        for init in inits
        for cell in distinct(final[final["init"] == init], "cell")
        for start in final.loc[(final["init"] == init) & (final["cell"] == cell), "start"].unique()
    ]
    for y, (cell, start) in enumerate(rows):
        for i, clip in enumerate(clips):
            height = y + APART * (i - (len(clips) - 1) / 2)
            for _, row in final[
                (final["cell"] == cell) & (final["start"] == start) & (final["clip"] == clip)
            ].iterrows():
                _draw_dot(axes, row, height, filled=i > 0, labels=labels)
    axes.set_yticks(range(len(rows)), [labels.curve(cell, start) for cell, start in rows])
    for text, (cell, _) in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_color(look(cell).colour)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %", decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(labels("axis.test_accuracy"))
    _draw_chance(axes, final, labels)


def _draw_dot(axes: Axes, row: pd.Series, height: float, *, filled: bool, labels: Labels) -> None:
    """The accuracy with its interval, or in words why there is none."""
    colour, marker = look(row["cell"])
    if np.isfinite(row["value"]):
        axes.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=thin())
        inside = colour if filled else "white"
        axes.plot(row["value"], height, marker=marker, color=colour, markerfacecolor=inside, clip_on=False)
    if row["status"] != "finished":
        words = labels(f"status.{row['status']}")
        place = blended_transform_factory(axes.transAxes, axes.transData)
        axes.text(0.99, height, words, transform=place, color=colour, fontsize="small", ha="right", va="center")


def _draw_chance(axes: Axes, final: pd.DataFrame, labels: Labels) -> None:
    chance = final["chance_accuracy"].iloc[0]
    known = np.concatenate([final[["value", "low", "high"]].to_numpy().ravel(), [chance]])
    known = known[np.isfinite(known)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    room = max(0.06 * (high - low), 0.01)
    axes.set_xlim(max(low - room, 0), min(high + room, 1.01))
    if np.isfinite(chance):
        axes.axvline(chance, color=GREY, linestyle=":", linewidth=thin())
        words, place = labels("note.chance"), axes.get_xaxis_transform()
        axes.text(chance, 1.005, words, transform=place, color=GREY, fontsize="small", ha="center", va="bottom")


def _draw_losses(axes: Axes, data: pd.DataFrame, clips: Sequence[str], labels: Labels) -> None:
    loss = data[data["quantity"] == "loss"]
    for cell in distinct(loss, "cell"):
        for start in loss.loc[loss["cell"] == cell, "start"].unique():
            for i, clip in enumerate(clips):
                own = loss[(loss["cell"] == cell) & (loss["start"] == start) & (loss["clip"] == clip)]
                colour = look(cell).colour
                axes.plot(
                    own["iteration"],
                    own["value"],
                    color=colour,
                    linestyle=_dash(i),
                    linewidth=thin(0.75),
                )
                mark_top_edge(axes, own.loc[own["value"].isna(), "iteration"], colour)
    chance = data["chance_loss"].iloc[0]
    if np.isfinite(chance):
        axes.axhline(chance, color=GREY, linestyle=":", linewidth=thin())
    axes.set_ylabel(labels("axis.loss"))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _dash(i: int) -> Any:
    """Line style of the i-th kind of clipping: without clipping dashed, the next solid."""
    return DASHES[1 - i if i < 2 else i]


def _add_legend(figure: Figure, clips: Sequence[str], labels: Labels) -> None:
    if len(clips) < 2:
        return
    handles = [
        Line2D(
            [],
            [],
            color=GREY,
            marker="o",
            linestyle=_dash(i),
            markerfacecolor=GREY if i else "white",
            label=labels.clip(clip),
        )
        for i, clip in enumerate(clips)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
