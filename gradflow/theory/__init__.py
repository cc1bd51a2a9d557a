"""Exact and published results on vanishing and exploding gradients, computed with gradflow's own instruments.

Each function returns one tidy table of finished numbers, float64 and the same for the same seed: what was measured, and
beside it what theory says. :mod:`gradflow.analysis` checks such a table, :mod:`gradflow.figures` draws it, under the
names of `EXACT`::

    for name, compute in theory.EXACT.items():
        figures.make(figures.EXACT[name], compute()).save(name)

`EXACT` maps the name of every exact figure to the function that its folder names as `compute`, see
:mod:`gradflow.figures.room`: `gradflow.analysis.<name>_claims` checks that table, `plot_<name>` of `gradflow.figures`
draws it. All of them take half a minute on one core. Names are loaded when first used.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any


@cache
def _exact() -> dict[str, Callable[..., Any]]:
    exact = import_module("gradflow.figures.room").of_kind("exact")
    return {name: room.part("exact").compute for name, room in exact.items()}


def __getattr__(name: str) -> Any:
    if name == "EXACT":
        return _exact()
    functions = {} if name.startswith("__") and name != "__all__" else {f.__name__: f for f in _exact().values()}
    if name == "__all__":
        return sorted(["EXACT", *functions])
    if name in functions:
        return functions[name]
    raise AttributeError(f"module 'gradflow.theory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __getattr__("__all__")
