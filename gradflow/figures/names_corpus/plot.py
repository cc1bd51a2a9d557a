"""What does a network of names learn from?

Left, how often each character is written, by rank, both logarithmic; blue are those that the network can tell apart.
Right, how long the names are, by label.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import add_caption, corner_note, finish
from gradflow.figures.theme import BLUE, GREY, VERMILLION, new_figure, shade, style, thin
from gradflow.foreign import label

CLASSES = (VERMILLION, BLUE)
"""Colours of two labels; more are not told apart."""
_NAMED = (1, 10, 100)  # ranks whose characters are written down


def plot_names_corpus(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the share of every character against its rank, the kept ones marked, and beside it the lengths of names.

    Args:
        data: What :func:`gradflow.data.names_corpus` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure(1.2)
        characters, lengths = figure.subplots(1, 2, width_ratios=[1.5, 1])
        _draw_characters(characters, data, labels)
        _draw_lengths(lengths, data, labels)
        source = data["source"].iloc[0] if "source" in data else ""
        notes = [labels("note.corpus_source", source=labels.word("source", source))] if source else []
        add_caption(figure, data, claims, labels, notes=notes)
        finish(figure)
    return figure


def _draw_characters(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    known = data[np.isfinite(data["share"])]
    parts = {name: known[known["quantity"] == name] for name in ("kept", "left_out")}
    for part, colour in zip(parts.values(), (BLUE, GREY), strict=True):
        axes.plot(part["rank"], part["share"], ".", color=shade(colour), markersize=thin(3), rasterized=True)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.8, None)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel(labels("axis.character_rank"))
    axes.set_ylabel(labels("axis.character_share"))
    kept = parts["kept"]
    share = format(100 * kept["share"].sum(), ".3g")
    corner_note(axes, [labels("note.kept", count=str(len(kept)), share=share)], colour=BLUE)
    for _, row in kept[kept["rank"].isin((*_NAMED, len(kept)))].iterrows():
        _name_character(axes, row)
    shares = pd.concat([part["share"] for part in parts.values()])
    room = 1.5 * (shares.max() / shares.min()) ** 0.06
    axes.set_ylim((shares.min() / room, shares.max() * room) if len(shares) else (0.1, 1))


def _name_character(axes: Axes, row: pd.Series) -> None:
    point = (row["rank"], row["share"])
    axes.plot(*point, "o", color=shade(BLUE), zorder=4)
    axes.annotate(
        row["character"], point, (0.35, 0.25), textcoords="offset fontsize", color=shade(BLUE), fontsize="large"
    )


def _draw_lengths(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    by_label = data[data["quantity"] == "length_by_label"]
    classes = sorted(by_label["label"].unique())
    if len(classes) <= len(CLASSES):
        parts = {name: by_label[by_label["label"] == name] for name in classes}
        bars = [(part, colour, name) for (name, part), colour in zip(parts.items(), CLASSES, strict=False)]
    else:
        bars = [(data[data["quantity"] == "length"], GREY, None)]
    width = 0.8 / len(bars)
    for i, (part, colour, name) in enumerate(bars):
        places = part["length"].astype(float) + (i - (len(bars) - 1) / 2) * width
        axes.bar(
            places,
            part["share"].where(np.isfinite(part["share"]), 0),
            0.9 * width,
            color=shade(colour),
            label=None if name is None else label(name),
        )
    if len(bars) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(bars))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(False, axis="x")
    axes.set_xlabel(labels("axis.name_length"))
    axes.set_ylabel(labels("axis.name_share"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=labels("percent"), decimals=0))
