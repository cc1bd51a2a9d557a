"""The cliff in the error surface of one recurrent unit, and a descent over it with and without clipping.

Pascanu, Mikolov & Bengio (2013), figure 6: x_t = w σ(x_{t-1}) + b, x_0 = ½, E = (σ(x_50) - 0.7)². The cliff lies where
x_0 is an unstable fixed point, on the line b = ½ - w σ(½). There every Jacobian is r = w σ'(½), so that the gradient is
known: ∂x_T/∂b = (r^T - 1) / (r - 1) and ∂x_T/∂w = σ(½) ∂x_T/∂b.
"""

from collections.abc import Iterator
from math import hypot, inf

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gradflow.remedies.clipping import clip_grad_norm_
from gradflow.theory.unit import SIGMA, START, cliff_bias, end_of, run_unit, with_bias

STEPS, TARGET = 50, 0.7
WEIGHTS = (4.3, 4.5, 5.0, 5.5, 6.0)
WINDOW = {"w": (4.6, 5.1), "b": (-2.8, -2.3)}
RESOLUTION = 151
ORIGIN, LEARNING_RATE, THRESHOLD, UPDATES = (5.0, -2.7), 0.1, 0.5, 60
_HALVINGS = 60


def cliff() -> pd.DataFrame:
    """Error surface, descents and the line of the cliff.

    Returns:
        Rows with the columns quantity, iteration, w, b, error, norm (of the gradient of E in (w, b)), norm_after
        (clipping), expected:

        `surface`: error and norm on a grid around the cliff.
        `unclipped`, `clipped` (norm at most ½): gradient descent, 60 updates at rate 0.1 from (5, -2.7); a row per
        iteration, before its update; the last is where the descent ended.
        `cliff`: b where the unit from x_0 = ½ starts to end in the upper attractor, found by halving; expected is
        ½ - w σ(½).
        `ridge`: norm on that line; expected is (r^T - 1) / (r - 1) times the derivative of E at x_T = ½.
    """
    paths = [pd.DataFrame(_descent(name, limit)) for name, limit in (("unclipped", inf), ("clipped", THRESHOLD))]
    parts = [_surface(), *paths, _cliff_line(), _ridge()]
    columns = ["quantity", "iteration", "w", "b", "error", "norm", "norm_after", "expected"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def error_of(parameters: Tensor) -> Tensor:
    """E of every example, [B], from w and b [B, 2]."""
    return (torch.sigmoid(end_of(run_unit(parameters, STEPS))) - TARGET).square()


def _error_and_norm(parameters: Tensor) -> dict[str, np.ndarray]:
    error = error_of(parameters.requires_grad_())
    (gradient,) = torch.autograd.grad(error.sum(), parameters)
    return {"error": error.detach().numpy(), "norm": torch.linalg.vector_norm(gradient, dim=-1).numpy()}


def _surface() -> pd.DataFrame:
    w, b = (torch.linspace(*WINDOW[name], RESOLUTION, dtype=torch.float64) for name in "wb")
    grid = torch.cartesian_prod(w, b)
    found = {"quantity": "surface", "w": grid[:, 0].numpy().copy(), "b": grid[:, 1].numpy().copy()}
    return pd.DataFrame(found | _error_and_norm(grid))


def _descent(name: str, max_norm: float) -> Iterator[dict[str, str | float]]:
    parameters = nn.Parameter(torch.tensor([ORIGIN], dtype=torch.float64))
    optimizer = torch.optim.SGD([parameters], lr=LEARNING_RATE)
    for iteration in range(UPDATES + 1):
        w, b = parameters[0].tolist()
        error = error_of(parameters).sum()
        optimizer.zero_grad()
        error.backward()
        clipping = clip_grad_norm_([parameters], max_norm)
        yield {
            "quantity": name,
            "iteration": iteration,
            "w": w,
            "b": b,
            "error": error.item(),
            "norm": clipping.norm_before,
            "norm_after": clipping.norm_after,
        }
        optimizer.step()


@torch.no_grad()
def _cliff_line() -> pd.DataFrame:
    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    low, high = torch.full_like(w, -10.0), torch.full_like(w, 10.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = end_of(run_unit(with_bias(w, middle), STEPS)) > START
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    found = {"quantity": "cliff", "w": w.numpy(), "b": ((low + high) / 2).numpy()}
    return pd.DataFrame(found | {"expected": [cliff_bias(value) for value in WEIGHTS]})


def _ridge() -> pd.DataFrame:
    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    b = cliff_bias(w)
    r = w * SIGMA * (1 - SIGMA)
    by_state = 2 * (SIGMA - TARGET) * SIGMA * (1 - SIGMA)
    expected = abs(by_state) * hypot(1, SIGMA) * (r**STEPS - 1) / (r - 1)
    found = {"quantity": "ridge", "w": w.numpy(), "b": b.numpy(), "expected": expected.numpy()}
    return pd.DataFrame(found | _error_and_norm(with_bias(w, b)))
