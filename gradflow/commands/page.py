"""The page of a deck: every figure in its order, with what it claims and links to its files."""

from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from urllib.parse import quote

from gradflow.commands.deck import Drawn, Slide
from gradflow.figures.catalogue import Labels, texts
from gradflow.files import write_files
from gradflow.report.formulas import html, plain
from gradflow.report.words import HTML_LANG

PAGE = Template("""<!DOCTYPE html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; font: 17px/1.5 system-ui, sans-serif }
h2 { margin-top: 3rem; border-bottom: 2px solid #0072B2 }
figure { margin: 2rem 0 } img { width: 100%; height: auto; border: 1px solid #E4E4E4 }
iframe { width: 100%; aspect-ratio: 16 / 10.2; border: 1px solid #E4E4E4 }
figcaption p { margin: 0.3rem 0 } figcaption .files { color: #595959; font-size: 0.85em } a { color: #00619A }
</style>
</head>
<body>
<h1>$title</h1>
<p>$about <a href="deck.pptx">deck.pptx</a>, <a href="deck.pdf">deck.pdf</a>.</p>
<nav>$contents</nav>
$body
</body>
</html>
""")
KINDS = ("png", "pdf", "svg", "csv", "json", "gif", "html")


def write_page(folder: Path, drawn: Mapping[Slide, Drawn], lang: str) -> Path:
    """Writes index.html into the folder of a deck.

    Args:
        folder: Where it goes; the figures are there already.
        drawn: The slides in their order: those of the lecture, then those of the appendix.
        lang: `en` or `zh`.
    """
    words = texts(lang)
    body, contents = list[str](), list[str]()
    for (core, section), group in groupby(drawn.items(), lambda item: (item[0].core, item[0].section)):
        name = words[f"section.{section}"]
        title = name if core else f"{words['section.appendix']}: {name}"
        place = f"{'lecture' if core else 'appendix'}-{section}"
        contents.append(f'<li><a href="#{place}">{escape(title)}</a></li>')
        body += [f'<h2 id="{place}">{escape(title)}</h2>', *(_figure(slide, made, lang) for slide, made in group)]
    page = PAGE.substitute(
        lang=HTML_LANG[lang],
        title=words["deck.title"],
        about=words["deck.about"],
        contents=f"<ol>{''.join(contents)}</ol>",
        body="\n".join(body),
    )
    write_files({folder / "index.html": page.encode()})
    return folder / "index.html"


def _figure(slide: Slide, made: Drawn, lang: str) -> str:
    """A picture or a player, what it claims, and links to all files of its name."""
    labels = Labels(lang)
    says = labels.claim(made.claims[0]) if made.claims else slide.title
    player = made.picture.with_suffix(".html")
    if player.is_file():
        shown = f'<iframe src="{quote(player.name)}" title="{escape(plain(says))}" loading="lazy"></iframe>'
    else:
        shown = f'<img src="{quote(made.picture.name)}" alt="{escape(plain(says))}" loading="lazy">'
    links = " ".join(_links(made.picture))
    return f'<figure>{shown}<figcaption><p>{html(says)}</p><p class="files">{links}</p></figcaption></figure>'


def _links(picture: Path) -> Iterator[str]:
    for file in (picture.with_suffix(f".{kind}") for kind in KINDS):
        if file.is_file():
            yield f'<a href="{quote(file.name)}">{file.suffix[1:]}</a>'
