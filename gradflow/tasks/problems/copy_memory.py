"""Copy memory (Arjovsky, Shah & Bengio 2016, ICML, arXiv:1511.06464)."""

from math import log

import numpy as np

from gradflow.checks import require
from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.drawing import drawn, whole
from gradflow.tasks.problem import Problem, Settings
from gradflow.tasks.task import Success, Task

COPIED = 8  # different symbols; a blank and a marker come on top


def copy_memory(length: int, n: int, rng: np.random.Generator, symbols: int = 10) -> Sequences:
    """Ten symbols, a long blank, a marker; then the ten are to be said again, and blanks before (Arjovsky et al. 2016).

    Args:
        length: T, at least ``2 * symbols + 1``: the delay of the literature is T - 2 * symbols.
        n: N, how many sequences.
        rng: where the random numbers come from.
        symbols: how many there are.

    Returns:
        Inputs int64 [N, T]: 0 to 7 are symbols, 8 the blank, 9 the marker; targets int64 [N, T], symbols or blank.
    """
    said = rng.integers(0, COPIED, (n, symbols))
    inputs, targets = (np.full((n, length), COPIED, dtype=np.int64) for _ in range(2))
    inputs[:, :symbols] = targets[:, -symbols:] = said
    inputs[:, -symbols - 1] = COPIED + 1
    return whole(inputs, targets)


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """Its data set."""
    symbols, length = settings.symbols, settings.length
    loss = symbols * log(COPIED) / length  # of a network that knows when to speak, but not what to say
    success = Success("test_accuracy", 0.99, "less than 1 % of the symbols wrong, on fresh sequences")
    task = Task(COPIED + 2, COPIED + 1, success, loss, 1 / COPIED, everywhere=True, scored=symbols)
    return drawn(task, lambda n, rng: copy_memory(length, n, rng, symbols), settings.test_size, rng)


def shortest(settings: Settings) -> int:
    """The symbols, a marker, the symbols again."""
    return 2 * settings.symbols + 1


def check(settings: Settings) -> None:
    """There must be something to say."""
    require(settings.symbols >= 1, "data.symbols", "at least 1", settings.symbols)


def lag(settings: Settings) -> int:
    """Each symbol is said again as many steps later."""
    return settings.length - settings.symbols


PROBLEM = Problem({"en": "Copy memory", "zh": "复制记忆"}, make, shortest, check, lag)
