"""Small checks of arguments that all rooms share; no torch."""

import operator
import os
import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from math import inf, isfinite, nan
from typing import Any

import numpy as np

LONGEST = 60  # characters of a value in an error
MOST = 20  # names in one


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


def whole_number(name: str, value: Any, least: int, or_else: str = "", most: int | None = None) -> int:
    """The value as an int.

    Args:
        name: of the argument, for errors.
        value: what was given: an int, or one of numpy's or torch's.
        least: the smallest that is allowed.
        or_else: what else the argument takes, for errors.
        most: the largest that is allowed, if there is one.

    Raises:
        ValueError: if it is a bool, a float, text, too small or too large.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        raise ValueError(f"{name}: expected a whole number {limits}{or_else}, got {shown(value)}")
    return number


def real_number(
    name: str, value: Any, least: float = -inf, above: float = -inf, most: float = inf, infinite: bool = False
) -> float:
    """The value as a float.

    Args:
        name: of the argument, for errors.
        value: what was given: a finite number, also one of numpy's or torch's.
        least: the smallest that is allowed.
        above: what is less than any that is allowed.
        most: the largest that is allowed.
        infinite: whether infinity is allowed.

    Raises:
        ValueError: if it is no number (text, a bool, several), NaN, infinite, too small or too large.
    """
    try:
        number = nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = nan
    if not (least <= number <= most and number > above and (infinite or isfinite(number))):
        kind = "positive" if above == 0 else "real" if infinite else "finite"
        limits = f" of at least {least}" if least > -inf else f" above {above}" if above not in (0, -inf) else ""
        limits = f" from {least} to {most}" if most < inf else limits
        raise ValueError(f"{name}: expected a {kind} number{limits}, got {shown(value)}")
    return number


def share(name: str, value: Any) -> float:
    """The value as a float between 0 and 1; raises a ValueError for another, 0 and 1 among them."""
    try:
        number = real_number(name, value)
    except ValueError:
        number = nan
    require(0 < number < 1, name, "a number between 0 and 1, such as 0.95", value)
    return number


def check_flags(**flags: Any) -> None:
    """Raise a ValueError unless each of these is True or False; what merely counts as true may be a slip."""
    for name, value in flags.items():
        require(isinstance(value, bool), name, "True or False", value)


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> None:
    """Raise a TypeError that says what was expected of an argument, and of which kind it is, unless it is of this one.

    >>> check_kind("x", None, int, "a number")
    Traceback (most recent call last):
    TypeError: x: expected a number, got None
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {expected}, got {shown(value)}")


def listed(name: str, values: Any, expected: str) -> list[Any]:
    """What can be gone through, as a list; raises a TypeError for anything else, and for text."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected {expected}, got {shown(values)}")
    return list(values)


def numbers(name: str, values: Any) -> np.ndarray:
    """The values as an array [N] of float64; raises a ValueError for anything but one row of numbers."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        array = np.empty((0, 0))
    require(array.ndim == 1, name, "a sequence of numbers", values)
    return array


def check_name(argument: str, name: str, known: Collection[str]) -> None:
    """Raise a ValueError that lists the nearest known names (`train.lr` for `lr`), unless `name` is one of them."""
    if not isinstance(name, str) or name not in known:
        ends = [full for full in known if full.rpartition(".")[2] == name]
        near = ends or get_close_matches(str(name)[:LONGEST], known, n=3) or sorted(known)
        near = near if len(near) <= MOST else [*near[:MOST], "..."]
        raise ValueError(f"{argument}: expected a known name, got {shown(name)}; did you mean {', '.join(near)}?")


def did_you_mean(word: str, known: Collection[str]) -> str:
    """The end of an error about an unknown word: the nearest known one, empty where none is near.

    Example:
        >>> did_you_mean("lnag", ["path", "lang"])
        '; did you mean lang?'
    """
    near = get_close_matches(word[:LONGEST], known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def check_path(name: str, path: Any, expected: str) -> None:
    """Raise unless a value can be a path that names something: an empty one would be the current folder.

    Raises:
        TypeError: if it is no path.
        ValueError: if it is empty, or no file system knows such a name, or this one's encoding has no such letters.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    check_kind(name, text if isinstance(text, str) else path, str, expected)
    require(bool(str(text).strip()) and "\0" not in str(text), name, expected, text)
    try:
        os.fsencode(str(text)), str(text).encode()  # the second fails where the name came in as bytes of no text
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise ValueError(
            f"{name}: expected a path that can be written in {encoding}, in which this Python names files, and in "
            f"UTF-8, got {text!a}; start Python with PYTHONUTF8=1, or choose another name"
        ) from None


def require(condition: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a ValueError that says what was expected of an argument and what came, unless the condition holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {shown(got)}")
