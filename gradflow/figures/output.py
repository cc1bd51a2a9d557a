"""Writing a figure: PNG, PDF, SVG, the numbers behind it, and the checks of what it claims."""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from fontTools import subset  # type: ignore[import-untyped]  # matplotlib's, for its PDFs
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from gradflow.checks import check_kind, check_path
from gradflow.figures.room import check_claims
from gradflow.figures.svg import of_equal_names, with_text
from gradflow.figures.theme import BLACK, as_drawn, shade, theme_of
from gradflow.files import write_files
from gradflow.foreign import table_cell

METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": "gradflow"},
    "pdf": {"CreationDate": None, "Creator": "gradflow"},
    "svg": {"Date": None, "Creator": "gradflow"},
}
"""Nothing that changes from one run to the next, so that equal figures are equal files."""
STRIP = 0.055  # height of a note under a page of a deck, relative to the figure


class _Complaint(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError(_explained(record.getMessage()))


def _explained(message: str) -> str:
    return (
        f"figure: expected characters of the bundled font, got one without a glyph ({message}); "
        f"use another character, or add it to the font with gradflow.figures.build_font"
    )


@contextmanager
def strict_glyphs() -> Iterator[None]:
    """Turn both ways in which matplotlib reports a missing glyph, a warning and a log message, into a ValueError."""
    logger, handler = logging.getLogger("matplotlib.mathtext"), _Complaint()
    logger.addHandler(handler)
    subsetting = logging.getLogger("fontTools")  # says many things about every PDF
    level = subsetting.level
    subsetting.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=r"Glyph .* missing from font")
            yield
    except UserWarning as warning:
        raise ValueError(_explained(str(warning))) from None
    finally:
        logger.removeHandler(handler)
        subsetting.setLevel(level)


@contextmanager
def lean_fonts() -> Iterator[None]:
    """Inside, fonts in a PDF go without their rules of typesetting: its glyphs are in their places.

    To read these rules, which fontTools has a setting for but matplotlib none, took a tenth of the time of a figure.
    """
    known = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*known, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = known


def save(
    figure: Figure,
    path: str | Path,
    *,
    data: pd.DataFrame | None = None,
    claims: Sequence[Mapping[str, Any]] | None = None,
    svg_text: bool = False,
) -> list[Path]:
    """Write a figure as PNG (192 dots per inch), PDF and SVG, its numbers as CSV and the checks of its claims as JSON.

    Args:
        figure: What a plot function returned.
        path: Where, without suffix; folders are made.
        data: The numbers it shows.
        claims: Checked statements, each with claim, value, expected, holds.
        svg_text: Words in the SVG are text, to search and to edit, and the glyphs they need are inside of the file;
            else they are drawn as paths, which look alike in every program.

    Returns:
        The files, in the order PNG, PDF, SVG, CSV, JSON.

    Raises:
        ValueError: A character has no glyph in the fonts.
        OSError: It cannot be written; the files that were there are as before.
    """
    check_evidence(path, data, claims)
    check_kind("figure", figure, Figure, "what a plot function returned")
    check_kind("svg_text", svg_text, bool, "True or False")
    pictures = {kind: picture(figure, kind, svg_text=svg_text) for kind in METADATA}
    return place(Path(path), pictures | evidence(data, claims))


def picture(figure: Figure, kind: str, *, svg_text: bool = False, box: Bbox | None = None) -> bytes:
    """What is in the file of a figure.

    Args:
        figure: What a plot function returned.
        kind: `png` (192 dots per inch), `pdf` or `svg`.
        svg_text: Whether words in an SVG are text, or paths.
        box: What is shown, in inches, on the ground of the figure; None is the figure.
    """
    content, size = BytesIO(), figure.get_size_inches()
    with as_drawn(figure), strict_glyphs(), lean_fonts():
        if kind == "svg" and svg_text:
            return of_equal_names(with_text(figure, METADATA[kind]))
        if box is not None:
            figure.patch.set_bounds(*box.min / size, *box.size / size)
        figure.savefig(content, format=kind, metadata=METADATA[kind], bbox_inches=box)
        figure.patch.set_bounds(0, 0, 1, 1)
    return of_equal_names(content.getvalue()) if kind == "svg" else content.getvalue()


