"""What commands print: rows of text as columns of equal width, files by figure, errors; nothing steers a terminal."""

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from gradflow.foreign import printable, printable_lines

LONGEST = 2000  # characters of a line of an error or of the log


def width(text: str) -> int:
    """Columns that a text takes on a terminal, where Chinese characters are two wide.

    >>> width("王 a")
    4
    """
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of equal width."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def by_figure(files: Iterable[Path]) -> list[str]:
    """A line for each figure: its path without suffix, and the suffixes of its files."""
    figures: dict[Path, list[str]] = {}
    for file in files:
        figures.setdefault(file.with_suffix(""), []).append(file.suffix[1:])
    return [printable(f"{figure} ({', '.join(suffixes)})", LONGEST) for figure, suffixes in figures.items()]


def told(error: Exception, path: str = "path") -> str:
    """What an error says, of the library's argument `path` under the name that the command has for it."""
    text = str(error)
    return printable_lines(f"{path}: {text.removeprefix('path: ')}" if text.startswith("path: ") else text, LONGEST)


class Shown(logging.StreamHandler):
    """Shows what gradflow says while it reads and draws.

    Attributes:
        warned: Whether something was left out that cannot be read.
    """

    warned = False

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a message."""
        self.warned |= record.levelno >= logging.WARNING
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The message alone."""
        return printable_lines(record.getMessage(), LONGEST)


def show_log() -> Shown:
    """Has gradflow's log shown from now on."""
    shown = Shown()
    logging.basicConfig(handlers=[shown])
    logging.getLogger("gradflow").setLevel(logging.INFO)
    return shown
