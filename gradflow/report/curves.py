"""The curves of a report: which runs share one, its name, colour and dashes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from gradflow.analysis.runs import identity, runs_of
from gradflow.figures.catalogue import Labels
from gradflow.figures.theme import BLACK, BLUE, DARK, GREEN, GREY, NOTHING, PURPLE, VERMILLION, look
from gradflow.report.words import of_figures

NIGHT = {tone: DARK[tone] for tone in (BLACK, BLUE, GREEN, VERMILLION, PURPLE, GREY, NOTHING)}
"""The colours of the charts, as they are seen on a dark ground."""

DASHES: tuple[list[float], ...] = ([1, 0], [5, 2], [2, 3], [8, 3, 2, 3], [9, 4], [3, 3])
"""Of the variants of one cell, in pixels."""

_KEYS = ["cell", "start", "clip"]


@dataclass(frozen=True)
class Curve:
    """Runs of one cell, start and clipping."""

    key: tuple[str, str, str]
    name: dict[str, str]
    colour: str
    dash: list[float]


def curves_of(runs: Sequence[Any]) -> list[Curve]:
    """The curves of runs that figures show together, in the order of the gallery."""
    names = [identity(run) for run in runs_of(runs)]
    keys = list(dict.fromkeys(tuple(str(name[key]) for key in _KEYS) for name in names))
    several = len({clip for _, _, clip in keys}) > 1
    curves: list[Curve] = []
    for cell, start, clip in keys:
        variant = sum(curve.key[0] == cell for curve in curves)
        name = of_figures(partial(_named, cell=cell, start=start, clip=clip if several else None))
        curves.append(Curve((cell, start, clip), name, look(cell).colour, DASHES[variant % len(DASHES)]))
    return curves


def _named(labels: Labels, cell: str, start: str, clip: str | None) -> str:
    name = labels.title(cell, start)
    return name if clip is None else f"{name}{labels('list.separator')}{labels.clip(clip)}"


def numbered(data: pd.DataFrame, curves: Sequence[Curve]) -> pd.Series:
    """The number of the curve that each row of a gallery's table is of."""
    numbers = {curve.key: i for i, curve in enumerate(curves)}
    keys = zip(*(data[key].astype(str) for key in _KEYS), strict=True)
    return pd.Series([numbers.get(key, -1) for key in keys], index=data.index)
