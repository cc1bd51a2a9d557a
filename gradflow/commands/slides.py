"""The deck as slides to edit: the claim as a title, the picture without it, and notes for who speaks."""

import re
from collections.abc import Mapping
from html import unescape
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.enum.text import MSO_ANCHOR
from pptx.oxml.ns import qn
from pptx.util import Inches, Pt

from gradflow.commands.deck import Drawn, Slide, Step
from gradflow.figures.catalogue import Labels, number, texts
from gradflow.files import write_files
from gradflow.report.formulas import html, plain

WIDTH, HEIGHT = Inches(40 / 3), Inches(7.5)
SHAPE = 0.487
"""Height of a picture to its width: what two lines of a title leave of a slide of 16:9."""
PICTURE = round(SHAPE * WIDTH)
OPENING, FIGURE = 0, 5
"""Layouts of the template: a title alone, a title above free space."""
HEADLINE, LARGE = 24, 40  # points: 48 and 80 of 1920 pixels
MARGIN = Inches(0.16)
EAST_ASIAN = "Microsoft YaHei"  # where it is missing, programs take what they have
_RAISED = re.compile(r"(<su[bp]>.*?)</su[bp]>")
LANGUAGE = {"en": "en-US", "zh": "zh-CN"}


def write_slides(path: Path, drawn: Mapping[Slide, Drawn], lang: str) -> None:
    """Writes the slides: a title, and for every part of the lecture and of the appendix its name and its figures.

    Args:
        path: The file (PPTX).
        drawn: The slides in their order.
        lang: `en` or `zh`.
    """
    pages, words = _template(), texts(lang)
    _open(pages, words["deck.title"])
    for (core, section), group in groupby(drawn.items(), lambda item: (item[0].core, item[0].section)):
        name = words[f"section.{section}"]
        _open(pages, name if core else f"{words['section.appendix']}\n{name}")
        for slide, made in group:
            for step in made.steps:
                _figure(pages, slide, made, lang, step)
            _figure(pages, slide, made, lang, made)
    for page in pages.slides:
        _say_language(page, LANGUAGE[lang])
    content = BytesIO()
    pages.save(content)
    write_files({path: content.getvalue()})


def notes(slide: Slide, made: Drawn, lang: str) -> str:
    """What who speaks has before them: the claim in full, every check with its outcome, how to read it, its source."""
    labels, claims = Labels(lang), made.claims
    parts = [plain(labels.claim(claims[0]))] if claims else []
    parts.append("\n".join([labels("deck.checks"), *(_check(claim, labels) for claim in claims)]))
    parts.append(labels("deck.reading", text=slide.reading(lang)))
    parts.append(labels("deck.source", text=made.source))
    return "\n\n".join(parts)


def _check(claim: Mapping[str, Any], labels: Labels) -> str:
    value = claim["value"]
    told = plain(number(value)) if isinstance(value, int | float) else str(value)
    verdict = labels("deck.holds" if claim["holds"] else "deck.fails")
    name = claim["claim"].replace("_", " ")
    return labels("deck.check", name=name, value=told, expected=str(claim["expected"]), verdict=verdict)


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
    top = (HEIGHT - PICTURE) / HEIGHT
    for kind, left, low, high in ((OPENING, 0.08, 0.3, 0.6), (FIGURE, 0.0, 0.0, top)):
        title, *others = pages.slide_layouts[kind].placeholders
        for place in others:
            place._element.getparent().remove(place._element)
        title.left, title.width = round(left * WIDTH), round((1 - 2 * left) * WIDTH)
        title.top, title.height = round(low * HEIGHT), round((high - low) * HEIGHT)
        frame = title.text_frame
        frame.margin_left = frame.margin_right = MARGIN
        frame.vertical_anchor = MSO_ANCHOR.MIDDLE
    return pages


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
    headline = labels.headline(made.claims[0]) if made.claims else slide.title
    said = shown.headline if isinstance(shown, Step) else headline
    _write(page.shapes.title.text_frame.paragraphs[0], said)
    picture = page.shapes.add_picture(BytesIO(shown.bare), 0, 0)
    scale = min(WIDTH / picture.width, PICTURE / picture.height)
    picture.width, picture.height = round(scale * picture.width), round(scale * picture.height)
    picture.left, picture.top = (WIDTH - picture.width) // 2, HEIGHT - (PICTURE + picture.height) // 2
    picture._element.nvPicPr.cNvPr.set("descr", plain(labels.claim(made.claims[0])) if made.claims else slide.title)
    page.notes_slide.notes_text_frame.text = notes(slide, made, lang)


def _say_language(page: Any, language: str) -> None:
    """So that a program checks the spelling by the right dictionary, and takes the right typeface."""
    shown = [page.element, *([page.notes_slide.element] if page.has_notes_slide else [])]
    for properties in (found for element in shown for found in element.iter(qn("a:rPr"))):
        properties.set("lang", language)
