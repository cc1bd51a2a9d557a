"""The singular values and eigenvalues of the recurrent weights, while the network learns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradflow.figures.animation import Animation, Headline, frame_iterations, last_not_after, panels_of
from gradflow.figures.catalogue import Labels, matrix, number
from gradflow.figures.layout import add_caption, finish
from gradflow.figures.theme import BLACK, GREY, look, shade, style, thin
from gradflow.figures.weight_spectrum.plot import (
    FARTHEST,
    draw_eigen,
    draw_ones,
    draw_singular,
    label_spectrum,
    limit_spectrum,
    spectrum_axes,
    within,
)


def animate_weight_spectrum(
    data: pd.DataFrame, *, claims: Sequence[Mapping[str, Any]] = (), lang: str = "en", context: str = "slide"
) -> Animation:
    """Let the eigenvalues of the recurrent weights move in the plane, and their singular values against rank.

    The first record stays behind, in grey; axes stay as they are. Up to four matrices stand side by side.

    Args:
        data: What :func:`gradflow.analysis.weight_spectrum_over_training` returned.
        claims: Checked statements; the first becomes the caption.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: There are fewer than two recorded iterations, more than four matrices, or several networks of one
            cell, start and clipping.
    """
    labels = Labels(lang)
    panels = panels_of(data, labels, more=["gate"])
    iterations = frame_iterations(data["iteration"])
    beyond = not within(data).all()
    with style(lang, context):
        figure, singular, eigen = spectrum_axes(len(panels))
        parts = [
            _Panel(own, values, plane, labels) for (_, own), values, plane in zip(panels, singular, eigen, strict=True)
        ]
        for axes, (title, own) in zip(singular, panels, strict=True):
            words = f"{title}, {matrix(own['gate'].iloc[0])}"
            axes.set_title(words, color=look(own["cell"].iloc[0]).colour, fontsize="medium")
        label_spectrum(singular, eigen, len(panels), labels)
        limit_spectrum(singular, eigen, data)
        _add_legend(figure, data, labels)
        add_caption(figure, data, claims, labels, notes=[labels("note.beyond_plane")] * beyond)
        headline = Headline(figure, labels)
        finish(figure)
    return Animation(figure, [headline, *parts], iterations, labels("animation.weight_spectrum"), lang, context)


class _Panel:
    """One matrix: the values of the current record before those of the first."""

    def __init__(self, panel: pd.DataFrame, values: Axes, plane: Axes, labels: Labels) -> None:
        colour = look(panel["cell"].iloc[0]).colour
        self._labels, self._known = labels, np.sort(panel["iteration"].unique())
        self._records = [panel[panel["iteration"] == iteration] for iteration in self._known]
        self._has_loss, first = panel["loss"].notna().any(), self._records[0]
        draw_ones(values, plane)
        draw_singular(values, first, GREY, 1.2)
        draw_eigen(plane, first, GREY)
        self._line = draw_singular(values, first, colour, 0.9)
        self._near = draw_eigen(plane, first, colour)
        (self._far,) = plane.plot([], [], "s", color=colour, markersize=thin(2.4), clip_on=False, in_layout=False)
        corner: dict[str, Any] = {"va": "top", "fontsize": "small"}
        self._sigma = values.text(0.97, 0.97, "", transform=values.transAxes, ha="right", **corner)
        self._rho = plane.text(0.03, 0.97, "", transform=plane.transAxes, **corner)
        self.moving: list[Artist] = [self._line, self._near, self._far, self._sigma, self._rho]

    def show(self, iteration: int) -> None:
        """Set it to the last record not after an iteration."""
        place = last_not_after(self._known, iteration)
        for artist in self.moving:
            artist.set_visible(place >= 0)
        part = self._records[max(place, 0)]
        values = part["singular_value"].where(np.isfinite(part["singular_value"]))
        self._line.set_data(part["share"], values)
        real, imaginary = part["eigenvalue_re"].to_numpy(), part["eigenvalue_im"].to_numpy()
        near = within(part).to_numpy()
        self._near.set_data(real[near], imaginary[near])
        self._far.set_data(*_at_the_edge(real[~near], imaginary[~near]))
        self._rho.set_text(rf"$\rho$ = {_three(np.hypot(real, imaginary).max())}")
        self._sigma.set_text(self._in_words(part))

    def _in_words(self, part: pd.DataFrame) -> str:
        words = [rf"$\sigma_1$ = {_three(part['singular_value'].max())}"]
        if self._has_loss:
            words.append(self._labels("note.loss", loss=_three(part["loss"].iloc[0])))
        return "\n".join(words)


def _at_the_edge(real: np.ndarray, imaginary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the direction of eigenvalues beyond FARTHEST leaves the square; NaN for those that are not finite."""
    with np.errstate(invalid="ignore"):
        scale = FARTHEST / np.maximum(np.abs(real), np.abs(imaginary))
        return real * scale, imaginary * scale


def _three(value: float) -> str:
    return number(float(f"{value:.3g}"))


def _add_legend(figure: Figure, data: pd.DataFrame, labels: Labels) -> None:
    cells = data["cell"].unique()
    now = look(cells[0]).colour if len(cells) == 1 else shade(BLACK)
    handles = [
        Line2D([], [], color=shade(GREY), marker="o", markerfacecolor="none", label=labels("note.before_training")),
        Line2D([], [], color=now, marker="o", label=labels("note.now")),
        Line2D([], [], color=shade(BLACK), linestyle="--", linewidth=thin(0.5), label=labels("note.one")),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
