"""The sum of two digits (Qiu, Neural Networks and Deep Learning, ch. 6)."""

import numpy as np

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.drawing import UNDER_1_PERCENT, drawn, whole
from gradflow.tasks.problem import Problem, Settings
from gradflow.tasks.task import Task


def digit_sum(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """The sum of two digits that are followed by zeros (Qiu, ch. 6: the memory of a simple network).

    Args:
        length: T, at least 2.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs int64 [N, T], digits; targets int64 [N], 0 to 18.
    """
    inputs = np.zeros((n, length), dtype=np.int64)
    inputs[:, :2] = rng.integers(0, 10, (n, 2))
    return whole(inputs, inputs.sum(1))


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """Its data set."""
    share = np.bincount(np.add.outer(np.arange(10), np.arange(10)).ravel()) / 100
    entropy = -float((share * np.log(share)).sum())
    task = Task(10, len(share), UNDER_1_PERCENT, entropy, float(share.max()))
    return drawn(task, lambda n, rng: digit_sum(settings.length, n, rng), settings.test_size, rng)


PROBLEM = Problem({"en": "Digit sum", "zh": "数字求和"}, make, shortest=lambda settings: 2)
