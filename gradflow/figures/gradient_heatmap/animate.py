"""Gradient flow through time, while the network learns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from gradflow.figures.animation import Animation, Headline, frame_iterations, last_not_after, panels_of
from gradflow.figures.by_lag import of_lag
from gradflow.figures.catalogue import Labels, number
from gradflow.figures.gradient_heatmap.plot import draw_gradient
from gradflow.figures.heat import add_colour_bar, grey_notes, log_colours, ratio_colours
from gradflow.figures.layout import add_caption, finish, limit_loss, log_scale
from gradflow.figures.theme import BLACK, GREY, PAPER, look, new_figure, shade, style, thin


def animate_gradient_heatmap(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Animation:
    """Let the heat map of the gradient grow over the training iterations, with the profile over lag, and the loss.

    The profile is that of the current iteration, before a faint one of the first; its axis and the colours have the
    same limits, which stay. Up to four networks stand side by side.

    Args:
        data: What :func:`gradflow.analysis.gradient_heatmap` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are fewer than two recorded iterations, more than four networks, or several of one cell,
            start and clipping.
    """
    labels = Labels(lang)
    panels = panels_of(data, labels)
    gradient, loss = data[data["quantity"] == "gradient"], data[data["quantity"] == "loss"]
    iterations = frame_iterations(gradient["iteration"])
    with style(lang, context):
        figure = new_figure() if len(panels) == 1 else new_figure(1.2, 1.08)
        profiles, images, losses = _grid(figure, len(panels), has_loss=len(loss) > 0)
        norm = log_colours(gradient["value"])
        parts = [
            _Panel(own, *axes, norm, labels)
            for (_, own), axes in zip(panels, zip(profiles, images, losses, strict=True), strict=True)
        ]
        for axes, (title, own) in zip(profiles, panels, strict=True):
            axes.set_title(title, color=look(own["cell"].iloc[0]).colour, fontsize="medium")
        words = of_lag(gradient, labels)
        _fix_axes(profiles[0], images[0], gradient, norm, ticks=7 if len(panels) == 1 else 4)
        if losses[0] is not None:
            images[0].set_xlim(right=max(images[0].get_xlim()[1], loss["iteration"].max() * 1.04))
            limit_loss(losses[0], loss)
        _label(profiles, images, losses, labels, words.gradient)
        add_colour_bar(figure, images, gradient["value"], norm, words.gradient * (len(panels) > 1), ratio_colours(norm))
        _add_legend(figure, labels, chance=bool(len(loss) and data["chance_loss"].notna().any()))
        add_caption(figure, data, claims, labels, notes=words.notes + grey_notes(gradient["value"], labels))
        headline = Headline(figure, labels)
        finish(figure)
    return Animation(figure, [headline, *parts], iterations, labels("animation.gradient_heatmap"), lang, context)


def _grid(
    figure: Figure, count: int, *, has_loss: bool
) -> tuple[Sequence[Axes], Sequence[Axes], Sequence[Axes | None]]:
    """Axes of profiles, heat maps and losses, if there are any: the profile beside them for one network, else above."""
    rows = 2 + has_loss
    if count == 1:
        heights = [3, 1.2][: rows - 1]
        places = figure.subplot_mosaic("ip;lp" if has_loss else "ip", height_ratios=heights, width_ratios=[1.25, 1])
        grid = np.array([[places[letter]] for letter in "pil"[:rows]])
    else:
        grid = figure.subplots(rows, count, sharey="row", height_ratios=[1.7, 2, 1][:rows], squeeze=False)
    for axes in grid[0, 1:]:
        axes.sharex(grid[0, 0])
    for axes in [axes for axes in grid[1:].flat if axes is not grid[-1, 0]]:
        axes.sharex(grid[-1, 0])
    for image in grid[1] if has_loss else ():
        image.tick_params(bottom=False, labelbottom=False)
    return grid[0], grid[1], grid[2] if has_loss else [None] * count


class _Panel:
    """One network: what is still to come of its heat map is covered; line, marker and loss follow."""

    def __init__(
        self, panel: pd.DataFrame, profile: Axes, image: Axes, loss: Axes | None, norm: LogNorm, labels: Labels
    ):
        colour = look(panel["cell"].iloc[0]).colour
        own = panel[panel["quantity"] == "gradient"]
        draw_gradient(image, own, norm, ratio_colours(norm))
        self._labels, self._image = labels, image
        self._values = own.pivot(index="lag", columns="iteration", values="value")
        self._known = self._values.columns.to_numpy()
        self._loss = panel[panel["quantity"] == "loss"]
        lags, first = self._values.index.to_numpy(), np.exp(self._finite(0))
        profile.plot(lags, first, color=shade(GREY), alpha=0.6, linewidth=thin(0.8))
        (self._line,) = profile.plot(lags, first, color=colour)
        self._cover = Rectangle((0, -1), 1, lags.max() + 2, color=shade(PAPER), linewidth=0)
        image.add_patch(self._cover)
        self._said = (loss or image).set_title(" ", loc="right", fontsize="small", color=colour)
        self.moving: list[Artist] = [self._line, self._cover, self._said]
        self._points: list[Line2D] = []  # the losses so far, and the last of them
        if loss is not None:
            loss.axhline(panel["chance_loss"].iloc[0], color=shade(GREY), linestyle=":", linewidth=thin())
            self._points += loss.plot([], [], color=colour, linewidth=thin(0.7))
            self._points += loss.plot([], [], "o", color=colour)
            self.moving += self._points
            loss.grid(False)

    def _finite(self, place: int) -> np.ndarray:
        """The record at a place, natural logs; NaN where it is not finite."""
        values = self._values.iloc[:, place].to_numpy()
        return np.where(np.isfinite(values), values, np.nan)

    def show(self, iteration: int) -> None:
        """Set it to the last record not after an iteration."""
        place = last_not_after(self._known, iteration)
        self._line.set_visible(place >= 0)
        self._line.set_ydata(np.exp(self._finite(max(place, 0))))
        self._uncover(place)
        past = self._loss[self._loss["iteration"] <= iteration]
        x, y = past["iteration"].to_numpy(), past["value"].to_numpy()
        for line, first in zip(self._points, (0, -1), strict=False):
            line.set_data(x[first:], y[first:])
        self._said.set_text(self._in_words(y[-1:], iteration))

    def _uncover(self, place: int) -> None:
        """Cover what is right of the column at a place; its edge is halfway to the next."""
        left, right = self._image.get_xlim()
        edges = np.concatenate([[left], (self._known[1:] + self._known[:-1]) / 2, [right]])
        self._cover.set_x(edges[place + 1])
        self._cover.set_width(right - edges[place + 1])

    def _in_words(self, loss: np.ndarray, iteration: int) -> str:
        """The loss, and where the log ends if that is before."""
        shown = loss[: int(self._loss["value"].notna().any())]
        words = [self._labels("note.loss", loss=number(float(f"{value:.3g}"))) for value in shown]
        end = max(self._known[-1], self._loss["iteration"].max())
        if iteration > end:
            words.append(self._labels("note.recorded_until", iteration=str(end)))
        return self._labels("list.separator").join(words)


def _fix_axes(profile: Axes, image: Axes, gradient: pd.DataFrame, norm: LogNorm, *, ticks: int) -> None:
    """Limits over all frames and panels."""
    profile.set_xlim(0, max(gradient["lag"].max(), 1))
    low, high = np.array([norm.vmin, norm.vmax], dtype=float)
    profile.set_ylim(low / 1.5, high * 1.5)
    log_scale(profile, ticks=ticks)
    image.set_xlim(min(0, gradient["iteration"].min()), gradient["iteration"].max() * 1.04)


def _label(
    profiles: Sequence[Axes], images: Sequence[Axes], losses: Sequence[Axes | None], labels: Labels, of: str
) -> None:
    if len(images) == 1:
        images[0].set_title(of, fontsize="medium")
    profiles[0].set_ylabel(of)
    images[0].set_ylabel(labels("axis.lag_short"))
    for axes in profiles:
        axes.set_xlabel(labels("axis.lag_short"))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    for image, loss in zip(images, losses, strict=True):
        lowest = loss or image
        lowest.set_xlabel(labels("axis.iteration"))
        lowest.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
        if loss is not None:
            loss.yaxis.set_major_locator(MaxNLocator(2))
    if losses[0] is not None:
        losses[0].set_ylabel(labels("axis.loss"))


def _add_legend(figure: Figure, labels: Labels, *, chance: bool) -> None:
    handles = [
        Line2D([], [], color=shade(GREY), alpha=0.6, linewidth=thin(0.8), label=labels("note.before_training")),
        Line2D([], [], color=shade(BLACK), label=labels("note.now")),
    ]
    if chance:
        handles.append(Line2D([], [], color=shade(GREY), linestyle=":", linewidth=thin(), label=labels("note.chance")))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
