"""Fixed points of one recurrent unit against its bias, and the gradient that explodes where two basins meet.

x = w σ(x) + b with w = 5 (Pascanu, Mikolov & Bengio 2013, figure 3; Doya 1993). Two of three fixed points merge where
w σ'(x) = 1, that is σ(x) = (1 ± √(1 - 4/w)) / 2: the folds.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gradflow.theory.networks import gradients_of_last
from gradflow.theory.unit import SIGMA, START, cliff_bias, end_of, run_unit, with_bias

WEIGHT = 5.0
BIASES = (-3.2, -1.8)
FLOW_BIASES = (-3.1, -2.9, -2.5, -2.1)
HORIZONS = (10, 50, 200)
_POINTS, _STATES, _SETTLED = 281, 401, 2000
_HALVINGS = 60
FORGOTTEN = 1e-14  # ∂x_T/∂x_1


def bifurcation() -> pd.DataFrame:
    """The bifurcation diagram of x = 5 σ(x) + b and the sensitivity of the state after T steps.

    Returns:
        Rows with the columns quantity, steps, b, x, measured, expected:

        `fixed_point`: x of a fixed point at b; measured is the Jacobian there, stable below 1.
        `flow`: by how much one step from x moves.
        `fold`: b and x where the Jacobian of a fixed point is 1, found by halving; expected is b in closed form.
        `attractors`: how many of them the unit ends in, from far below and far above; expected is 2 between the folds,
        else 1.
        `sensitivity`: ln|dx_T/db| from x_0 = ½ to x = x_T after T = `steps`; expected, where x_0 is forgotten, is that
        of the fixed point, -ln(1 - J) for every T.
        `crossing`: the same where the start x = x_0 is a fixed point; expected is ln((J^T - 1) / (J - 1)).
    """
    parts = [_fixed_points(), _flow(), _folds(), _attractors()]
    parts += [table for steps in HORIZONS for table in (_sensitivity(steps), _crossing(steps))]
    columns = ["quantity", "steps", "b", "x", "measured", "expected"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


@torch.no_grad()
def _slope(x: Tensor) -> Tensor:
    """The Jacobian of one step from the fixed point x, [B], and so of b = x - w σ(x)."""
    b = _bias(x)
    return run_unit(with_bias(WEIGHT, b), 1, x)[0, 0].jacobian.dense().flatten()


def _bias(x: Tensor) -> Tensor:
    return x - WEIGHT * torch.sigmoid(x)


def _fixed_points() -> pd.DataFrame:
    x = torch.linspace(-3.5, 3.5, _STATES, dtype=torch.float64)
    found = {"b": _bias(x).numpy(), "x": x.numpy(), "measured": _slope(x).numpy()}
    table = pd.DataFrame({"quantity": "fixed_point"} | found)
    return table[table["b"].between(*BIASES)]


@torch.no_grad()
def _flow() -> pd.DataFrame:
    b, x = torch.tensor(FLOW_BIASES, dtype=torch.float64), torch.linspace(-3, 3, 9, dtype=torch.float64)
    b, x = torch.cartesian_prod(b, x).unbind(1)
    step = end_of(run_unit(with_bias(WEIGHT, b), 1, x)) - x
    return pd.DataFrame({"quantity": "flow", "b": b.numpy(), "x": x.numpy(), "measured": step.numpy()})


def _folds() -> pd.DataFrame:
    """On either side of x = 0, where the slope is largest, it falls through 1 once."""
    outer, inner = torch.tensor([-10.0, 10.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for _ in range(_HALVINGS):
        middle = (outer + inner) / 2
        steep = _slope(middle) > 1
        outer, inner = torch.where(steep, outer, middle), torch.where(steep, middle, inner)
    x = (outer + inner) / 2
    sigma = (1 + np.array([-1, 1]) * np.sqrt(1 - 4 / WEIGHT)) / 2
    exact = np.log(sigma / (1 - sigma)) - WEIGHT * sigma
    found = {"b": _bias(x).numpy(), "x": x.numpy(), "measured": _bias(x).numpy(), "expected": exact}
    return pd.DataFrame({"quantity": "fold"} | found)


@torch.no_grad()
def _attractors() -> pd.DataFrame:
    b = torch.linspace(*BIASES, 29, dtype=torch.float64)
    low, high = (end_of(run_unit(with_bias(WEIGHT, b), _SETTLED, start)) for start in (-20.0, 20.0))
    folds = _folds()["expected"]
    between = (b > folds.min()) & (b < folds.max())
    found = {"b": b.numpy(), "measured": 1 + ((high - low) > 1e-3).numpy(), "expected": 1 + between.numpy()}
    return pd.DataFrame({"quantity": "attractors"} | found)


def _sensitivity(steps: int) -> pd.DataFrame:
    evenly = torch.linspace(*BIASES, _POINTS, dtype=torch.float64)
    beside = torch.logspace(-14, -2, 49, dtype=torch.float64)  # the peak is as narrow as it is high
    b = torch.cat((evenly, cliff_bias(WEIGHT) - beside, cliff_bias(WEIGHT) + beside)).sort().values
    logs, x, forgotten = _log_sensitivity(b, steps)
    settled = -torch.log1p(-_slope(x)).masked_fill(~forgotten, torch.nan)
    found = {"b": b.numpy(), "x": x.numpy(), "measured": logs.numpy(), "expected": settled.numpy()}
    return pd.DataFrame({"quantity": "sensitivity", "steps": steps} | found)


def _crossing(steps: int) -> pd.DataFrame:
    b = torch.tensor([cliff_bias(WEIGHT)], dtype=torch.float64)
    slope = WEIGHT * SIGMA * (1 - SIGMA)
    expected = np.log((slope**steps - 1) / (slope - 1))
    found = {"b": b.numpy(), "x": START, "measured": _log_sensitivity(b, steps)[0].numpy(), "expected": expected}
    return pd.DataFrame({"quantity": "crossing", "steps": steps} | found)


@torch.no_grad()
def _log_sensitivity(b: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """For every b: ln|dx_T/db|, the sum of ∂x_T/∂x_t over t, all positive; x_T; whether x_T knows nothing of x_0."""
    seen = run_unit(with_bias(WEIGHT, b), steps)
    gradients = gradients_of_last(seen).value["h"].squeeze(-1)
    return gradients.sum(0).log(), end_of(seen), gradients[0] < FORGOTTEN
