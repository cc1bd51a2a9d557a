"""Forecasting a chaotic network: sequences whose own dynamics make gradients explode, whatever the model.

A model that follows a chaotic system must have exploding gradients itself (Mikhaeil, Monfared & Durstewitz 2022,
NeurIPS, arXiv:2110.07238). The system is h ← tanh(W h) with independent Gaussian weights, chaotic for gains above 1
(Sompolinsky, Crisanti & Sommers 1988, Phys. Rev. Lett. 61, 259); a few of its units are seen, so that the next step
has to be told from many steps before (delay coordinates; Takens 1981).
"""

import numpy as np

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.drawing import drawn, whole
from gradflow.tasks.problem import Problem, Settings
from gradflow.tasks.task import Success, Task, constant_chance

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


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """The task of saying at every step what the seen units are at the next, and sequences of it.

    Args:
        settings: `length`, `gain` and `test_size` are used.
        rng: draws the system, and then what the run is judged by.

    Returns:
        Inputs float32 [N, T, SEEN], targets the same one step later.
    """
    weight = (rng.standard_normal((UNITS, UNITS)) * settings.gain / np.sqrt(UNITS)).astype(np.float32)

    def draw(n: int, rng: np.random.Generator) -> Sequences:
        seen = trajectories(weight, settings.length + 1, n, rng)
        return whole(seen[:, :-1], seen[:, 1:])

    tolerance = 0.1
    variance, accuracy = constant_chance(draw(1000, np.random.default_rng(0)).targets, tolerance)
    success = Success("test_loss", (1 - EXPLAINED) * variance, f"{EXPLAINED:.0%} of the variance explained")
    task = Task(SEEN, SEEN, success, variance, accuracy, values=True, everywhere=True, tolerance=tolerance)
    return drawn(task, draw, settings.test_size, rng)


PROBLEM = Problem({"en": "Chaotic map", "zh": "混沌映射"}, make, lag=lambda settings: None)
