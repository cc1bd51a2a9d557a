"""The page of a deck: every figure in its order, with what it claims and links to its files; it can be presented."""

from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template
from urllib.parse import quote

from gradflow.commands.deck import Drawn, Slide, Step, section_title
from gradflow.figures.catalogue import Labels
from gradflow.figures.theme import DARK, PAPER
from gradflow.figures.webfont import FAMILIES, font_face
from gradflow.files import write_files
from gradflow.report.formulas import html, plain
from gradflow.report.words import HTML_LANG

KINDS = ("png", "pdf", "svg", "csv", "json", "gif", "html")
LOOKS = {
    "light": {"schemes": "light dark", "where_dark": "(prefers-color-scheme: dark)", "paper": str(PAPER)},
    "dark": {"schemes": "dark", "where_dark": "all", "paper": DARK[PAPER]},
}
WORDS = ("title", "contents", "figures", "back", "forward", "present", "keys")


def write_page(folder: Path, drawn: Mapping[Slide, Drawn], lang: str, theme: str = "light") -> Path:
    """Writes index.html into the folder of a deck.

    Args:
        folder: Where it goes; the figures are there already.
        drawn: The slides in their order: those of the lecture, then those of the appendix.
        lang: `en` or `zh`.
        theme: That of the pictures. Around dark ones the page is dark, else as the reader's browser has it.
    """
    labels = Labels(lang)
    body, places = list[str](), list[str]()
    for (core, section), group in groupby(drawn.items(), lambda item: (item[0].core, item[0].section)):
        title, shown = escape(section_title(core, section, labels)), list(group)
        place = f"{'lecture' if core else 'appendix'}-{section}"
        inside = "".join(_place(slide, made, labels, lang) for slide, made in shown)
        places.append(f'<li><a href="#{place}">{title}</a><ol>{inside}</ol></li>')
        body += [f'<h2 id="{place}">{title}</h2>', *(_figure(slide, made, labels, lang) for slide, made in shown)]
    words = {word: escape(labels(f"deck.{word}")) for word in WORDS}
    pptx, pdf = (f'<a href="deck.{kind}">deck.{kind}</a>' for kind in ("pptx", "pdf"))
    words |= {"about": labels("deck.about", pptx=pptx, pdf=pdf)}
    words |= {"lang": HTML_LANG[lang], "places": f"<ul>{''.join(places)}</ul>", "body": "\n".join(body)}
    words |= {"font": font_face("".join(words.values()), lang), "families": FAMILIES}
    words |= LOOKS[theme]
    template = Template((files("gradflow.commands") / "page.html").read_text(encoding="utf-8"))
    write_files({folder / "index.html": template.substitute(words).encode()})
    return folder / "index.html"


def _place(slide: Slide, made: Drawn, labels: Labels, lang: str) -> str:
    """A line of the contents, with the number that the files have."""
    says = labels.headline(made.claims[0]) if made.claims else slide.reading(lang)
    name = made.picture.stem
    return f'<li value="{escape(name.partition("-")[0])}"><a href="#{quote(name)}">{html(says)}</a></li>'


def _figure(slide: Slide, made: Drawn, labels: Labels, lang: str) -> str:
    """A picture or a player, what it claims, how it is read, and links to all files of its name.

    The steps of a picture that is built up are seen by those who present it.
    """
    says = labels.claim(made.claims[0]) if made.claims else slide.reading(lang)
    steps = (f"{_name(step)}>{_image(step.picture, step.headline)}" for step in made.steps)
    before = "".join(f'<figure class="step" {step}</figure>' for step in steps)
    shown, player = _image(made.picture, says), made.picture.with_suffix(".html")
    if player.is_file():
        plays = f'src="{quote(player.name)}" title="{escape(plain(says))}" loading="lazy"'
        shown = f'<iframe class="shown player" {plays}></iframe>{_printed(made.picture, says)}'
    caption = [f"<p>{html(says)}</p>", f'<p class="faint">{html(slide.reading(lang))}</p>']
    caption.append(f'<p class="faint files">{" ".join(_links(made.picture))}</p>')
    return f"{before}<figure {_name(made)}>{shown}<figcaption>{''.join(caption)}</figcaption></figure>"


def _name(shown: Drawn | Step) -> str:
    """By which a figure is found, and so that it can have the focus."""
    return f'id="{escape(shown.picture.stem)}" tabindex="-1"'


def _image(picture: Path, says: str) -> str:
    """Loaded at once, since a print has none that is not yet there."""
    return f'<img class="shown picture" src="{quote(picture.name)}" alt="{escape(plain(says))}" decoding="async">'


def _printed(picture: Path, says: str) -> str:
    """What stands for a player on paper: its last frame."""
    last = quote(picture.with_suffix(".png").name)
    return f'<img class="shown picture paper" src="{last}" alt="{escape(plain(says))}">'


def _links(picture: Path) -> Iterator[str]:
    for file in (picture.with_suffix(f".{kind}") for kind in KINDS):
        if file.is_file():
            yield f'<a href="{quote(file.name)}">{file.suffix[1:].upper()}</a>'
