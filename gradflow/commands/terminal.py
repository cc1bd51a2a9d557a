"""What commands show in colour: plain where the output is no terminal, is called dumb, or NO_COLOR is set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradflow.commands.columns import aligned

if TYPE_CHECKING:
    from rich.console import Console

BLOCKS = "▁▂▃▄▅▆▇█"
STYLES = {"ok": "green", "healthy": "green", "finished": "green", "running": "cyan", "proved": "green"}
STYLES |= dict.fromkeys(("wrong", "ill", "failed", "lost", "unreadable"), "bold red")
STYLES |= dict.fromkeys(("unknown", "unproved", "interrupted", "diverged"), "yellow")
"""Words that stand for how something is, and how they look."""


def console() -> Console:
    """What writes to the standard output."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A line of blocks whose heights follow the values, each the mean of its share of them.

    NaN leaves a gap; what is infinite stands at the end of the scale as an arrow.

    >>> sparkline([0, 1, 2, 3, float("nan"), float("-inf"), 7])
    '▁▂▃▄ ↓█'
    >>> sparkline(range(100), 4), sparkline([5, 5]), sparkline([])
    ('▁▃▆█', '▁▁', '')
    """
    values = [float(value) for value in values]
    count = min(width, len(values))
    edges = [len(values) * number // count for number in range(count + 1)] if count else [0]
    means = [_mean(values[first:last]) for first, last in itertools.pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return "".join(_block(mean, low, high) for mean in means)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known and not _opposed(known) else math.nan


def _opposed(values: Sequence[float]) -> bool:
    return math.inf in values and -math.inf in values


def _block(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return " "
    if math.isinf(value):
        return "↑" if value > 0 else "↓"
    share = (value - low) / (high - low) if high > low else 0.0
    return BLOCKS[min(len(BLOCKS) - 1, round(share * (len(BLOCKS) - 1)))]


def print_rows(rows: Iterable[Sequence[str]]) -> None:
    """Prints rows as columns of equal width; cells that say how something is are in colour."""
    from rich.text import Text

    rows, out = list(rows), console()
    for row, line in zip(rows, aligned(rows).splitlines() if rows else [], strict=True):
        text = Text(line)
        for cell in row:
            if cell in STYLES:
                start = line.index(cell)
                text.stylize(STYLES[cell], start, start + len(cell))
        out.print(text, soft_wrap=True)
