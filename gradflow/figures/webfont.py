"""The bundled Chinese font inside of a page, as much of it as the page needs: it reads right where no such font is."""

from base64 import b64encode
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


def font_face(text: str, lang: str) -> str:
    """The rule of CSS that has the font in it, for those characters of a text that it is for; none, if there are none.

    Args:
        text: All that the page says; its markup does no harm.
        lang: `en` or `zh`.
    """
    wanted = {character for character in text if east_asian_width(character) in WIDE[lang]}
    if not wanted:
        return ""
    file = files("gradflow.figures") / "fonts" / "GradflowSansSC-Regular.ttf"
    font, kept = TTFont(str(file), recalcTimestamp=False), BytesIO()  # equal pages are equal files
    subsetter = Subsetter(Options(layout_features=[], notdef_outline=True))
    subsetter.populate(unicodes=map(ord, wanted))
    subsetter.subset(font)
    font.flavor = "woff"  # the one that needs no further package
    font.save(kept)
    address = f"data:font/woff;base64,{b64encode(kept.getvalue()).decode('ascii')}"
    return f'@font-face {{ font-family: "{CHINESE}"; src: url({address}) format("woff") }}'
