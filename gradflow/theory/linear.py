"""How fast products of Jacobians shrink or grow, and that neither singular values nor eigenvalues say it alone.

A linear RNN has J_t = W, so ∂h_T/∂h_{T-k} = W^k. With W = s Q, Q orthogonal, every norm is s^k. In general
ρ(W)^k ≤ ‖W^k‖ ≤ σ_max(W)^k: the first is the rate in the long run, the second a bound that may be far off
(Pascanu, Mikolov & Bengio 2013, section 2.1).
"""

from collections.abc import Iterator
from math import log

import pandas as pd
import torch
from torch import Tensor

from gradflow.flow.horizons import product_norms
from gradflow.theory.networks import gaussian, generator, log_radius, orthogonal, traced

SCALES = (0.9, 1.0, 1.1)
GAIN = 0.8
SIZE, LAGS = 64, 100
INPUT_DEVIATION = 0.5


def linear_slopes(seed: int = 0) -> pd.DataFrame:
    """Spectral norm of the product of k Jacobians against k, and what bounds it.

    Args:
        seed: of all that is random.

    Returns:
        A row per curve and lag with the columns

        weights: `orthogonal` (s Q) or `gaussian` (N(0, g²/H)); H = 64.
        cell: `linear` or `rnn` (tanh, driven by white input of standard deviation ½ in every unit).
        scale: s or g.
        lag: k, from 0 to 100.
        log_norm: ln‖∂h_T/∂h_{T-k}‖₂.
        log_sigma, log_rho: of the weights, ln σ_max and ln ρ, nats per step.
    """
    curves = [("linear", "orthogonal", scale) for scale in SCALES]
    curves += [("linear", "gaussian", GAIN), ("rnn", "gaussian", GAIN)]
    source = generator(seed)
    shapes = {"orthogonal": orthogonal(SIZE, source), "gaussian": gaussian(SIZE, source)}
    x = INPUT_DEVIATION * torch.randn(LAGS, 1, SIZE, generator=source, dtype=torch.float64)
    tables = [pd.DataFrame(_curve(cell, kind, scale, shapes[kind], x)) for cell, kind, scale in curves]
    return pd.concat(tables, ignore_index=True)


def _curve(cell: str, weights: str, scale: float, shape: Tensor, x: Tensor) -> Iterator[dict[str, str | float]]:
    weight = scale * shape
    # The norms are of ∂h_last/∂h_t for t ≥ 0; one step more, from the initial state, is that of lag T.
    J = traced(cell, weight, torch.cat((torch.zeros_like(x[:1]), x)))[0, 0].jacobian
    own = {"log_sigma": log(float(torch.linalg.matrix_norm(weight, 2))), "log_rho": log_radius(weight)}
    for lag, value in enumerate(product_norms(J)[:, 0].flip(0).tolist()):
        yield {"weights": weights, "cell": cell, "scale": scale, "lag": lag, "log_norm": value} | own
