"""The error surface of one recurrent unit and a descent over it, at once: settings in, a plain table out.

The unit of :mod:`gradflow.theory.error_surface` (Pascanu, Mikolov & Bengio 2013, figure 6), x_t = w σ(x_{t-1}) + b,
x_0 = ½, E = (σ(x_T) - 0.7)², with its gradient carried forward: ∂x_t/∂θ = w σ'(x_{t-1}) ∂x_{t-1}/∂θ + ∂⁺x_t/∂θ. Tests
compare both with what autograd finds there.
"""

from math import hypot, inf
from typing import Any

import numpy as np

from gradflow.live.words import word
from gradflow.report.words import Text
from gradflow.theory.error_surface import LEARNING_RATE, ORIGIN, TARGET, UPDATES, WINDOW
from gradflow.theory.unit import START

RESOLUTION = 41


def surface(steps: int) -> dict[str, Any]:
    """The error on a grid of (w, b).

    Args:
        steps: T.

    Returns:
        `w` and `b`, the axes of the grid (41 each); `error`, row by row of w.
    """
    w, b = (np.linspace(*WINDOW[name], RESOLUTION) for name in "wb")
    error, _, _ = error_and_gradient(w[:, None], b[None, :], steps)
    return {"w": w.tolist(), "b": b.tolist(), "error": error.ravel().tolist()}


def descent(steps: int, clip: float | None) -> dict[str, Any]:
    """Gradient descent of 60 updates from (5, -2.7) at rate 0.1.

    Args:
        steps: T.
        clip: largest norm of a gradient, of those longer than that; None: they are not clipped.

    Returns:
        `path`: pairs of w and b, origin and end included, in the window of the surface and out of it; `longest`: the
        largest norm of a gradient that it met, before clipping; `end`: its last error; `headline`.
    """
    path, longest, end = descend(steps, inf if clip is None else clip)
    said = _says(clip, path, longest, end)
    return {"path": [list(point) for point in path], "longest": longest, "end": end, "headline": said}


def error_and_gradient(w: Any, b: Any, steps: int) -> tuple[Any, Any, Any]:
    """E, ∂E/∂w and ∂E/∂b, of numbers or of arrays."""
    x, by_w, by_b = START + 0 * w, 0 * w, 0 * w
    for _ in range(steps):
        s = _sigmoid(x)
        slope = w * s * (1 - s)
        x, by_w, by_b = w * s + b, slope * by_w + s, slope * by_b + 1
    s = _sigmoid(x)
    by_x = 2 * (s - TARGET) * s * (1 - s)
    return (s - TARGET) ** 2, by_x * by_w, by_x * by_b


def descend(steps: int, max_norm: float) -> tuple[list[tuple[float, float]], float, float]:
    """Where the descent goes, the largest norm that it met, and its last error."""
    w, b = ORIGIN
    path, longest = [(w, b)], 0.0
    for _ in range(UPDATES):
        _, by_w, by_b = error_and_gradient(w, b, steps)
        norm = hypot(by_w, by_b)
        longest = max(longest, norm)
        rate = LEARNING_RATE * min(1.0, max_norm / (norm + 1e-6))
        w, b = w - rate * by_w, b - rate * by_b
        path.append((w, b))
    return path, longest, float(error_and_gradient(w, b, steps)[0])


def _sigmoid(x: Any) -> Any:
    with np.errstate(over="ignore"):  # far outside of the picture it is 0
        return 1 / (1 + np.exp(-x))


def _says(clip: float | None, path: list[tuple[float, float]], longest: float, end: float) -> Text:
    (w_low, w_high), (b_low, b_high) = WINDOW["w"], WINDOW["b"]
    inside = all(w_low <= w <= w_high and b_low <= b <= b_high for w, b in path)
    if clip is None:
        return word("surface.inside" if inside else "surface.thrown", longest=longest, end=end)
    kind = "untouched" if longest <= clip else "clipped" if inside else "late"
    return word(f"surface.{kind}", clip=clip, longest=longest, end=end)
