"""Delayed exclusive or (Martens & Sutskever 2011, ICML)."""

import numpy as np

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.drawing import classes, drawn, marked, whole
from gradflow.tasks.problem import Problem, Settings


def delayed_xor(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """Whether the two marked ones of T random bits differ, one in each half (Martens & Sutskever 2011).

    Args:
        length: T, at least 2.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs float32 [N, T, 2] (bit, mark), targets int64 [N], 0 or 1.
    """
    bits = rng.integers(0, 2, (n, length))
    marks, places = marked(length, n, rng)
    first, second = np.take_along_axis(bits, places, 1).T
    return whole(np.stack([bits.astype(np.float32), marks], -1), first ^ second)


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """Its data set."""
    return drawn(classes(2, 2), lambda n, rng: delayed_xor(settings.length, n, rng), settings.test_size, rng)


PROBLEM = Problem({"en": "Delayed XOR", "zh": "延迟异或"}, make, shortest=lambda settings: 2)