def check_evidence(path: Any, data: Any, claims: Any) -> None:
    """Raise unless this is what :func:`save` takes."""
    check_path("path", path, "a path without suffix")
    if data is not None:
        check_kind("data", data, pd.DataFrame, "the numbers as a pandas.DataFrame")
    check_claims(claims)


def place(path: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write all files of one figure or none; their folders are made.

    Args:
        path: Where, without suffix.
        contents: By suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {path.with_name(f"{path.name}.{suffix}"): content for suffix, content in contents.items()}
    write_files(files)
    return list(files)


def evidence(data: pd.DataFrame | None, claims: Sequence[Mapping[str, Any]] | None) -> dict[str, bytes]:
    """The numbers as CSV and the checks of the claims as JSON, by suffix, as far as they are given."""
    contents = {}
    if data is not None:
        contents["csv"] = csv_of(data)
    if claims is not None:
        text = json.dumps(_plain(list(claims)), ensure_ascii=False, indent=1)
        contents["json"] = f"{text}\n".encode(errors="backslashreplace")
    return contents


def csv_of(data: pd.DataFrame) -> bytes:
    """A table as CSV in which no text is a formula to a spreadsheet, and by whose mark one knows Chinese as UTF-8."""
    texts = data.select_dtypes(["object", "string", "category"]).columns
    safe = data.assign(**{name: data[name].map(_in_a_table) for name in texts})
    text = safe.to_csv(index=False)
    return text.encode() if text.isascii() else text.encode("utf-8-sig")


def _in_a_table(value: Any) -> Any:
    return table_cell(value) if isinstance(value, str) else value


@contextmanager
def deck(path: str | Path) -> Iterator[Callable[[Figure], None]]:
    """A PDF with a slide of 16:9 a page: gives a function that adds a figure, and writes the file at the end.

    Args:
        path: The file; folders are made. It is not written if no figure was added, or something went wrong.

    Raises:
        ValueError: A character has no glyph in the fonts.
    """
    check_path("path", path, "the file of the slides")
    pages: list[bytes] = []
    yield lambda figure: pages.append(page(figure))
    if pages:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files({path: bound([Shown("", "", pages)])})


class Shown(NamedTuple):
    """Pages of a deck that belong together, and by which bookmark they are found: none without a title.

    Attributes:
        section: Title of the bookmark above it.
        title: Of its own.
        pages: A PDF each.
    """

    section: str
    title: str
    pages: Sequence[bytes]


def page(figure: Figure, under: str = "") -> bytes:
    """A page of a deck (PDF): a figure on the smallest 16:9 around its middle.

    Args:
        figure: What a plot function returned.
        under: A note below all of it, which makes it a little smaller.
    """
    check_kind("figure", figure, Figure, "what a plot function returned")
    width, height = figure.get_size_inches()
    strip = STRIP * height if under else 0.0
    side = max(width, (height + strip) * 16 / 9)
    box = Bbox.from_bounds((width - side) / 2, (height - strip) / 2 - side * 9 / 32, side, side * 9 / 16)
    with theme_of(figure):
        ink = shade(BLACK)
    size = 72 * STRIP * height / 2.2
    note = figure.text(0.5, -STRIP / 2, under, ha="center", va="center", fontsize=size, color=ink)
    try:
        return picture(figure, "pdf", box=box)
    finally:
        note.remove()


def bound(shown: Sequence[Shown], title: str = "") -> bytes:
    """One PDF of all pages, with bookmarks.

    Args:
        shown: The pages in their order.
        title: Of the whole.
    """
    from pypdf import PdfWriter  # here, as it is for decks alone

    book, content = PdfWriter(), BytesIO()
    book.add_metadata({"/Title": title, "/Creator": "gradflow"})
    for section, members in groupby(shown, lambda own: own.section):
        above = None
        for own in members:
            place = len(book.pages)
            for sheet in own.pages:
                book.append(BytesIO(sheet), import_outline=False)
            if section and above is None:
                above = book.add_outline_item(title=section, page_number=place)
            if own.title:
                book.add_outline_item(title=own.title, page_number=place, parent=above)
    book.write(content)
    return content.getvalue()


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become text."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
