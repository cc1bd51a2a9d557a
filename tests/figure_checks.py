"""What every drawn figure must keep to."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gradflow import figures
from gradflow.figures.catalogue import Labels
from gradflow.figures.options import Options, using
from gradflow.figures.theme import GRID, NOTHING, PALE, PAPER, VERMILLION, shade


def words(figure: Figure) -> str:
    """Everything that a figure says."""
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


SMALLEST = 6.5  # points, in a figure for a paper
THEME = {"en": "light", "zh": "dark"}
"""In which theme a figure is tried in a language: each of both once, not all four."""
WORDS, LINES = {"light": 3.0, "dark": 4.5}, 3.0
"""The least contrast; on white the colours of the cells are those of large words."""


class Drawn(NamedTuple):
    """A text as it is drawn: what, where its letters are, in pixels, and its size in points."""

    text: str
    core: Bbox
    size: float


def drawn(figure: Figure) -> list[Drawn]:
    """Every text that is drawn, tick labels too, but those outside the limits."""
    found, draw = [], Text.draw

    def recording(self: Text, renderer: Any, *more: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            box, margin = Text.get_window_extent(self, renderer), 0.12 * self.get_fontsize() * figure.dpi / 72
            core = Bbox.from_extents(box.x0 + 1, box.y0 + margin, box.x1 - 1, box.y1 - margin)  # a box is a line high
            found.append(Drawn(self.get_text(), core, self.get_fontsize()))
        draw(self, renderer, *more)

    with mock.patch.object(Text, "draw", recording):
        figure.draw_without_rendering()
    return found


def check_legible(figure: Figure) -> list[Drawn]:
    """No text lies on another one or beyond the edge of the figure; all that is drawn."""
    texts = drawn(figure)
    for i, one in enumerate(texts):
        assert figure.bbox.count_contains(one.core.corners()) == 4, f"{one.text!r} is cut off at the figure's edge"
        for other in texts[:i]:
            assert not one.core.overlaps(other.core), f"{one.text!r} lies on {other.text!r}"
    return texts


def contrast(one: Any, other: Any) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: Any) -> float:
        parts = np.array(to_rgb(colour))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def check_contrast(figure: Figure) -> None:
    """Every text is read on what is under it, every line seen on the ground, but for what stands behind or fades."""
    theme, ground = figure.theme, np.array(to_rgb(figure.get_facecolor()))
    canvas = FigureCanvasAgg(figure)
    with mock.patch.object(Text, "draw"):
        canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255
    for text in figure.findobj(lambda artist: isinstance(artist, Text) and not artist.get_path_effects()):
        box = text.get_window_extent()
        under = pixels[max(int(box.y0), 0) : int(box.y1) + 1, max(int(box.x0), 0) : int(box.x1) + 1].reshape(-1, 3)
        if text.get_visible() and text.get_text().strip() and len(under):
            found = contrast(text.get_color(), np.median(under, axis=0))
            assert found >= WORDS[theme] - 0.01, f"{text.get_text()!r} has a contrast of {found:.2f}"
    with using(Options(theme=theme)):
        behind, fading = {to_hex(shade(tone)) for tone in (PALE, NOTHING, GRID, PAPER)}, shade(VERMILLION)
    lines = [line for axes in figure.axes if not axes.findobj(QuadMesh) for line in axes.lines if line.zorder >= 2]
    lines += [line for legend in figure.legends for line in legend.get_lines()]
    for colour in {to_hex(line.get_color()) for line in lines} - behind:
        if np.abs(np.cross(to_rgb(colour) - ground, to_rgb(fading) - ground)).max() > 0.01:
            assert contrast(colour, ground) >= LINES, f"{colour} of a line has {contrast(colour, ground):.2f}"


def check_written(
    figure: Figure, path: Path, data: pd.DataFrame, claims: Sequence[Mapping[str, Any]], lang: str
) -> None:
    """All is legible, and the headline is the first of the claims; saved in all formats, with its numbers and claims.

    Of the two languages the Chinese one is saved, which needs more of the font.
    """
    assert min(one.size for one in check_legible(figure)) >= SMALLEST  # of a figure for a paper
    check_contrast(figure)
    headline = Labels(lang).headline(claims[0]) if claims else ""
    assert headline[:12] in words(figure).replace("\n", " " if lang == "en" else "")
    if lang != "zh":
        return
    png, pdf, svg, csv, checks = figures.save(figure, path, data=data, claims=claims)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"<svg" in svg.read_bytes()[:1000]
    assert len(pd.read_csv(csv)) == len(data)
    assert [claim["claim"] for claim in json.loads(checks.read_text(encoding="utf-8"))] == [c["claim"] for c in claims]


def check_nothing_overlaps(figure: Figure) -> None:
    """As :func:`check_legible`, and no text has a line, or the point of an arrow, run through it."""
    texts = check_legible(figure)
    for axes in figure.axes:
        for part in [line for line in axes.lines if line.get_zorder() == 2] + axes.findobj(mpl.patches.Polygon):
            path = part.get_transform().transform_path(part.get_path())
            for one in texts:
                assert not path.intersects_bbox(one.core, filled=False), f"{one.text!r} has a line through it"


SLIDE = 1920  # pixels that a slide is wide
_FORMULAS = MathTextParser("path")


def in_pixels(figure: Figure, points: float) -> float:
    """A size on a slide that the figure fills."""
    return points * SLIDE / (72 * max(figure.get_figwidth(), figure.get_figheight() * 16 / 9))


def smallest(figure: Figure) -> tuple[float, str]:
    """The smallest letter of a figure, indices and powers too, in pixels of a slide; and the text it is in."""
    found = []
    for text in drawn(figure):
        found += [(in_pixels(figure, text.size), text.text)]
        for formula in re.findall(r"(?<!\\)\$(?:[^$\\]|\\.)*\$", text.text):
            glyphs = _FORMULAS.parse(formula, 72, FontProperties(size=text.size)).glyphs
            found += [(in_pixels(figure, glyph[1]), text.text) for glyph in glyphs]
    return min(found)
