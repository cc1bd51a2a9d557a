"""The sentences of a diagnosis, in English and Chinese, and numbers as they print them."""

import math
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from gradflow.checks import require
from gradflow.foreign import printable

LANGUAGES = ("en", "zh")


@cache
def texts(lang: str) -> dict[str, str]:
    """All sentences of a language, by id.

    Raises:
        ValueError: An unknown language.
    """
    require(lang in LANGUAGES, "lang", f"one of {', '.join(LANGUAGES)}", lang)
    return yaml.safe_load((files("gradflow.diagnosis") / f"{lang}.yaml").read_text(encoding="utf-8"))


def sentence(lang: str, key: str, values: Mapping[str, Any]) -> str:
    """The sentence of an id with its numbers filled in; empty where a language has none by that id."""
    text = texts(lang).get(key, "")
    shares = set(re.findall(r"{(\w+)} ?%", text))
    return text.format(**{name: (percent if name in shares else worded)(value) for name, value in values.items()})


def percent(value: float) -> str:
    """A number before the sign %, where nobody reads powers of ten.

    Example:
        >>> percent(57.123), percent(1.3e-33), percent(0.0), percent(100.0)
        ('57.1', '<0.1', '0', '100')
    """
    return "<0.1" if 0 < value < 0.1 else worded(value)


def worded(value: Any) -> str:
    """A number in plain text, three digits; text of a log so that it steers no terminal.

    Example:
        >>> worded(0.05712), worded(3.21e-9), worded(12.0), worded(float("inf")), worded(10946.2)
        ('0.0571', '3.2e-9', '12', '∞', '10946')
    """
    if isinstance(value, str):
        return printable(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace(".0e", "e")
