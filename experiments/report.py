"""How a run ended, in one line; the files of figures; and rows as aligned columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradflow.runlog import Run

COLUMNS = {"test_accuracy": "test accuracy", "test_loss": "test loss", "wall_time": "seconds"}


def summary(run: Run) -> dict[str, object]:
    """Status and iterations of a run, and the last values it recorded of test accuracy, loss (nats) and seconds."""
    scalars = run.scalars
    last: dict[str, object] = {}
    for column, name in COLUMNS.items():
        values = scalars[column].dropna().tolist() if column in scalars else []
        last[name] = values[-1] if values else float("nan")
    return {"status": run.status, "iterations": len(scalars), **last}


def describe(run: Run) -> str:
    """How a run ended, such as `finished, 500 iterations, test accuracy 0.930, 3.1 s`, or its error."""
    if run.error:
        return f"{run.status}: {run.error}"
    values = summary(run)
    return (
        f"{values['status']}, {values['iterations']} iterations, "
        f"test accuracy {values['test accuracy']:.3f}, {values['seconds']:.1f} s"
    )


def by_figure(files: Iterable[Path]) -> dict[Path, list[str]]:
    """The files of each figure, as its path without suffix and the suffixes."""
    figures: dict[Path, list[str]] = {}
    for file in files:
        figures.setdefault(file.with_suffix(""), []).append(file.suffix[1:])
    return figures


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
