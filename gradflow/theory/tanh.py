"""tanh and its derivative: the factor that every step back puts before the weights.

φ'(a) = 1 - tanh²(a) = 1 / cosh²(a) is 1 at a = 0 alone, and cosh²(a) ≥ 1 + a² bounds it by 1 / (1 + a²) elsewhere.
"""

from collections.abc import Iterator
from math import cosh, tanh

import numpy as np
import pandas as pd
import torch

from gradflow.theory.networks import gradients_of_last, traced

PREACTIVATION, STEPS = 1.0, 20
_A = np.linspace(-4, 4, 161)


def tanh_derivative() -> pd.DataFrame:
    """tanh, tanh' as the Jacobian of a unit with recurrent weight 1, and what twenty such factors leave of a gradient.

    Returns:
        Rows with the columns quantity, a (the pre-activation), steps, measured, expected:

        `tanh`, `derivative`: at a; measured are the state and the Jacobian of the unit.
        `product`: ∂h_T/∂h_{T-steps} of the unit held at a = 1 by its input; expected is (1 - tanh² 1)^steps.
    """
    return pd.DataFrame([*_curves(), *_product()], columns=["quantity", "a", "steps", "measured", "expected"])


def _curves() -> Iterator[dict[str, str | float]]:
    for a, h, slope in _unit(_A):
        yield {"quantity": "tanh", "a": a, "measured": h, "expected": tanh(a)}
        yield {"quantity": "derivative", "a": a, "measured": slope, "expected": 1 / cosh(a) ** 2}


def _product() -> Iterator[dict[str, str | float]]:
    """a_t = h_{t-1} + x_t is 1 at every step if x_t = 1 - tanh 1, and x_0 = 1."""
    x = torch.full((STEPS + 1, 1, 1), PREACTIVATION - tanh(PREACTIVATION), dtype=torch.float64)
    x[0] = PREACTIVATION
    left = gradients_of_last(traced("rnn", torch.ones(1, 1), x)).value["h"].flatten().flip(0)
    for steps, measured in enumerate(left.tolist()):
        expected = (1 - tanh(PREACTIVATION) ** 2) ** steps
        yield {"quantity": "product", "a": PREACTIVATION, "steps": steps, "measured": measured, "expected": expected}


def _unit(a: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """The unit at every pre-activation: a, its state, its Jacobian."""
    step = traced("rnn", torch.ones(1, 1), torch.from_numpy(a).reshape(1, -1, 1))[0, 0]
    states, slopes = step.states["h"].flatten(), step.jacobian.dense().flatten()
    yield from zip(a.tolist(), states.tolist(), slopes.tolist(), strict=True)
