"""Mean-field theory of random tanh networks: as N → ∞ the pre-activations are Gaussian, so one number says it all.

h_t = tanh(W h_{t-1} + u_t), W_ij ~ N(0, g²/N), u_t ~ N(0, σ²) in every unit. The variance of the pre-activations
settles where q = g² E[tanh²(√q z)] + σ², z ~ N(0, 1); every step then multiplies a perturbation, or a gradient, by
g √E[tanh'²(√q z)] (Sompolinsky, Crisanti & Sommers 1988; Molgedey, Schuchhardt & Schuster 1992 with input; Poole et al.
2016).
"""

from collections.abc import Callable

import numpy as np

_Z = np.linspace(-12, 12, 4801)
"""Nodes of the trapezoidal rule, which converges exponentially here: tanh has its poles far off these nodes."""
_WEIGHTS = np.exp(-(_Z**2) / 2) / np.exp(-(_Z**2) / 2).sum()
_HALVINGS = 64


def gaussian_mean(function: Callable[[np.ndarray], np.ndarray], variance: float) -> float:
    """E[f(√variance · z)], z ~ N(0, 1).

    Example:
        >>> round(gaussian_mean(np.square, 2.0), 12)
        2.0
    """
    return float(_WEIGHTS @ function(np.sqrt(variance) * _Z))


def derivative(a: np.ndarray) -> np.ndarray:
    """tanh'(a) = 1 - tanh²(a)."""
    return 1 - np.tanh(a) ** 2


def variance(gain: float, input_variance: float = 0.0) -> float:
    """Variance q of the pre-activations, the solution of q = g² E[tanh²(√q z)] + σ²; 0 for g ≤ 1 without input.

    The right side over q falls as q grows, so there is one solution, found by bisection.

    Example:
        >>> q = variance(2.0, 1.0)
        >>> abs(q - 4 * gaussian_mean(lambda a: np.tanh(a) ** 2, q) - 1) < 1e-12
        True
    """
    if gain <= 1 and input_variance == 0:
        return 0.0
    low, high = 0.0, gain**2 + input_variance
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        grows = gain**2 * gaussian_mean(lambda a: np.tanh(a) ** 2, middle) + input_variance > middle
        low, high = (middle, high) if grows else (low, middle)
    return (low + high) / 2


def log_growth(gain: float, input_variance: float = 0.0) -> float:
    """ln(g √E[φ'²]), nats per step: the largest Lyapunov exponent, and the rate of gradients back in time.

    Example:
        >>> round(log_growth(0.5), 4), round(log_growth(2.0), 4)
        (-0.6931, 0.1547)
    """
    q = variance(gain, input_variance)
    return float(np.log(gain**2 * gaussian_mean(lambda a: derivative(a) ** 2, q)) / 2)
