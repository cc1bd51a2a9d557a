"""Lyapunov exponents of random recurrent networks: the long-run rates of perturbations and gradients.

h_t = tanh(W h_{t-1} + u_t), W_ij ~ N(0, g²/N). Without input and for g < 1 the state dies out and the exponents are
ln|eigenvalue of W|; for g > 1 it is chaotic as N → ∞, with λ_1 = ln(g √E[φ'²]) of mean-field theory (Sompolinsky et al.
1988; spectra: Engelken, Wolf & Abbott 2023).
"""

from collections.abc import Iterator
from math import log, nan
from typing import Any

import pandas as pd
import torch

from gradflow.flow.horizons import lyapunov_exponents
from gradflow.jacobian.operator import Jacobian
from gradflow.theory.mean_field import log_growth
from gradflow.theory.networks import gaussian, generator, log_radius, orthogonal, traced

GAINS = (0.5, 0.9, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0)
SPECTRUM_GAINS = (0.8, 1.3, 2.5)
ORTHOGONAL_GAINS, ORTHOGONAL_SIZE = (0.9, 1.0, 1.1), 30
CURVE_GAINS = tuple(0.45 + 0.05 * i for i in range(93))
SIZE, SPECTRUM_SIZE = 400, 150
STEPS, BURN_IN = 700, 300
INPUT_VARIANCE = 0.25
NETWORKS = 3
_TRAJECTORIES = {"linear": ("linear", 0.0), "autonomous": ("rnn", 0.0), "driven": ("rnn", INPUT_VARIANCE)}


def lyapunov_gains(seed: int = 0) -> pd.DataFrame:
    """Lyapunov exponents of linear, autonomous and driven tanh networks against the gain, and what theory says.

    Args:
        seed: of all that is random.

    Returns:
        A row per exponent, nats per step, with the columns

        quantity: `largest` (λ_1, N = 400), `spectrum` (all λ_i, N = 150, autonomous), `determinant` (their sum),
        `largest_curve` (what theory says for more gains, nothing measured), `orthogonal` (all λ_i of W = g Q, Q
        orthogonal, N = 30, linear).
        system: `linear`, `autonomous` (tanh without input) or `driven` (input of variance ¼ in every unit).
        gain, network (which W, from 0), position (i/N of λ_i, 0 for the largest).
        measured: along 400 steps after 300.
        mean_field: λ_1 as N → ∞, NaN for others.
        exact: of this very W, where it is known: ln|eigenvalues| where the Jacobian is W (linear; autonomous below
        g = 1), ln g for `orthogonal`, the mean of ln|det J| for `determinant`; else NaN.
    """
    return pd.DataFrame([*_largest(seed), *_predicted(), *_spectra(seed), *_of_orthogonal(seed)])


def _largest(seed: int) -> Iterator[dict[str, Any]]:
    weights = [gaussian(SIZE, generator(seed, network)) for network in range(NETWORKS)]
    for network, weight in enumerate(weights):
        log_rho = log_radius(weight)
        for system in _TRAJECTORIES if network == 0 else ("autonomous",):
            for gain in GAINS:
                J = _jacobian(system, weight * gain, generator(seed, network, 1))
                exact = log_rho + log(gain) if _is_linear(system, gain) else nan
                yield {
                    "quantity": "largest",
                    "system": system,
                    "gain": gain,
                    "network": network,
                    "position": 0.0,
                    "measured": float(lyapunov_exponents(J, BURN_IN, count=1)),
                    "mean_field": _mean_field(system, gain),
                    "exact": exact,
                }


def _predicted() -> Iterator[dict[str, Any]]:
    for system in _TRAJECTORIES:
        for gain in CURVE_GAINS:
            yield {"quantity": "largest_curve", "system": system, "gain": gain, "mean_field": _mean_field(system, gain)}


def _spectra(seed: int) -> Iterator[dict[str, Any]]:
    weight = gaussian(SPECTRUM_SIZE, generator(seed, NETWORKS))
    logs = torch.linalg.eigvals(weight).abs().log().sort(descending=True).values
    for gain in SPECTRUM_GAINS:
        J = _jacobian("autonomous", weight * gain, generator(seed, NETWORKS, 1))
        found = lyapunov_exponents(J, BURN_IN)[0]
        exact = logs + log(gain) if _is_linear("autonomous", gain) else torch.full_like(logs, nan)
        own = {"system": "autonomous", "gain": gain, "network": NETWORKS, "mean_field": nan}
        for i, (measured, value) in enumerate(zip(found.tolist(), exact.tolist(), strict=True), start=1):
            yield own | {
                "quantity": "spectrum",
                "position": i / SPECTRUM_SIZE,
                "measured": measured,
                "exact": value,
            }
        log_det = float(J[BURN_IN:].log_abs_det().mean())
        yield own | {
            "quantity": "determinant",
            "position": 0.0,
            "measured": float(found.sum()),
            "exact": log_det,
        }


def _of_orthogonal(seed: int) -> Iterator[dict[str, Any]]:
    shape = orthogonal(ORTHOGONAL_SIZE, generator(seed))
    for gain in ORTHOGONAL_GAINS:
        J = _jacobian("linear", gain * shape, generator(seed))
        own = {"quantity": "orthogonal", "system": "linear", "gain": gain, "mean_field": nan, "exact": log(gain)}
        for i, measured in enumerate(lyapunov_exponents(J)[0].tolist(), start=1):
            yield own | {"position": i / ORTHOGONAL_SIZE, "measured": measured}


def _jacobian(system: str, weight: torch.Tensor, source: torch.Generator) -> Jacobian:
    cell, variance = _TRAJECTORIES[system]
    h_0 = torch.randn(1, len(weight), generator=source, dtype=torch.float64)
    x = torch.randn(STEPS, 1, len(weight), generator=source, dtype=torch.float64) * variance**0.5
    return traced(cell, weight, x, h_0 if cell == "rnn" else None)[0, 0].jacobian


def _is_linear(system: str, gain: float) -> bool:
    return system == "linear" or (system == "autonomous" and gain < 1)


def _mean_field(system: str, gain: float) -> float:
    cell, variance = _TRAJECTORIES[system]
    return log_growth(gain, variance) if cell == "rnn" else log(gain)
