"""Saturation and the size of the weights: which of them decides whether gradients vanish.

h_t = tanh(W h_{t-1} + u_t), W_ij ~ N(0, g²/N), u_t ~ N(0, 1) in every unit. A gradient is multiplied by
g √E[φ'²] per step back: φ' ≤ 1 shrinks it, a large W outweighs that even where most units are saturated.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from gradflow.theory.mean_field import derivative, gaussian_mean, log_growth, variance
from gradflow.theory.networks import gaussian, generator, gradients_of_last, traced

GAINS = (0.5, 1.0, 1.5, 2.0, 3.0)
DENSITY_GAINS = (0.5, 3.0)
INPUT_VARIANCE = 1.0
SIZE, STEPS, EXAMPLES, NETWORKS = 256, 70, 8, 4
SETTLED = 20  # steps after which the variance no longer depends on h_0 = 0
_LATEST = 5  # lags left out, where the gradient still looks like the read-out's
_A = np.linspace(-6, 6, 121)
_CURVE_GAINS = np.linspace(0.25, 3.25, 61)


def mean_field_slopes(seed: int = 0) -> pd.DataFrame:
    """How fast gradients shrink or grow in random tanh networks, why, and what mean-field theory says.

    Args:
        seed: of all that is random.

    Returns:
        Rows with the columns quantity, gain, x, measured, expected, deviation (standard, over four networks of 256
        units; eight examples each):

        `slope`: of ln‖dL/dh_t‖, nats per step back; expected is ½ ln(g² E[φ'²]).
        `mean`, `root_mean_square`: of φ' over units, examples and steps; expected is that of mean-field theory.
        `largest`, `zeros`: the largest φ', expected at most 1; the share of φ' that is exactly 0 in float32.
        `density`: of the pre-activations at x, measured, in bins as wide as x is apart; expected is the Gaussian's.
        `tanh`, `derivative`: at x, in `expected`.
        `slope_curve`, `mean_curve`, `root_mean_square_curve`: what theory says for more gains, in `expected`.
    """
    rows = [row for gain in GAINS for row in _measured(gain, seed)]
    curves = [
        {"quantity": f"{name}_curve", "gain": gain, "expected": value}
        for gain in _CURVE_GAINS
        for name, value in _predicted(float(gain)).items()
    ]
    shapes = {"tanh": np.tanh(_A), "derivative": derivative(_A)}
    curves += [
        {"quantity": name, "x": x, "expected": value}
        for name, values in shapes.items()
        for x, value in zip(_A, values, strict=True)
    ]
    columns = ["quantity", "gain", "x", "measured", "expected", "deviation"]
    return pd.DataFrame(rows + curves).reindex(columns=columns)


def _measured(gain: float, seed: int) -> Iterator[dict[str, Any]]:
    networks = [_network(gain, generator(seed, number)) for number in range(NETWORKS)]
    expected = _predicted(gain)
    for name in ("slope", "mean", "root_mean_square", "largest", "zeros"):
        values = np.array([network[name] for network in networks])
        row = {"quantity": name, "gain": gain, "measured": values.max() if name == "largest" else values.mean()}
        yield row | {"expected": expected.get(name, np.nan), "deviation": values.std(ddof=1)}
    if gain in DENSITY_GAINS:
        counts, _ = np.histogram(np.concatenate([network["a"] for network in networks]), _edges(), density=True)
        q = variance(gain, INPUT_VARIANCE)
        for x, density in zip(_A, counts, strict=True):
            normal = np.exp(-(x**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
            yield {"quantity": "density", "gain": gain, "x": x, "measured": density, "expected": normal}


@torch.no_grad()
def _network(gain: float, source: torch.Generator) -> dict[str, Any]:
    """Of one network: slope, moments of φ', pre-activations."""
    weight = gain * gaussian(SIZE, source)
    x = INPUT_VARIANCE**0.5 * torch.randn(STEPS, EXAMPLES, SIZE, generator=source, dtype=torch.float64)
    seen = traced("rnn", weight, x)
    direct = torch.randn(EXAMPLES, SIZE, generator=source, dtype=torch.float64)
    norms = gradients_of_last(seen, direct).log_norm["h"].mean(1).flip(0).numpy()
    lags = np.arange(_LATEST, STEPS - SETTLED)
    unrolled = seen[0, 0]
    phi = unrolled.jacobian.rows["h"][SETTLED:]
    a = unrolled.previous["h"][SETTLED:] @ weight.T + x[SETTLED:]
    return {
        "slope": np.polyfit(lags, norms[lags], 1)[0],
        "mean": float(phi.mean()),
        "root_mean_square": float(phi.square().mean().sqrt()),
        "largest": float(phi.max()),
        "zeros": float((1 - unrolled.states["h"][SETTLED:].float().square() == 0).double().mean()),
        "a": a.flatten().numpy(),
    }


def _predicted(gain: float) -> dict[str, float]:
    q = variance(gain, INPUT_VARIANCE)
    return {
        "slope": log_growth(gain, INPUT_VARIANCE),
        "mean": gaussian_mean(derivative, q),
        "root_mean_square": gaussian_mean(lambda a: derivative(a) ** 2, q) ** 0.5,
    }


def _edges() -> np.ndarray:
    half = (_A[1] - _A[0]) / 2
    return np.append(_A - half, _A[-1] + half)
