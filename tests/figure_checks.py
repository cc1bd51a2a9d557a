"""What every drawn figure must keep to."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gradflow import figures
from gradflow.figures.catalogue import Labels


def words(figure: Figure) -> str:
    """Everything that a figure says."""
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


SMALLEST = 6.5  # points, in a figure for a paper


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


def check_written(
    figure: Figure, path: Path, data: pd.DataFrame, claims: Sequence[Mapping[str, Any]], lang: str
) -> None:
    """All is legible, and the headline is the first of the claims; saved in all formats, with its numbers and claims.

    Of the two languages the Chinese one is saved, which needs more of the font.
    """
    assert min(one.size for one in check_legible(figure)) >= SMALLEST  # of a figure for a paper
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
