"""What drawn tasks have in common: whole sequences, marks and places, answers that are classes."""

from collections.abc import Callable
from math import log

import numpy as np

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.task import Success, Task

DISTRACTORS = 4  # symbols without meaning: temporal order, recall of the first
UNDER_1_PERCENT = Success("test_accuracy", 0.99, "less than 1 % errors on fresh sequences (Pascanu et al. 2013)")

Draw = Callable[[int, np.random.Generator], Sequences]
"""Draws N sequences."""


def drawn(task: Task, draw: Draw, test_size: int, rng: np.random.Generator) -> Dataset:
    """A task with fresh sequences for every update; those to be judged by are drawn first, with `rng`."""
    return Dataset(task=task, test=draw(test_size, rng), draw=draw)


def classes(input_size: int, count: int) -> Task:
    """One of `count` classes that are equally frequent, after the last step."""
    return Task(input_size, count, UNDER_1_PERCENT, log(count), 1 / count)


def whole(inputs: np.ndarray, targets: np.ndarray) -> Sequences:
    """Sequences [N, T, ...] that are all T long."""
    return Sequences(inputs, np.full(len(inputs), inputs.shape[1], dtype=np.int64), targets)


def within(low: float, high: float, length: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """N positions from [low·T, high·T), at least one of them to choose from."""
    start = int(low * length + 1e-9)
    return rng.integers(start, max(int(high * length + 1e-9), start + 1), n)


def marked(length: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Marks [N, T], one in each half, and their positions [N, 2]."""
    half = length // 2
    places = np.stack([rng.integers(0, half, n), rng.integers(half, length, n)], 1)
    marks = np.zeros((n, length), dtype=np.float32)
    np.put_along_axis(marks, places, 1.0, 1)
    return marks, places
