"""Figures that move, a frame per recorded iteration: how they are composed, rendered and written as GIF and page."""

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gradflow.analysis.runs import IDENTITY
from gradflow.checks import check_kind
from gradflow.figures.catalogue import Labels
from gradflow.figures.layout import put_on_top
from gradflow.figures.output import check_evidence, evidence, place, strict_glyphs
from gradflow.figures.player import player
from gradflow.figures.theme import CONTEXTS, as_drawn

FRAMES = 48  # at most; some seven seconds
PANELS = 4  # side by side, at most
WIDTH = 1280  # pixels of a slide
MILLISECONDS = 150  # of a frame
STAY = 10  # frames' time that the first and the last stay
_COLOURS = 255  # of a GIF, which keeps one more for what does not change
_EXACT = 32  # of these


class Part(Protocol):
    """Something in a figure that moves."""

    @property
    def moving(self) -> Sequence[Artist]:
        """What is drawn anew in every frame, over all the rest."""

    def show(self, iteration: int) -> None:
        """Set it to the last record not after an iteration."""


@dataclass(frozen=True)
class Animation:
    """A figure whose parts follow the recorded iterations. In a notebook it shows itself as a player.

    Attributes:
        figure: All that stands still, with its layout settled.
        parts: All that moves.
        iterations: Of each frame.
        title: For the page.
        lang: Of the page.
        context: `slide`, `notebook` or `paper`; it decides the size of a frame, 1280 by 720 pixels for a slide.
    """

    figure: Figure
    parts: Sequence[Part]
    iterations: Sequence[int]
    title: str
    lang: str
    context: str

    def __len__(self) -> int:
        return len(self.iterations)

    @property
    def theme(self) -> str:
        """Of the figure, and of the page around it."""
        return getattr(self.figure, "theme", "light")

    @property
    def width(self) -> int:
        """Of a frame, in pixels."""
        return round(WIDTH * CONTEXTS[self.context])

    def show(self, number: int) -> None:
        """Set the figure to a frame, by its number from 0; other writers than :func:`save_animation` may use it."""
        for part in self.parts:
            part.show(self.iterations[number])

    def frames(self, numbers: Iterable[int]) -> Iterator[Image.Image]:
        """Frames as RGB images, by their numbers: what stands still is drawn once."""
        canvas = FigureCanvasAgg(self.figure)
        self.figure.set_dpi(self.width / self.figure.get_figwidth())
        moving = [artist for part in self.parts for artist in part.moving]
        with as_drawn(self.figure), strict_glyphs():
            _set_animated(moving, True)
            canvas.draw()
            _set_animated(moving, False)
        still = canvas.copy_from_bbox(self.figure.bbox)
        for number in numbers:
            canvas.restore_region(still)
            self.show(number)
            with strict_glyphs():
                for artist in moving:
                    self.figure.draw_artist(artist)
            yield Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    def images(self, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> list[Image.Image]:
        """All frames, in the colours of the first, the middle and the last, of which a GIF holds 255."""
        palette = _palette(list(self.frames(self.key_frames)))
        return [_indexed(image, palette) for image in self.frames(progress(range(len(self))))]

    @property
    def key_frames(self) -> tuple[int, int, int]:
        """The first, the middle and the last."""
        return 0, (len(self) - 1) // 2, len(self) - 1

    def _repr_html_(self) -> str:
        page = _page(self, self.images())
        size = f'width="{self.width + 40}" height="{round(self.width * 9 / 16) + 90}"'
        return f'<iframe srcdoc="{html.escape(page)}" {size} style="border: 0"></iframe>'


def _set_animated(artists: Iterable[Artist], animated: bool) -> None:
    """Whether a drawing of the whole figure leaves them out."""
    for artist in artists:
        artist.set_animated(animated)


def save_animation(
    animation: Animation,
    path: str | Path,
    *,
    data: pd.DataFrame | None = None,
    claims: Sequence[Mapping[str, Any]] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Path]:
    """Write an animation as GIF and as a page to play, stop and step it (one file, which needs no network).

    Equal animations are equal files.

    Args:
        animation: What an animate function returned.
        path: Where, without suffix; folders are made.
        data: The numbers it shows.
        claims: Checked statements.
        progress: Goes around the numbers of the frames as they are drawn, such as tqdm.

    Returns:
        The files, in the order GIF, HTML, and as far as they are given CSV and JSON.

    Raises:
        ValueError: A character has no glyph in the fonts.
        OSError: It cannot be written; the files that were there are as before.
    """
    check_evidence(path, data, claims)
    check_kind("animation", animation, Animation, "what an animate function returned")
    check_kind("progress", progress, Callable, "a function that goes around numbers, such as tqdm")  # type: ignore[arg-type]
    return place(Path(path), contents(animation, animation.images(progress)) | evidence(data, claims))


def contents(animation: Animation, images: Sequence[Image.Image]) -> dict[str, bytes]:
    """GIF and page of an animation, of whose images they are made, by suffix."""
    return {"gif": gif(images), "html": _page(animation, images).encode()}


def gif(images: Sequence[Image.Image]) -> bytes:
    """The file of an animation's :meth:`~Animation.images`, of which the first and the last stay longer."""
    content, times = BytesIO(), [MILLISECONDS] * len(images)
    times[0] = times[-1] = STAY * MILLISECONDS
    images[0].save(content, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0)
    return content.getvalue()


def _page(animation: Animation, images: Sequence[Image.Image]) -> str:
    told = {"title": animation.title, "lang": animation.lang, "theme": animation.theme}
    return player(images, animation.iterations, milliseconds=MILLISECONDS, **told)


def _palette(images: Sequence[Image.Image]) -> np.ndarray:
    """The most frequent colours of images, then always the one that is farthest from all before it (Gonzalez 1985).

    So text and background are exact, and shades of a heat map have equal distances, however rare they are.
    """
    colours, counts = np.unique(np.concatenate([_packed(image).ravel() for image in images]), return_counts=True)
    chosen = colours[np.argsort(-counts, kind="stable")[:_EXACT]]
    points = _unpacked(colours)
    distance = _distances(points, _unpacked(chosen)).min(1)
    while len(chosen) < _COLOURS and distance.any():
        farthest = int(distance.argmax())
        chosen = np.append(chosen, colours[farthest])
        distance = np.minimum(distance, _distances(points, points[farthest : farthest + 1])[:, 0])
    return chosen


def _packed(image: Image.Image) -> np.ndarray:
    """Each pixel of an RGB image as one number."""
    return np.asarray(image).astype(np.int64) @ (65536, 256, 1)


def _unpacked(colours: np.ndarray) -> np.ndarray:
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1)


