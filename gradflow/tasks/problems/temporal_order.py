"""Temporal order (Hochreiter & Schmidhuber 1997; Pascanu, Mikolov & Bengio 2013, ICML, arXiv:1211.5063)."""

import numpy as np

from gradflow.checks import require
from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.drawing import DISTRACTORS, classes, drawn, whole, within
from gradflow.tasks.problem import Problem, Settings

PLACES = {2: ((0.1, 0.2), (0.5, 0.6)), 3: ((0.1, 0.2), (0.33, 0.43), (0.66, 0.76))}


def temporal_order(length: int, n: int, rng: np.random.Generator, symbols: int = 2) -> Sequences:
    """In which order two (or three) symbols A or B appeared among distractors.

    Two lie in [T/10, 2T/10) and [5T/10, 6T/10) (Pascanu et al. 2013); of three the places are those of Hochreiter &
    Schmidhuber 1997, experiment 6b: [.1T, .2T), [.33T, .43T), [.66T, .76T).

    Args:
        length: T, at least 10.
        n: N, how many sequences.
        rng: where the random numbers come from.
        symbols: how many there are, 2 or 3.

    Returns:
        Inputs int64 [N, T]: 0 is A, 1 is B, 2 to 5 are distractors; targets int64 [N], 4 or 8 classes.
    """
    inputs = rng.integers(2, 2 + DISTRACTORS, (n, length))
    relevant = rng.integers(0, 2, (n, symbols))
    for i, (low, high) in enumerate(PLACES[symbols]):
        inputs[np.arange(n), within(low, high, length, n, rng)] = relevant[:, i]
    return whole(inputs, relevant @ (2 ** np.arange(symbols)[::-1]))


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """Its data set."""
    task, symbols = classes(2 + DISTRACTORS, 2**settings.symbols), settings.symbols
    return drawn(task, lambda n, rng: temporal_order(settings.length, n, rng, symbols), settings.test_size, rng)


def check(settings: Settings) -> None:
    """Its places are those of two or three symbols."""
    require(settings.symbols in PLACES, "data.symbols", "2 or 3 (data=temporal_order)", settings.symbols)


PROBLEM = Problem({"en": "Temporal order", "zh": "时序问题"}, make, shortest=lambda settings: 10, check=check)
