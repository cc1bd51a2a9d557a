"""Why does one gradient step throw the network away, and what does clipping change?

Left, the error of one sigmoid unit over its weight w and bias b; dark is low, and the dashed white line is where the
cliff must be. Two descents start at one place: that without clipping meets the cliff and is thrown out of the picture,
the clipped one walks along it. Right, the norm of what the optimiser got of both at every update: clipped, never more
than the threshold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from gradflow.figures.catalogue import Labels, brief, number
from gradflow.figures.layout import add_caption, corner_note, finish, log_scale
from gradflow.figures.theme import BLACK, BLUE, ON_DARK, ON_LIGHT, VERMILLION, new_figure, shade, style, thin

PATHS = {"clipped": ("note.clipped_descent", BLUE, "s"), "unclipped": ("note.unclipped_descent", VERMILLION, "o")}
"""Label, colour and marker; they are the same up to the cliff, where the second is on top."""


def plot_error_surface_cliff(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Figure:
    """Draw the error surface with the descents over it, and the gradient norms of these.

    Args:
        data: What :func:`gradflow.theory.cliff` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
    """
    labels = Labels(lang)
    with style(lang, context):
        figure = new_figure(1.2)
        surface, norms = figure.subplots(1, 2, width_ratios=[1.25, 1])
        _draw_surface(figure, surface, data[data["quantity"] == "surface"], labels)
        _draw_line(surface, data[data["quantity"] == "cliff"], labels)
        for name, (_, colour, marker) in PATHS.items():
            path = data[data["quantity"] == name]
            _draw_path(surface, path, colour, marker, labels)
            norms.plot(
                path["iteration"],
                path["norm_after"],
                color=shade(colour),
                linewidth=thin(0.7),
                marker=marker,
                markersize=thin(1.5),
            )
        _name_ends(surface, data[data["quantity"] == "clipped"], labels)
        _name_spike(norms, data[data["quantity"] == "unclipped"])
        _draw_threshold(norms, data, labels)
        norms.set_xlabel(labels("axis.iteration"))
        norms.set_ylabel(labels("axis.applied_norm"))
        norms.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        log_scale(norms)
        handles = [
            Line2D([], [], color=shade(colour), marker=marker, label=labels(key))
            for key, colour, marker in reversed(PATHS.values())
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
        add_caption(figure, data, claims, labels)
        finish(figure)
    return figure


def _draw_surface(figure: Figure, axes: Axes, surface: pd.DataFrame, labels: Labels) -> None:
    error = surface.pivot(index="b", columns="w", values="error")
    image = axes.pcolormesh(
        error.columns, error.index, error.to_numpy(), cmap="cividis", shading="nearest", rasterized=True
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=30)
    bar.set_label(labels("axis.error"))
    axes.grid(False)
    axes.set_xlim(surface["w"].min(), surface["w"].max())
    axes.set_ylim(surface["b"].min(), surface["b"].max())
    axes.set_xlabel("$w$")
    axes.set_ylabel("$b$")


def _draw_line(axes: Axes, line: pd.DataFrame, labels: Labels) -> None:
    low, high = line.nsmallest(1, "w").iloc[0], line.nlargest(1, "w").iloc[0]
    axes.axline((low["w"], low["b"]), (high["w"], high["b"]), color=ON_DARK, linestyle="--", linewidth=thin())
    corner_note(axes, [labels("note.cliff")], "upper right", ON_DARK)


def _draw_path(axes: Axes, path: pd.DataFrame, colour: str, marker: str, labels: Labels) -> None:
    """The path as far as it stays in the window, and an arrow to where it leaves it; colours are those of the map."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    inside = (path["w"].between(left, right) & path["b"].between(bottom, top)).to_numpy()
    until = int(np.argmin(inside)) if not inside.all() else len(path)
    shown = path.iloc[:until]
    axes.plot(
        shown["w"],
        shown["b"],
        color=colour,
        marker=marker,
        linewidth=thin(0.5),
        markersize=thin(2.2),
        markeredgecolor=ON_DARK,
        markeredgewidth=thin(0.3),
        path_effects=[withStroke(linewidth=thin(0.9), foreground=ON_DARK)],
    )
    if 0 < until < len(path):
        start, landed = (path[["w", "b"]].iloc[i].to_numpy() for i in (until - 1, until))
        reached = start + _share_inside(start, landed, (left, bottom), (right, top)) * (landed - start)
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": thin(), "shrinkA": 0, "shrinkB": 0}
        place = f"({landed[0]:.2f}, {landed[1]:.2f})".replace("-", "−")
        axes.annotate("", tuple(reached), tuple(start), arrowprops=arrow | {"mutation_scale": thin(8)})
        axes.annotate(
            labels("note.lands", place=place, error=brief(path["error"].iloc[until])),
            tuple(reached),
            (-1.0, 0.3),
            textcoords="offset fontsize",
            ha="right",
            va="bottom",
            color=ON_LIGHT,
            fontsize="small",
        )


def _name_ends(axes: Axes, path: pd.DataFrame, labels: Labels) -> None:
    """Where both descents start, and where the clipped one ends, each with its error."""
    for row, key, side, place, ground in (
        (0, "note.starts", "center", (0, -0.9), ON_LIGHT),
        (-1, "note.ends", "left", (-1.4, 1.6), ON_DARK),
    ):
        point = path.iloc[row]
        axes.plot(point["w"], point["b"], "o", markersize=thin(5), color=ground, markerfacecolor="none")
        axes.annotate(
            labels(key, error=brief(point["error"])),
            (point["w"], point["b"]),
            place,
            textcoords="offset fontsize",
            ha=side,
            va="top" if row == 0 else "bottom",
            color=ground,
            fontsize="small",
        )


def _share_inside(start: np.ndarray, end: np.ndarray, low: Sequence[float], high: Sequence[float]) -> float:
    """How much of the way from start (inside) to end lies in the box."""
    step = end - start
    edges = np.where(step < 0, low, high)
    return float(min(1.0, *((edges - start)[step != 0] / step[step != 0])))


def _name_spike(axes: Axes, path: pd.DataFrame) -> None:
    highest = path.nlargest(1, "norm")
    for _, row in highest.iterrows():
        axes.annotate(
            number(row["norm"]),
            (row["iteration"], row["norm"]),
            (0.8, 0),
            textcoords="offset fontsize",
            va="center",
            color=shade(VERMILLION),
            fontsize="small",
        )


def _draw_threshold(axes: Axes, data: pd.DataFrame, labels: Labels) -> None:
    clipped = data[(data["quantity"] == "clipped") & (data["norm"] > data["norm_after"] * 1.01)]
    if len(clipped):
        threshold = float(clipped["norm_after"].max())
        axes.axhline(threshold, color=shade(BLACK), linestyle="--", linewidth=thin(0.5))
        axes.text(
            0.53,
            threshold * 1.15,
            labels("note.threshold", threshold=f"{threshold:.2g}"),
            transform=axes.get_yaxis_transform(),
            fontsize="small",
            ha="center",
            va="bottom",
        )
