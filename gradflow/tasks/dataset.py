"""What a source becomes: sequences to learn from and to be judged by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.tasks.task import Task


@dataclass(frozen=True)
class Sequences:
    """N sequences of up to T steps with what is to be answered.

    Attributes:
        inputs: int64 [N, T], indices of one-hot vectors (0 beyond each length), or float32 [N, T, D].
        lengths: int64 [N], at least 1.
        targets: int64 [N] classes or float32 [N, K] numbers; [N, T] or [N, T, K] with an answer at every position.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def of_numbers(self) -> bool:
        """Whether the inputs are vectors of numbers, not indices."""
        return self.inputs.ndim == 3


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A task, and its sequences.

    Attributes:
        task: what is asked.
        test: sequences to be judged by.
        train: those to learn from, again and again; None: fresh ones for every update.
        draw: draws N fresh sequences with a random generator, where `train` is None.
    """

    task: Task
    test: Sequences
    train: Sequences | None = None
    draw: Callable[[int, np.random.Generator], Sequences] | None = None

    def facts(self) -> dict[str, Any]:
        """What the log of a run says about it."""
        return self.task.facts()
