"""Small checks of arguments that all rooms share; no torch."""

import operator
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any


def whole_number(name: str, value: Any, least: int, or_else: str = "") -> int:
    """The value as an int.

    Args:
        name: of the argument, for errors.
        value: what was given: an int, or one of numpy's or torch's.
        least: the smallest that is allowed.
        or_else: what else the argument takes, for errors.

    Raises:
        ValueError: if it is a bool, a float, text, or too small.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}{or_else}, got {value!r}")
    return number


def check_name(argument: str, name: str, known: Collection[str]) -> None:
    """Raise a ValueError that lists the nearest known names, unless `name` is one of them."""
    if name not in known:
        near = get_close_matches(str(name), known, n=3) or sorted(known)
        raise ValueError(f"{argument}: expected a known name, got {name!r}; did you mean {', '.join(near)}?")


def require(condition: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a ValueError that says what was expected of an argument and what came, unless the condition holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {got!r}")
