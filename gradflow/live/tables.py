"""Tables as JSON takes them."""

from math import isfinite
from typing import Any

import numpy as np

DIGITS = 6


def plain(value: Any) -> Any:
    """The same with six digits of each number, and None for those that are not finite.

    >>> plain({"a": [0.1234567, float("nan"), 2e-30, 3]})
    {'a': [0.123457, None, 2e-30, 3]}
    """
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
