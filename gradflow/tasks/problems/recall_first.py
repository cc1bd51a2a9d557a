"""Recall of the first symbol.

The latching problem of Bengio, Simard & Frasconi 1994, IEEE Transactions on Neural Networks 5(2).
"""

import numpy as np

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.drawing import DISTRACTORS, classes, drawn, whole
from gradflow.tasks.problem import Problem, Settings

FIRST = 4  # classes of the symbol to be recalled


def recall_first(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """Which of four symbols came first; distractors follow (the latching problem of Bengio et al. 1994).

    Args:
        length: T, at least 1.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs int64 [N, T]: the first from 0 to 3, then distractors 4 to 7; targets int64 [N].
    """
    inputs = rng.integers(FIRST, FIRST + DISTRACTORS, (n, length))
    inputs[:, 0] = rng.integers(0, FIRST, n)
    return whole(inputs, inputs[:, 0].copy())


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """Its data set."""
    task = classes(FIRST + DISTRACTORS, FIRST)
    return drawn(task, lambda n, rng: recall_first(settings.length, n, rng), settings.test_size, rng)


PROBLEM = Problem({"en": "Recall of the first symbol", "zh": "回忆首个符号"}, make)
