"""The gates that keep (LSTM f, GRU z): the bias they start with and the time scale that it makes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.analysis.runs import setting
from gradflow.cells.facts import REMEMBER_BIAS, bias_of_keeping_gate

NEVER = 10.0  # times the length: a memory longer than that is drawn there and counted


def keep_bias(config: Mapping[str, Any]) -> float:
    """What the settings make the bias of the gate that keeps (LSTM f, GRU z) at the start; NaN if it varies or none is.

    torch's own is near 0: the sum of two, each uniform in ±1/√H.

    Example:
        >>> keep_bias({"cell": {"name": "lstm"}, "init": {"name": "remember"}})
        3.0
    """
    bias, init = bias_of_keeping_gate(setting(config, "cell.name", "")), setting(config, "init.name", "")
    if bias is None or init == "chrono":
        return float("nan")
    given = setting(config, f"init.{bias}", None, float)
    return given if given is not None else REMEMBER_BIAS if init == "remember" else 0.0


def time_scale(bias: float) -> float:
    """-1/ln σ(bias), in steps.

    Example:
        >>> [round(time_scale(bias), 2) for bias in (0.0, 1.0, 3.0)]
        [1.44, 3.19, 20.58]
    """
    return float(1 / np.log1p(np.exp(-bias)))
