"""The tables of gradflow.theory, each computed once, of fewer networks and examples where these take seconds."""

from functools import cache

import pandas as pd
import pytest

from gradflow import theory
from gradflow.theory import lyapunov, memory

FEWER = [
    (lyapunov, {"GAINS": (0.5, 2.0), "NETWORKS": 1, "SPECTRUM_SIZE": 30}),
    (memory, {"EXAMPLES": 4000}),
]


@cache
def _computed(name: str) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        for module, constants in FEWER:
            for constant, value in constants.items():
                patch.setattr(module, constant, value)
        return theory.EXACT[name]()


def table(name: str) -> pd.DataFrame:
    """A fresh copy of a table, by its name in EXACT."""
    return _computed(name).copy(deep=True)
