"""Of all combinations of what is independent, those that bring every two values together; the others are slow."""

import itertools
from collections.abc import Iterable, Mapping

import pytest

Axis = Iterable[object] | Mapping[str, object]


def pairs(row: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    """Every two of the values of a combination, each with its place."""
    return set(itertools.combinations(enumerate(row), 2))


def covering(sizes: Iterable[int]) -> set[tuple[int, ...]]:
    """Few combinations in which any two values of different axes meet, always the one that brings most new pairs."""
    rows = list(itertools.product(*map(range, sizes)))
    missing, chosen = set().union(*map(pairs, rows)), set()
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        chosen.add(best)
        missing -= pairs(best)
    return chosen


def each_pair(**axes: Axis) -> pytest.MarkDecorator:
    """Parametrises by all combinations of the values of three or more arguments, a dict's under the names of its keys.

    A fault that needs one value, or two together, is found by the quick ones; one that needs three, by the slow ones.
    """
    named = [axis if isinstance(axis, Mapping) else {name_of(value): value for value in axis} for axis in axes.values()]
    quick = covering(map(len, named))
    cases = [
        pytest.param(
            *(value for _, value in chosen),
            marks=() if row in quick else pytest.mark.slow,
            id="-".join(name for name, _ in chosen),
        )
        for row, chosen in zip(
            itertools.product(*(range(len(axis)) for axis in named)),
            itertools.product(*(axis.items() for axis in named)),
            strict=True,
        )
    ]
    return pytest.mark.parametrize(tuple(axes), cases)


def name_of(value: object) -> str:
    """As a test is called for it."""
    return getattr(value, "__name__", str(value))
