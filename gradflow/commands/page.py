"""The page of a deck: every figure in its order, with what it claims and links to its files."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from gradflow.figures.catalogue import texts
from gradflow.files import write_files

PAGE = Template("""<!DOCTYPE html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; font: 17px/1.5 system-ui, sans-serif }
h2 { margin-top: 3rem; border-bottom: 2px solid #0072B2 }
figure { margin: 2rem 0 } img { width: 100%; height: auto }
figcaption { color: #6E6E6E; font-size: 0.85em } a { color: #0072B2 }
</style>
</head>
<body>
<h1>$title</h1>
<p>$about <a href="deck.pdf">deck.pdf</a></p>
$body
</body>
</html>
""")
KINDS = ("png", "pdf", "svg", "csv", "json", "gif", "html")


def write_page(folder: Path, sections: Sequence[tuple[str, Sequence[Path]]], lang: str) -> Path:
    """Writes index.html into the folder of a deck.

    Args:
        folder: Where it goes; the figures are there already.
        sections: Names of the parts of the lecture, and the pictures (PNG, GIF) of each in their order.
        lang: `en` or `zh`.
    """
    words = texts(lang)
    body = [
        "\n".join([f"<h2>{escape(words[f'section.{name}'])}</h2>", *(_figure(picture) for picture in pictures)])
        for name, pictures in sections
        if pictures
    ]
    page = PAGE.substitute(lang=lang, title=words["deck.title"], about=words["deck.about"], body="\n".join(body))
    write_files({folder / "index.html": page.encode()})
    return folder / "index.html"


def _figure(picture: Path) -> str:
    """A picture with links to all files of its name."""
    files = [picture.with_suffix(f".{kind}") for kind in KINDS]
    links = " ".join(f'<a href="{quote(file.name)}">{file.suffix[1:]}</a>' for file in files if file.is_file())
    alt = escape(picture.name)
    caption = f"<figcaption>{escape(picture.stem)}: {links}</figcaption>"
    return f'<figure><img src="{quote(picture.name)}" alt="{alt}">{caption}</figure>'
