"""Small checks of arguments that all rooms share; no torch."""

import operator
from collections.abc import Collection
from difflib import get_close_matches
from math import isnan
from typing import Any

LONGEST = 60  # characters of a value in an error


def shown(value: Any) -> str:
    """A value as errors show it: in one line, its end left out if it is long, an array by its shape.

    >>> shown("a" * 100), shown(float("nan")), shown(["x", 1])
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'", 'nan', "['x', 1]")
    """
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else value[: LONGEST - 1] + "...")
    if getattr(value, "ndim", 0):
        return f"{type(value).__name__} of shape {list(value.shape)}"
    text = " ".join(repr(value).splitlines())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


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
        raise ValueError(f"{name}: expected a whole number of at least {least}{or_else}, got {shown(value)}")
    return number


def real_number(name: str, value: Any, expected: str = "a number", least: float = float("-inf")) -> float:
    """The value as a float.

    Args:
        name: of the argument, for errors.
        value: what was given: a number, or one of numpy's or torch's; infinity too.
        expected: what the argument takes, for errors.
        least: the smallest that is allowed.

    Raises:
        ValueError: if it is no number (text, a bool, several), NaN, or too small.
    """
    try:
        number = float("nan") if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = float("nan")
    if isnan(number) or number < least:
        raise ValueError(f"{name}: expected {expected}, got {shown(value)}")
    return number


def check_name(argument: str, name: str, known: Collection[str]) -> None:
    """Raise a ValueError that lists the nearest known names, unless `name` is one of them."""
    if not isinstance(name, str) or name not in known:
        near = get_close_matches(str(name)[:LONGEST], known, n=3) or sorted(known)
        raise ValueError(f"{argument}: expected a known name, got {shown(name)}; did you mean {', '.join(near)}?")


def require(condition: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a ValueError that says what was expected of an argument and what came, unless the condition holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {shown(got)}")
