"""The bundled Chinese font inside of a page, as much of it as the page needs: it reads right where no such font is."""

from base64 import b64encode
from collections.abc import Iterable
from importlib.resources import files
from io import BytesIO
from unicodedata import east_asian_width

from fontTools.subset import Options, Subsetter  # type: ignore[import-untyped]  # matplotlib's, for its PDFs
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

from gradflow.figures.theme import CHINESE

WIDE = {"en": "WF", "zh": "WFA"}
"""Classes of characters that the font is for (Unicode Standard Annex 11); in a Chinese text quotation marks, too."""
FAMILIES = f'"{CHINESE}", system-ui, sans-serif'
"""Font families of a page."""
_DROPPED = ["FFTM", "GDEF", "GPOS", "GSUB"]  # rules of typesetting, and a tool's dates


def font_face(text: str, lang: str) -> str:
    """The rule of CSS that has the font in it, for those characters of a text that it is for; none, if there are none.

    Args:
        text: All that the page says; its markup does no harm.
        lang: `en` or `zh`.
    """
    wanted = {character for character in text if east_asian_width(character) in WIDE[lang]}
    if not wanted:
        return ""
    font = TTFont(str(files("gradflow.figures") / "fonts" / "GradflowSansSC-Regular.ttf"), recalcTimestamp=False)
    return f'@font-face {{ font-family: "{CHINESE}"; src: {source(font, wanted)} }}'


def source(font: TTFont, characters: Iterable[str]) -> str:
    """What CSS calls the source of a font: as much of one as these characters need, as WOFF.

    Args:
        font: Opened with `recalcTimestamp=False`, so that equal pages are equal files; it is cut down.
        characters: Those that it is to have, if it has them.
    """
    subsetter = Subsetter(Options(layout_features=[], hinting=False, notdef_outline=True, drop_tables=_DROPPED))
    subsetter.populate(unicodes=map(ord, characters))
    subsetter.subset(font)
    font.flavor, kept = "woff", BytesIO()  # the one that needs no further package
    font.save(kept)
    return f'url(data:font/woff;base64,{b64encode(kept.getvalue()).decode("ascii")}) format("woff")'
