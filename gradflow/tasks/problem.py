"""The record of a long-range problem, and how all of them are found: a problem is a file of `gradflow/tasks/problems/`.

The file holds `PROBLEM`, its record, and what it needs; nothing else names it. With a file of the same name in
`conf/data/` it can be chosen from the command line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol

import numpy as np

from gradflow.tasks.dataset import Dataset

PACKAGE = "gradflow.tasks.problems"


class Settings(Protocol):
    """What a problem may be asked for; see :class:`gradflow.config.DataConfig`."""

    test_size: int
    length: int
    symbols: int
    gain: float


@dataclass(frozen=True)
class Problem:
    """What must be known of a long-range problem to learn it.

    Attributes:
        label: Its name in each language of the figures.
        make: The data set of some settings. The generator draws what the run is judged by, and the system if there is
            one. Its :class:`~gradflow.tasks.Task` says when it counts as solved, and who set that.
        shortest: Time steps that it needs at least, with these settings.
        check: Raises a ValueError for other settings that it cannot have.
        lag: Steps from the farthest input that the answer depends on to the answer; None: nobody knows.
    """

    label: Mapping[str, str]
    make: Callable[[Settings, np.random.Generator], Dataset]
    shortest: Callable[[Settings], int] = lambda settings: 1
    check: Callable[[Settings], None] = lambda settings: None
    lag: Callable[[Settings], int | None] = lambda settings: settings.length - 1


@cache
def problem_names() -> tuple[str, ...]:
    """The names of all problems; none of them is loaded."""
    return tuple(sorted(module.name for module in iter_modules(import_module(PACKAGE).__path__)))


def problem(name: str) -> Problem:
    """The record of a problem, loaded when first asked for."""
    return import_module(f"{PACKAGE}.{name}").PROBLEM
