"""The curse of memory: gradients of a parameter explode although no gradient through time does.

Zucchet & Orvieto (2024, section 2): h_t = λ h_{t-1} + x_t with white x of variance 1. As t → ∞ E[h²] = 1 / (1 - λ²) and
E[(dh/dλ)²] = (1 + λ²) / (1 - λ²)³, while ∂h_T/∂h_t = λ^(T-t) never exceeds 1.
"""

from collections.abc import Iterator
from math import ceil, log, sqrt

import numpy as np
import pandas as pd
import torch

from gradflow.theory.networks import generator, gradients_of_last, traced

DECAYS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
CURVE = 100
EXAMPLES, BATCH = 16_000, 2_000
_FORGOTTEN = 1e-6  # λ^T


def memory_curse(seed: int = 0) -> pd.DataFrame:
    """Size of the state and of its sensitivity to λ, Monte Carlo beside the closed form.

    Args:
        seed: of the inputs.

    Returns:
        Rows with the columns quantity, decay (λ), steps (T, by which λ^T is 1e-6), examples, measured (the mean over
        them), standard_error, expected:

        `state`: E[h_T²].
        `sensitivity`: E[(dh_T/dλ)²], of each example Σ_t ∂h_T/∂h_t h_{t-1}.
        `state_gradient`: the largest (∂h_T/∂h_t)² over t; expected is 1.
        `state_curve`, `sensitivity_curve`, `state_gradient_curve`: the closed forms for more λ, nothing measured.
    """
    rows = [row for decay in DECAYS for row in _measured(decay, seed)]
    rows += [
        {"quantity": f"{name}_curve", "decay": decay, "expected": value}
        for decay in np.linspace(DECAYS[0], DECAYS[-1], CURVE)
        for name, value in _expected(float(decay)).items()
    ]
    columns = ["quantity", "decay", "steps", "examples", "measured", "standard_error", "expected"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _measured(decay: float, seed: int) -> Iterator[dict[str, str | float]]:
    steps = ceil(log(_FORGOTTEN) / log(decay))
    source = generator(seed, round(1000 * decay))
    batches = [_batch(decay, steps, source) for _ in range(EXAMPLES // BATCH)]
    squares = {name: torch.cat([batch[name] for batch in batches]).square() for name in batches[0]}
    for name, expected in _expected(decay).items():
        values, largest = squares[name], name == "state_gradient"
        yield {
            "quantity": name,
            "decay": decay,
            "expected": expected,
            "steps": steps,
            "examples": len(values),
            "measured": float(values.max() if largest else values.mean()),
            "standard_error": 0.0 if largest else float(values.std()) / sqrt(len(values)),
        }


def _batch(decay: float, steps: int, source: torch.Generator) -> dict[str, torch.Tensor]:
    """Of every example: h_T, dh_T/dλ, and the largest ∂h_T/∂h_t."""
    x = torch.randn(steps, BATCH, 1, generator=source, dtype=torch.float64)
    seen = traced("linear", torch.tensor([[decay]], dtype=torch.float64), x)
    step, gradients = seen[0, 0], gradients_of_last(seen).value["h"]
    sensitivity = (gradients * step.previous["h"]).sum((0, 2))
    return {"state": step.states["h"][-1, :, 0], "sensitivity": sensitivity, "state_gradient": gradients.amax((0, 2))}


def _expected(decay: float) -> dict[str, float]:
    kept = 1 - decay**2
    return {"state": 1 / kept, "sensitivity": (1 + decay**2) / kept**3, "state_gradient": 1.0}
