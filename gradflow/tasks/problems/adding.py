"""The adding problem.

Hochreiter & Schmidhuber 1997, Neural Computation 9(8); Le, Jaitly & Hinton 2015, arXiv:1504.00941.
"""

import numpy as np

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.drawing import drawn, marked, whole
from gradflow.tasks.problem import Problem, Settings
from gradflow.tasks.task import Success, Task


def adding(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """The sum of the two marked ones of T numbers from U[0, 1], one in each half.

    Hochreiter & Schmidhuber 1997, in the form of Le et al. 2015.

    Args:
        length: T, at least 2.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs float32 [N, T, 2] (number, mark), targets float32 [N, 1].

    >>> drawn = adding(4, 1, np.random.default_rng(0))
    >>> bool((drawn.inputs[..., 0] * drawn.inputs[..., 1]).sum() == drawn.targets.item())
    True
    """
    numbers = rng.random((n, length), dtype=np.float32)
    marks, places = marked(length, n, rng)
    total = np.take_along_axis(numbers, places, 1).sum(1, keepdims=True)
    return whole(np.stack([numbers, marks], -1), total)


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """Its data set."""
    off = np.abs(np.linspace(-1, 1, 20_001))  # distance from 1 of a sum of two numbers, whose density is triangular
    accuracy = float((1 - off)[off < 0.04].sum() / (1 - off).sum())
    success = Success("test_loss", 0.01, "mean squared error of at most 0.01, where a constant answer has 1/6")
    task = Task(2, 1, success, 1 / 6, accuracy, values=True)
    return drawn(task, lambda n, rng: adding(settings.length, n, rng), settings.test_size, rng)


PROBLEM = Problem({"en": "Adding problem", "zh": "加法问题"}, make, shortest=lambda settings: 2)
