"""What the settings of a run say; of those of other scripts, under the same names, nothing is taken for gradflow's."""

from collections.abc import Mapping
from typing import Any

from gradflow.cells.facts import CELLS, REMEMBER_BIAS
from gradflow.config import Source

_TOLD_BY = {"cell": "name", "init": "name", "clip": "name", "data": "source"}
"""The entry without which a group of settings says nothing."""


def group(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A group of settings; empty where there is none, or none as gradflow has it.

    Example:
        >>> group({"clip": {"name": "norm", "threshold": 1.0}}, "clip"), group({"clip": 0.25}, "clip")
        ({'name': 'norm', 'threshold': 1.0}, {})
    """
    found, entry = config.get(name), _TOLD_BY.get(name)
    if not isinstance(found, Mapping) or not (entry is None or isinstance(found.get(entry), str)):
        return {}
    return found


def of_gradflow(config: Mapping[str, Any]) -> bool:
    """Whether the data are gradflow's, hence the training: its loss, and states that start at zero."""
    return group(config, "data").get("source") in tuple(Source)


def value_of(settings: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """One of some settings or facts, if it is there and of this kind (an int counts as a float, a bool as neither)."""
    value = settings.get(name)
    if isinstance(value, bool) and kind is not bool:
        return default
    if isinstance(value, int) and abs(value) >= 2**63:  # of a file that nobody wrote with gradflow
        return default
    return kind(value) if isinstance(value, (int, float) if kind is float else kind) else default


def init_of(config: Mapping[str, Any]) -> str:
    """The initialisation by name; torch's own with a gate set to keep (a positive bias) is one to remember.

    Example:
        >>> init_of({"init": {"name": "default"}}), init_of({"init": {"name": "default", "forget_bias": 1.0}})
        ('default', 'remember')
    """
    init = group(config, "init")
    opened = any(value_of(init, key, float, 0.0) > 0 for key in _BIASES.values())
    return "remember" if init.get("name") == "default" and opened else init.get("name", "")


def start_of(config: Mapping[str, Any]) -> str:
    """How the recurrent weights and the keeping gate start, as words and formulas joined by commas; empty: unknown.

    Example:
        >>> start_of({"cell": {"name": "lstm"}, "init": {"name": "remember"}})
        'b_f=3'
        >>> start_of({"cell": {"name": "rnn"}, "init": {"name": "gaussian", "gain": 1.5}})
        'gaussian, g=1.5'
        >>> start_of({"cell": {"name": "rnn"}})
        ''
    """
    cell, init = group(config, "cell").get("name", ""), group(config, "init")
    if not init:
        return ""
    name, gain, std = init["name"], value_of(init, "gain", float, 1.0), value_of(init, "std", float, None)
    biases = {f"b_{gate}": value_of(init, key, float, None) for gate, key in _BIASES.items()}
    words = [name]
    if name == "remember":
        gate = CELLS[cell].keeping_gate if cell in CELLS else None
        words = [] if gate else ["orthogonal"]
        if gate and biases[f"b_{gate}"] is None:
            biases[f"b_{gate}"] = REMEMBER_BIAS
    if name == "gaussian" or gain != 1:
        words.append(f"g={gain:g}")
    if std is not None:
        words.append(rf"\sigma={std:g}")
    if value_of(group(config, "flossing"), "iterations", int, 0):
        words.append("flossed")
    return ", ".join(words + [f"{bias}={value:g}" for bias, value in biases.items() if value is not None])


_BIASES = {"f": "forget_bias", "z": "update_bias"}


def treatment_of(config: Mapping[str, Any]) -> str:
    """What is done to the gradient in training: the clipping by name, and `omega` where the regulariser acts.

    Empty where the settings do not say.

    Example:
        >>> treatment_of({"clip": {"name": "norm"}, "omega": {"weight": 4.0}}), treatment_of({"lr": 0.1})
        ('norm, omega', '')
    """
    clip = group(config, "clip").get("name", "")
    return f"{clip}, omega" if clip and value_of(group(config, "omega"), "weight", float, 0.0) > 0 else clip
