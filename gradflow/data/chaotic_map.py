"""Forecasting a chaotic network: sequences whose own dynamics make gradients explode, whatever the model.

A model that follows a chaotic system must have exploding gradients itself (Mikhaeil, Monfared & Durstewitz 2022,
NeurIPS, arXiv:2110.07238). The system is h ← tanh(W h) with independent Gaussian weights, chaotic for gains above 1
(Sompolinsky, Crisanti & Sommers 1988, Phys. Rev. Lett. 61, 259); a few of its units are seen, so that the next step
has to be told from many steps before (delay coordinates; Takens 1981).
"""

from collections.abc import Callable

import numpy as np

from gradflow.config import DataConfig
from gradflow.data.dataset import Sequences
from gradflow.data.task import Success, Task, constant_chance

UNITS = 32
SEEN = 8
BURN_IN = 50  # steps before the first one that is seen
EXPLAINED = 0.9  # share of the variance


def trajectories(weight: np.ndarray, length: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """The first units of h ← tanh(W h) from random states, after a burn-in, float32 [n, length, SEEN].

    Args:
        weight: W, [N, N].
        length: number of steps.
        n: how many trajectories.
        rng: decides where they start.
    """
    h = rng.uniform(-1, 1, (n, len(weight))).astype(np.float32)
    seen = np.empty((n, length, SEEN), dtype=np.float32)
    for t in range(-BURN_IN, length):
        h = np.tanh(h @ weight.T)
        if t >= 0:
            seen[:, t] = h[:, :SEEN]
    return seen


def chaotic_map(
    config: DataConfig, rng: np.random.Generator
) -> tuple[Task, Callable[[int, np.random.Generator], Sequences]]:
    """The task of saying at every step what the seen units are at the next, and how to draw sequences of it.

    Args:
        config: its `length` and `gain` are used.
        rng: draws the system.

    Returns:
        The task, and a function of N and a generator: inputs float32 [N, T, SEEN], targets the same one step later.
    """
    weight = (rng.standard_normal((UNITS, UNITS)) * config.gain / np.sqrt(UNITS)).astype(np.float32)

    def draw(n: int, rng: np.random.Generator) -> Sequences:
        seen = trajectories(weight, config.length + 1, n, rng)
        lengths = np.full(n, config.length, dtype=np.int64)
        return Sequences(seen[:, :-1], lengths, seen[:, 1:])

    tolerance = 0.1
    variance, accuracy = constant_chance(draw(1000, np.random.default_rng(0)).targets, tolerance)
    success = Success("test_loss", (1 - EXPLAINED) * variance, f"{EXPLAINED:.0%} of the variance explained")
    return Task(SEEN, SEEN, success, variance, accuracy, values=True, everywhere=True, tolerance=tolerance), draw