def _distances(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared, of each of the one from each of the others."""
    return ((colours[:, None] - others) ** 2).sum(-1)


def _indexed(image: Image.Image, palette: np.ndarray) -> Image.Image:
    """An image with a palette: each pixel has the nearest of its colours, which for those in it is exact."""
    colours, places = np.unique(_packed(image), return_inverse=True)
    known = _unpacked(palette)
    nearest = _distances(_unpacked(colours), known).argmin(1).astype(np.uint8)
    indexed = Image.fromarray(nearest[places].reshape(image.height, image.width))
    indexed.putpalette(known.astype(np.uint8).tobytes())
    return indexed


# --- how animations are composed -------------------------------------------------------------------------------------


def frame_iterations(recorded: pd.Series) -> list[int]:
    """At most FRAMES of the recorded iterations, evenly, with the first and the last.

    Raises:
        ValueError: There are fewer than two.
    """
    known = np.sort(recorded.unique())
    if len(known) < 2:
        raise ValueError(
            f"iteration: expected at least two recorded iterations, got {len(known)}; record more often: make "
            f"record.every smaller, or for weight_spectrum record.spectrum_every"
        )
    kept = np.linspace(0, len(known) - 1, min(len(known), FRAMES)).round().astype(int)
    return [int(iteration) for iteration in known[kept]]


def panels_of(data: pd.DataFrame, labels: Labels, more: Sequence[str] = ()) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of each network, in the order of the table.

    Args:
        data: With the columns IDENTITY.
        labels: Of the language.
        more: Further columns that tell panels apart.

    Raises:
        ValueError: There are more than PANELS, or several networks of one cell, start and clipping.
    """
    clips = data["clip"].nunique() > 1
    panels = []
    for _, rows in data.groupby([*IDENTITY, *more], sort=False, dropna=False):
        first = rows.iloc[0]
        lines = [labels.title(first["cell"], first["start"]), *([labels.clip(first["clip"])] if clips else [])]
        panels.append(("\n".join(lines), rows))
    if len(panels) > PANELS:
        names = ", ".join(title.replace("\n", " ") for title, _ in panels)
        raise ValueError(
            f"data: expected at most {PANELS} panels side by side, got {len(panels)} ({names}); choose a run, or up to "
            f"{PANELS}"
        )
    named = data.groupby(["cell", "start", "clip"], sort=False)
    alike = [key for key in IDENTITY if named[key].nunique().max() > 1]
    if alike:
        raise ValueError(
            f"data: expected one network per cell, start and clipping, got some that differ in {', '.join(alike)}; "
            f"choose one of them"
        )
    return panels


class Headline:
    """The iteration, under the headline of the figure."""

    def __init__(self, figure: Figure, labels: Labels) -> None:
        self._words = labels
        self._text = put_on_top(figure, labels("note.iteration", iteration="0"), fontsize="large")
        self.moving = [self._text]
        self.show(0)

    def show(self, iteration: int) -> None:
        """Print the iteration."""
        self._text.set_text(self._words("note.iteration", iteration=str(iteration)))


def last_not_after(known: np.ndarray, iteration: int) -> int:
    """Place of the last of ascending iterations that is not after this one; -1 if there is none.

    Example:
        >>> last_not_after(np.array([0, 10, 20]), 15)
        1
    """
    return int(np.searchsorted(known, iteration, side="right")) - 1
