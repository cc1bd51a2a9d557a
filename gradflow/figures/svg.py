"""SVG whose words are text, to search, copy, read aloud and edit, and which looks as if its glyphs were drawn."""

import re
from collections import defaultdict
from hashlib import sha256
from html import unescape
from io import BytesIO
from typing import Literal

import matplotlib as mpl
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont

from gradflow.figures.webfont import source

Slant = Literal["normal", "oblique"]
ELSEWHERE = "Verdana, 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', 'Noto Sans SC', sans-serif"
"""What a program that does not read the fonts inside of the file takes, where they are not installed."""

_CLIP = re.compile(rb'<clipPath id="(\w+)">(.*?)</clipPath>', re.DOTALL)
_TEXT = re.compile(r"<text\b([^>]*)>(.*?)</text>", re.DOTALL)
_SPAN = re.compile(r'<tspan x="([^"]*)" y="([^"]*)" style="([^"]*)">([^<]*)</tspan>')
_FAMILY = re.compile(r"font-family: ([^;\"]*)")
_SIZE = re.compile(r"font-size: ([\d.]+)px")
_PRIME = "font-family: 'cmsy10'"
"""matplotlib takes the prime, and nothing else, from a font whose code is TeX's: there it is the digit 0."""


def of_equal_names(drawn: bytes) -> bytes:
    """An SVG that is the same for the same figure.

    matplotlib names a clipping by its unrounded numbers, whose last digit may come out differently from one drawing to
    the next. Here its name is made of what is written.

    Args:
        drawn: What savefig wrote.
    """
    for number, (name, inside) in enumerate(_CLIP.findall(drawn)):
        own = sha256(b"%d %b" % (number, inside)).hexdigest()[:10].encode()
        drawn = drawn.replace(name, b"p" + own)
    return drawn


def with_text(figure: Figure, metadata: dict[str, str | None]) -> bytes:
    """A figure as SVG with text, call it inside its style.

    Letters of a formula are each in their place, in the order of reading. The fonts' glyphs that occur are inside of
    the file, as WOFF: browsers show it alike everywhere, programs to edit it take what :data:`ELSEWHERE` says.

    Args:
        figure: What a plot function returned.
        metadata: As savefig takes it.
    """
    content = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata=metadata)
    drawn = _TEXT.sub(_in_order, content.getvalue().decode())
    faces = "".join(_face(*font, letters) for font, letters in sorted(_letters(drawn).items()))
    drawn = _FAMILY.sub(rf"font-family: \1, {ELSEWHERE}", drawn)
    return drawn.replace('<style type="text/css">', f'<style type="text/css">{faces}', 1).encode()


def _in_order(text: re.Match[str]) -> str:
    """A text whose pieces, those of a formula, come from left to right, with nothing between them."""
    spans = [_prime(*span) if _PRIME in span[2] else span for span in _SPAN.findall(text[2])]
    if not spans:
        return text[0]
    inside = (
        f'<tspan x="{x}" y="{y}" style="{style}">{letter}</tspan>'
        for x, y, style, letter in sorted(spans, key=lambda span: float(span[0].split()[0]))
    )
    return f"<text{text[1]}>{''.join(inside)}</text>"


def _prime(x: str, y: str, style: str, _: str) -> tuple[str, str, str, str]:
    """The prime of DejaVu Sans, which is as high as a letter: at the size of the line, its tip where the other's is."""
    [size] = _SIZE.findall(style)
    style = _SIZE.sub(f"font-size: {float(size) / 0.7:g}px", style).replace(_PRIME, "font-family: 'DejaVu Sans'")
    return x, f"{float(y) + 0.482 * float(size):g}", style, "′"


def _letters(drawn: str) -> dict[tuple[str, Slant], set[str]]:
    """What is written in each font, by family and style; each of several families may be the one that has a letter."""
    found: dict[tuple[str, Slant], set[str]] = defaultdict(set)
    for attributes, inside in _TEXT.findall(drawn):
        pieces = [(style, letters) for _, _, style, letters in _SPAN.findall(inside)] or [(attributes, inside)]
        for style, letters in pieces:
            slant: Slant = "oblique" if "font-style: oblique" in style else "normal"
            for family in _FAMILY.findall(style):
                for name in re.findall(r"'([^']*)'", family):
                    found[name, slant] |= set(unescape(letters))
    return found


def _face(family: str, style: Slant, letters: set[str]) -> str:
    """A rule that brings a font along, of whose glyphs it has these; nothing if it has none of them."""
    font = TTFont(findfont(FontProperties(family=family, style=style)), recalcTimestamp=False)
    if not letters & {chr(code) for code in font.getBestCmap()} - {" "}:
        return ""
    return f"@font-face{{font-family:'{family}';font-style:{style};src:{source(font, letters)}}}"
