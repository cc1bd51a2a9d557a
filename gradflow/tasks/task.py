"""What a network is asked: the shape of its answer, chance, and what counts as solved."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Success:
    """A criterion in the words of the literature.

    Attributes:
        quantity: ``test_accuracy``, which must reach the threshold, or ``test_loss``, which must be at most that.
        threshold: the value.
        source: who set it, or why it is that.
    """

    quantity: str
    threshold: float
    source: str

    def met(self, scores: dict[str, float]) -> bool:
        """Whether test scores fulfil it; NaN does not.

        >>> Success("test_accuracy", 0.99, "").met({"test_accuracy": 1.0})
        True
        """
        value = scores[self.quantity]
        return value >= self.threshold if self.quantity == "test_accuracy" else value <= self.threshold


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Attributes:
        input_size: D: of a one-hot input, or of a vector of numbers.
        output_size: C classes, or K numbers.
        success: when it counts as solved.
        chance_loss: of a network that has learned nothing but the frequencies of the answers: cross-entropy in nats,
            or squared error; mean over the targets.
        chance_accuracy: share of right answers of that network.
        values: the answers are numbers, judged by their squared error; otherwise classes, by cross-entropy.
        everywhere: there is an answer at every position; otherwise one after the last.
        tolerance: the largest error of a number that counts as right.
        scored: how many of the last positions count for the accuracy; None: all that have an answer.
        ragged: sequences differ in length.
    """

    input_size: int
    output_size: int
    success: Success
    chance_loss: float
    chance_accuracy: float
    values: bool = False
    everywhere: bool = False
    tolerance: float = 0.04
    scored: int | None = None
    ragged: bool = False

    def facts(self) -> dict[str, Any]:
        """What the log of a run says about it."""
        return {
            "chance": self.chance_accuracy,
            "chance_loss": self.chance_loss,
            "answers": "everywhere" if self.everywhere else "at the end",
            "success": {
                "quantity": self.success.quantity,
                "threshold": self.success.threshold,
                "source": self.success.source,
            },
        }


def constant_chance(targets: np.ndarray, tolerance: float) -> tuple[float, float]:
    """Squared error and accuracy of the best constant answer, its mean, to targets [N, ...].

    >>> constant_chance(np.array([0.0, 1.0]), tolerance=0.04)
    (0.25, 0.0)
    """
    error = targets - targets.mean()
    return float(np.square(error).mean()), float((np.abs(error) < tolerance).mean())
