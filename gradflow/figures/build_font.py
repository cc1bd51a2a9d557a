"""How the fonts in `fonts/` were made; not needed to use gradflow.

    python -m gradflow.figures.build_font NotoSansSC-Regular.ttf

takes the static Regular of Noto Sans SC with TrueType outlines (glyphs with CFF outlines come out
blank in PDFs of font type 42) and keeps the characters that names and labels need: all 6,763 Chinese
characters of GB 2312, some outside it that are common in given names, Latin, Greek, punctuation and
mathematical signs. `GradflowFormulas-Regular.ttf` has digits, Latin letters and a few signs of these, for
formulas in Chinese text, whose other signs are those of a mathematical font: in this one ∂ and ‖ are as
wide as a Chinese character. Both carry names of their own; the licence is that of the original
(`fonts/OFL.txt`).
"""

import sys
from pathlib import Path

from fontTools.subset import Options, Subsetter  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

FAMILY = "Gradflow Sans SC"
FORMULAS = "Gradflow Formulas"
FONTS = Path(__file__).parent / "fonts"
PRIME = ord("′")
IN_FORMULAS = {*range(0x20, 0x7F), ord("×"), ord("−"), PRIME}
RANGES = (
    (0x20, 0x7E),  # ASCII
    (0xA0, 0x17F),  # Latin letters with accents: names of other languages
    (0x370, 0x3FF),  # Greek
    (0x2010, 0x205E),  # dashes, quotation marks, ellipsis, ‖
    (0x2070, 0x209C),  # superscripts and subscripts
    (0x2190, 0x21D5),  # arrows
    (0x2200, 0x22FF),  # mathematical operators
    (0x25A0, 0x25FF),  # geometric shapes
    (0x3000, 0x3017),  # Chinese punctuation
    (0xFF01, 0xFF5E),  # full-width forms
)
NAME_CHARACTERS = """
亞佺俤倢倫偉偲傑儀凱劉劼勍勛勳叡吳呂啓啟喆國垚堃妏姮姵婓婞婳媖媞嫄嫈嫚嬿孋孫學寧寶岺峯崑崚崟嵐弢張強彣彥彧徳愔愛慜慶憶揚
旵旸旻旼昇昉昳晛晞暘曈曉曌栢楊榮樑樺欽沄洺浛浥湉湧溦溫漢潔澔濛炤烜焜煖煥燊燚玙玠玥珅珣珮珺珽琇琍琎琤琲瑀瑄瑋瑢瑩瑱璘璟璠
瓅甦發皊皞盧眀祎祐禎禕禛禤穎竑競簡紅純紹維綺羅義翀翃翚翾聖聰興芃荘莊華萩萬葉蒨蔣蕭蘇蘋虓袆許詠詩誌諭謝譞貞貴賢賴贇赟赪趙
軍軒輝迺進達鄧鄭鈞鈺銘鋆鋐錢錦鍾鎮鑑锜镕陳雲靑靜韡韻順頔顏飏駿鳳鴻鵬麗麥黃龍龑
"""


def characters() -> set[int]:
    """Code points of the subset."""
    kept = {code for first, last in RANGES for code in range(first, last + 1)}
    for row in range(0xB0, 0xF8):
        for cell in range(0xA1, 0xFF):
            kept.update(map(ord, bytes((row, cell)).decode("gb2312", errors="ignore")))
    return kept | {ord(character) for character in NAME_CHARACTERS if not character.isspace()}


def rename(font: TTFont, family: str) -> None:
    """Give the font its own family name, keeping copyright, licence and makers."""
    table = font["name"]
    table.names = [record for record in table.names if record.nameID in {0, 5, 8, 9, 10, 11, 13, 14}]
    for name_id, text in ((1, family), (2, "Regular"), (3, f"{family} 1.0"), (4, family), (6, stem(family))):
        table.setName(text, name_id, 3, 1, 0x409)


def stem(family: str) -> str:
    """The name of the file of a family.

    >>> stem("Gradflow Sans SC")
    'GradflowSansSC-Regular'
    """
    return f"{family.replace(' ', '')}-Regular"


def enlarge_prime(font: TTFont) -> None:
    """Make the prime what formulas, which raise and shrink it, expect: larger, and at the foot of the line."""
    name, outlines = font.getBestCmap()[PRIME], font["glyf"]
    glyph, width, scale = outlines[name], font["hmtx"][name][0], 1.6
    glyph.coordinates.translate((-glyph.xMin, -glyph.yMin))
    glyph.coordinates.scale((scale, scale))
    glyph.coordinates.translate((40, 100))
    glyph.coordinates.toInt()
    glyph.recalcBounds(outlines)
    font["hmtx"][name] = (round(scale * width) - 180, glyph.xMin)


def build(source: Path, family: str, kept: set[int]) -> None:
    """Write a subset of the font file `source` under a name of its own."""
    font = TTFont(source, recalcTimestamp=False)
    if "glyf" not in font:
        raise ValueError(f"source: expected TrueType outlines (a glyf table), got {source}; take the .ttf release")
    options = Options(layout_features=[], hinting=False, notdef_outline=True, name_IDs=["*"])
    options.drop_tables += ["GPOS", "GSUB", "BASE", "STAT", "vhea", "vmtx"]
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=kept)
    subsetter.subset(font)
    if family == FORMULAS:
        enlarge_prime(font)
    rename(font, family)
    font.save(FONTS / f"{stem(family)}.ttf")


if __name__ == "__main__":
    build(Path(sys.argv[1]), FAMILY, characters())
    build(Path(sys.argv[1]), FORMULAS, IN_FORMULAS)
