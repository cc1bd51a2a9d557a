"""What commands print: rows of text as columns of equal width, and files by figure."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path


def width(text: str) -> int:
    """Columns that a text takes on a terminal, where Chinese characters are two wide.

    >>> width("王 a")
    4
    """
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of equal width."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def by_figure(files: Iterable[Path]) -> dict[Path, list[str]]:
    """The files of each figure, as its path without suffix and the suffixes."""
    figures: dict[Path, list[str]] = {}
    for file in files:
        figures.setdefault(file.with_suffix(""), []).append(file.suffix[1:])
    return figures
