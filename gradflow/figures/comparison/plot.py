"""Which cells learned? Final test result and training loss over cells, clipping and initialisation.

Left, the test result of every cell and start, with its interval; the dotted line is chance. An interval beyond the line
is what counts as learned. Right, the training loss. With several seeds bars and bands are their range.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import blended_transform_factory

from gradflow.analysis.results import FINAL
from gradflow.figures.catalogue import Labels, number
from gradflow.figures.layout import (
    add_caption,
    distinct,
    finish,
    keep_margins,
    limit_loss,
    mark_top_edge,
    note_beyond,
    top_legend,
)
from gradflow.figures.theme import DASHES, GREY, PAPER, look, marker, new_figure, shade, style, thin

APART = 0.32  # distance of the marks of one row, in rows
MARKS = 4  # on a line
_Networks = Mapping[tuple[str, str], str]
"""Cell and start, and their mark."""


def plot_comparison(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the final test result (left, a row per cell and start) and training loss (right, by initialisation).

    Colour and mark of a row on the left are those of its losses on the right.

    Args:
        data: What :func:`gradflow.analysis.comparison` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    networks, clips = _marks(data), distinct(data, "clip")
    final, loss = data[data["quantity"].isin(FINAL)], data[data["quantity"] == "loss"]
    inits = distinct(loss if len(loss) else final, "init")
    judged = bool(final["value"].notna().any() or (final["status"] != "finished").any())
    with style(lang, context):
        figure = new_figure(1.2 if judged and len(loss) else 1.0, 1.0 if len(inits) == 1 else 1.15)
        widths = [1] * judged + [1.15] * (len(loss) > 0)
        grid = figure.add_gridspec(len(inits), len(widths), width_ratios=widths)
        if judged:
            _draw_results(figure.add_subplot(grid[:, 0]), final, networks, clips, labels)
        if len(loss):
            rows = [figure.add_subplot(grid[i, -1]) for i in range(len(inits))]
            _draw_all_losses(rows, loss, networks, clips, labels)
        keep_margins(figure)
        _add_legend(figure, clips, labels)
        add_caption(figure, data, claims, labels, notes=_notes(final, labels))
        finish(figure)
    return figure


def _draw_all_losses(
    rows: Sequence[Axes], loss: pd.DataFrame, networks: _Networks, clips: Sequence[str], labels: Labels
) -> None:
    """A row for each initialisation."""
    inits = distinct(loss, "init")
    for axes, init in zip(rows, inits, strict=True):
        if axes is not rows[0]:
            axes.sharex(rows[0])
            axes.sharey(rows[0])
        _draw_losses(axes, loss[loss["init"] == init], networks, clips)
        axes.set_title(labels.facet(init), fontsize="medium")
        axes.tick_params(labelbottom=init == inits[-1])
        axes.set_ylabel(labels("axis.loss"))
    axes.set_xlabel(labels("axis.iteration"))
    limit_loss(axes, loss)
    for axes, init in zip(rows, inits, strict=True):
        note_beyond(axes, loss.loc[loss["init"] == init, "value"], labels)
    _name_chance(rows[0], loss, labels)


def _notes(final: pd.DataFrame, labels: Labels) -> list[str]:
    """What the bars are, if there are any."""
    known = final[np.isfinite(final["low"])]
    kinds = {"note.range" if seeds > 1 else "note.interval" for seeds in known["seed"]}
    return [labels(kind) for kind in sorted(kinds)] if len(kinds) == 1 else []


def _name_chance(axes: Axes, loss: pd.DataFrame, labels: Labels) -> None:
    """The word above the line of chance, for which the axes may have to be a little higher."""
    chance, (low, high) = loss["chance_loss"].iloc[0], axes.get_ylim()
    if not low < chance <= high:
        return
    rise = (high / low) ** 0.12 if axes.get_yscale() == "log" else 1 + 0.12 * (high - low) / chance
    axes.set_ylim(low, max(high, chance * rise))
    words: dict[str, Any] = {"color": shade(GREY), "fontsize": "small", "ha": "center", "va": "bottom"}
    axes.text(0.5, chance * rise**0.15, labels("note.chance"), transform=axes.get_yaxis_transform(), **words)


def _marks(data: pd.DataFrame) -> _Networks:
    """Every cell and start with a mark, unlike for the starts of a cell whose losses share axes: those of one name."""
    marks: dict[tuple[str, str], str] = {}
    for init in distinct(data, "init"):
        own = data[data["init"] == init]
        for cell in distinct(own, "cell"):
            starts = own.loc[own["cell"] == cell, "start"].unique()
            marks |= {(cell, start): marker(cell, i) for i, start in enumerate(starts)}
    return marks


def _draw_results(axes: Axes, final: pd.DataFrame, networks: _Networks, clips: Sequence[str], labels: Labels) -> None:
    rows = [
        (cell, start)
        for init in distinct(final, "init")
        for cell, start in networks
        if ((final["init"] == init) & (final["cell"] == cell) & (final["start"] == start)).any()
    ]
    _scale_results(axes, final, labels)
    for y, network in enumerate(rows):
        for i, clip in enumerate(clips):
            height = y + APART * (i - (len(clips) - 1) / 2)
            for _, row in _of(final, network, clip).iterrows():
                _draw_dot(axes, row, height, networks[network], filled=i > 0, labels=labels)
    axes.set_yticks(range(len(rows)), [labels.title(cell, start) for cell, start in rows])
    for text, (cell, _) in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_color(look(cell).colour)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")


def _of(data: pd.DataFrame, network: tuple[str, str], clip: str) -> pd.DataFrame:
    return data[(data["cell"] == network[0]) & (data["start"] == network[1]) & (data["clip"] == clip)]


def _draw_dot(axes: Axes, row: pd.Series, height: float, mark: str, *, filled: bool, labels: Labels) -> None:
    """The result with its interval, or in words why there is none, or how far beyond the axes it is."""
    colour, inside = look(row["cell"]).colour, row["value"] <= axes.get_xlim()[1]
    if inside:
        axes.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=thin())
        face = colour if filled else shade(PAPER)
        axes.plot(row["value"], height, marker=mark, color=colour, markerfacecolor=face, clip_on=False)
    words = [labels.word("status", row["status"])] if row["status"] != "finished" else []
    words += [f"{number(row['value'])} →"] if np.isfinite(row["value"]) and not inside else []
    place = blended_transform_factory(axes.transAxes, axes.transData)
    axes.text(0.99, height, " ".join(words), transform=place, color=colour, fontsize="small", ha="right", va="center")


def _scale_results(axes: Axes, final: pd.DataFrame, labels: Labels) -> None:
    """The axis of the results, with the line of chance: accuracies closely, losses from 0 to twice chance."""
    by_loss = final["quantity"].iloc[0] == "test_loss"
    chance = final["chance_loss" if by_loss else "chance_accuracy"].iloc[0]
    known = np.concatenate([final[["value", "low", "high"]].to_numpy().ravel(), [chance]])
    known = known[np.isfinite(known)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    room = max(0.06 * (high - low), 0.01 * max(1.0, abs(high)))
    if by_loss:
        axes.set_xlim(0, np.fmin(high + room, 2 * chance))
    else:
        is_share = high <= 1  # a script's own number may be in per cent
        axes.set_xlim(max(low - room, 0), min(high + room, 1.01) if is_share else high + room)
        if is_share:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=labels("percent"), decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(labels("axis.test_loss" if by_loss else "axis.test_accuracy"))
    if np.isfinite(chance):
        axes.axvline(chance, color=shade(GREY), linestyle=":", linewidth=thin())
        words, place = labels("note.chance"), axes.get_xaxis_transform()
        words += "" if by_loss else f" {100 * chance if high <= 1 else chance:.0f}{labels('percent')}"
        axes.text(chance, 1.015, words, transform=place, color=shade(GREY), fontsize="small", ha="center", va="bottom")


def _draw_losses(axes: Axes, loss: pd.DataFrame, networks: _Networks, clips: Sequence[str]) -> None:
    for j, (network, mark) in enumerate(networks.items()):
        for i, clip in enumerate(clips):
            own, colour = _of(loss, network, clip), look(network[0]).colour
            shown = np.isfinite(own["value"]).any()  # matplotlib cannot space marks on a line without points
            axes.plot(
                own["iteration"],
                own["value"],
                color=colour,
                linestyle=_dash(i, clips),
                linewidth=thin(0.75),
                marker=mark,
                markerfacecolor=colour if i else shade(PAPER),
                markersize=mpl.rcParams["lines.markersize"] * 0.8,
                markevery=((j + i / 2) / len(networks) / MARKS, 1 / MARKS) if shown else None,
            )
            mark_top_edge(axes, own.loc[own["value"].isna(), "iteration"], colour)
    chance = loss["chance_loss"].iloc[0] if len(loss) else np.nan
    if np.isfinite(chance):
        axes.axhline(chance, color=shade(GREY), linestyle=":", linewidth=thin())
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def _dash(i: int, clips: Sequence[str]) -> Any:
    """Line style of the i-th kind of clipping: of several the first dashed, which is none, and the next solid."""
    return DASHES[(1 - i if i < 2 and len(clips) > 1 else i) % len(DASHES)]


def _add_legend(figure: Figure, clips: Sequence[str], labels: Labels) -> None:
    if len(clips) < 2:
        return
    handles = [
        Line2D(
            [],
            [],
            color=shade(GREY),
            marker="o",
            linestyle=_dash(i, clips),
            markerfacecolor=shade(GREY if i else PAPER),
            label=labels.clip(clip),
        )
        for i, clip in enumerate(clips)
    ]
    top_legend(figure, handles)
