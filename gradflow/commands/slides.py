"""The deck as slides to edit: the claim as a title, the picture without it, and notes for who speaks.

A picture is there twice, as the format has it: as SVG, which PowerPoint from 2016 shows and turns into shapes, and as
PNG for programs that know no SVG. In both the headline is cropped away, and the title to edit stands in its place.
"""

import re
from collections.abc import Mapping
from html import unescape
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.dml.color import RGBColor
from pptx.enum.text import MSO_ANCHOR
from pptx.opc.constants import RELATIONSHIP_TYPE
from pptx.opc.package import Part
from pptx.oxml import parse_xml
from pptx.oxml.ns import nsdecls, qn
from pptx.util import Inches, Pt

from gradflow.commands.deck import Drawn, Slide, Step, section_title
from gradflow.commands.notes import notes
from gradflow.figures.catalogue import Labels
from gradflow.figures.theme import DARK, PAPER
from gradflow.files import write_files
from gradflow.report.formulas import html, plain

WIDTH, HEIGHT = Inches(40 / 3), Inches(7.5)
TITLE = round(0.134 * HEIGHT)
"""Height of two lines of a title; under one, the picture begins higher."""
OPENING, FIGURE = 0, 5
"""Layouts of the template: a title alone, a title above free space."""
HEADLINE, LARGE = 24, 40  # points: 48 and 80 of 1920 pixels
MARGIN, ABOVE = Inches(0.16), Inches(0.09)  # as in the pictures, whose headline the title stands for
SVG = "http://schemas.microsoft.com/office/drawing/2016/SVG/main"
SVG_KIND = "{96DAC541-7B7A-43D3-8B79-37D633B846F1}"  # of an extension that holds one
EAST_ASIAN = "Microsoft YaHei"  # where it is missing, programs take what they have
_RAISED = re.compile(r"(<su[bp]>.*?)</su[bp]>")
LANGUAGE = {"en": "en-US", "zh": "zh-CN"}


def write_slides(path: Path, drawn: Mapping[Slide, Drawn], lang: str, theme: str = "light") -> None:
    """Writes the slides: a title, and for every part of the lecture and of the appendix its name and its figures.

    Args:
        path: The file (PPTX).
        drawn: The slides in their order.
        lang: `en` or `zh`.
        theme: That of the pictures.
    """
    pages, labels = _template(), Labels(lang)
    if theme == "dark":
        _darken(pages.slide_master)
    _open(pages, labels("deck.title"))
    for (core, section), group in groupby(drawn.items(), lambda item: (item[0].core, item[0].section)):
        _open(pages, section_title(core, section, labels))
        for slide, made in group:
            for shown in made.parts:
                _figure(pages, slide, made, lang, shown)
    for page in pages.slides:
        _say_language(page, LANGUAGE[lang])
    content = BytesIO()
    pages.save(content)
    write_files({path: content.getvalue()})


def _template() -> Any:
    """An empty deck of 16:9 whose layouts say where titles are, so that a program can move all of them at once."""
    pages = Presentation()
    pages.slide_width, pages.slide_height = WIDTH, HEIGHT
    for typeface in pages.slide_master.element.iter(qn("a:ea")):
        typeface.set("typeface", EAST_ASIAN)
    [style] = pages.slide_master.element.iter(qn("p:titleStyle"))
    first = style.find(qn("a:lvl1pPr"))
    first.set("algn", "l")
    first.find(qn("a:defRPr")).set("sz", str(100 * HEADLINE))
    for kind, left, low, high in ((OPENING, 0.08, 0.3, 0.6), (FIGURE, 0.0, 0.0, TITLE / HEIGHT)):
        title, *others = pages.slide_layouts[kind].placeholders
        for place in others:
            place._element.getparent().remove(place._element)
        title.left, title.width = round(left * WIDTH), round((1 - 2 * left) * WIDTH)
        title.top, title.height = round(low * HEIGHT), round((high - low) * HEIGHT)
        frame = title.text_frame
        frame.margin_left = frame.margin_right = MARGIN
        frame.margin_top = ABOVE
        frame.vertical_anchor = MSO_ANCHOR.TOP if kind == FIGURE else MSO_ANCHOR.MIDDLE
    return pages


def _darken(master: Any) -> None:
    """Light words on the ground of dark figures; also those that are written later."""
    [roles] = master.element.iter(qn("p:clrMap"))
    for role, colour in {"bg1": "dk1", "tx1": "lt1", "bg2": "dk2", "tx2": "lt2"}.items():
        roles.set(role, colour)
    ground = master.background.fill
    ground.solid()
    ground.fore_color.rgb = RGBColor.from_string(DARK[PAPER].removeprefix("#"))


def _open(pages: Any, text: str) -> None:
    """A slide of words alone."""
    title = pages.slides.add_slide(pages.slide_layouts[OPENING]).shapes.title
    title.text = text
    for paragraph in title.text_frame.paragraphs:
        paragraph.font.size = Pt(LARGE)


def _write(paragraph: Any, text: str) -> None:
    """A text of the figures, its indices and powers set as such."""
    for i, piece in enumerate(_RAISED.split(html(text))):
        kind, _, words = piece.partition(">") if i % 2 else ("", "", piece)
        run = paragraph.add_run()
        run.text = unescape(words)
        if kind:
            run.font._element.set("baseline", {"<sub": "-25000", "<sup": "30000"}[kind])


def _figure(pages: Any, slide: Slide, made: Drawn, lang: str, shown: Drawn | Step) -> None:
    """A slide of a figure, or of a step of one that is built up."""
    labels, page = Labels(lang), pages.slides.add_slide(pages.slide_layouts[FIGURE])
    headline = labels.headline(made.claims[0]) if made.claims else slide.reading(lang)
    _write(page.shapes.title.text_frame.paragraphs[0], shown.headline if isinstance(shown, Step) else headline)
    if isinstance(shown, Drawn) and shown.moving:
        picture = page.shapes.add_picture(BytesIO(shown.moving), 0, 0)
    else:
        picture = page.shapes.add_picture(str(shown.picture), 0, 0)
        _add_vector(page, picture, shown.picture.with_suffix(".svg"))
        picture.crop_top = shown.top
        picture.height = round((1 - shown.top) * picture.height)
    scale = min(WIDTH / picture.width, HEIGHT / picture.height)
    picture.width, picture.height = round(scale * picture.width), round(scale * picture.height)
    picture.left, picture.top = (WIDTH - picture.width) // 2, HEIGHT - picture.height
    says = labels.claim(made.claims[0]) if made.claims else slide.reading(lang)
    picture._element.nvPicPr.cNvPr.set("descr", plain(says))
    page.notes_slide.notes_text_frame.text = notes(slide, made, lang)


def _add_vector(page: Any, picture: Any, file: Path) -> None:
    """The same picture as SVG, for programs that know it ([MS-ODRAWXML], 2.3.9: CT_SVGBlip)."""
    package = page.part.package
    vector = Part(package.next_media_partname("svg"), "image/svg+xml", package, file.read_bytes())
    name = page.part.relate_to(vector, RELATIONSHIP_TYPE.IMAGE)
    own = f'<asvg:svgBlip xmlns:asvg="{SVG}" r:embed="{name}"/>'
    extension = f'<a:extLst {nsdecls("a", "r")}><a:ext uri="{SVG_KIND}">{own}</a:ext></a:extLst>'
    [blip] = picture._element.iter(qn("a:blip"))
    blip.append(parse_xml(extension))


def _say_language(page: Any, language: str) -> None:
    """So that a program checks the spelling by the right dictionary, and takes the right typeface."""
    shown = [page.element, *([page.notes_slide.element] if page.has_notes_slide else [])]
    for properties in (found for element in shown for found in element.iter(qn("a:rPr"))):
        properties.set("lang", language)
