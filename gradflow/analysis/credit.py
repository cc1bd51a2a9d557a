"""From how far back the gradient of the recurrent weights comes."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY, collect, recorded
from gradflow.checks import numbers, whole_number

_SHARE = "weight_gradient_share"
_COLUMNS = ["valid", f"{_SHARE}_mean", f"{_SHARE}_zeros", f"{_SHARE}_non_finite"]


def effective_lag(share: np.ndarray) -> float:
    """Mean lag of the terms that make up dL/dW_hh, each weighted with its share: Σ_k k · p_k = Σ_k (1 - P_k), in steps.

    p_k is the norm of the term of lag k over the sum of all norms, P_k the share of the lags 0 to k. The mean lag of a
    distributed-lag model (Griliches 1967, Econometrica 35, 16-49); to take it of gradients is gradflow's own.

    Args:
        share: [T], P_k of k = 0 to T - 1; the last is 1.

    Example:
        All from the last step; and evenly from five:

        >>> effective_lag(np.ones(5)), round(effective_lag(np.arange(1, 6) / 5), 6)
        (0.0, 2.0)
    """
    return float((1 - numbers("share", share)).sum())


def weight_gradient_reach(
    source: Any, *, steps: int = 10, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """Which share of dL/dW_hh comes from the last steps, and from how far back it comes on average.

    Shares are of the sum over steps of the norms of their terms ε_t h_{t-1}ᵀ, per example, then averaged over all
    recorded examples that have a gradient; one that is shorter than a lag has all of its share within it.

    Args:
        source: A run, a sweep, or a sequence of runs.
        steps: How many of the last steps.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, iteration, steps, share (of the last `steps`, between 0 and 1) and
        effective_lag (steps, see :func:`effective_lag`). A row per run and recorded iteration.

    Raises:
        ValueError: `steps` is below 1, no run has rows of the `lag` table, or the quantity was not recorded.
    """
    steps = whole_number("steps", steps, 1)
    parts = recorded(source, "lag", _COLUMNS, layer=layer, direction=direction)
    if not all(f"{_SHARE}_mean" in frame for _, frame in parts):
        raise ValueError(f"lag: expected {_SHARE} in the log, got a log without; name it in record(quantities=)")
    data = collect([(run, _reach(frame, steps)) for run, frame in parts])
    return data[[*IDENTITY, "layer", "direction", "iteration", "steps", "share", "effective_lag"]]


def _reach(frame: pd.DataFrame, steps: int) -> pd.DataFrame:
    frame = frame.sort_values(["iteration", "lag"])
    values, rows = frame[_COLUMNS].to_numpy(dtype=float), []
    for iteration, own in frame.groupby("iteration").indices.items():
        share = _over_examples(*values[own].T)
        row = {
            "iteration": iteration,
            "share": share[min(steps, len(share)) - 1],
            "effective_lag": effective_lag(share),
        }
        rows.append(row)
    place = {name: frame[name].iloc[0] for name in ("layer", "direction")}
    return pd.DataFrame(rows).assign(steps=steps, **place)


def _over_examples(valid: np.ndarray, mean: np.ndarray, zeros: np.ndarray, non_finite: np.ndarray) -> np.ndarray:
    """Mean share at every lag over all examples with a gradient, also those that are shorter than it."""
    known = valid - non_finite
    total = np.where(known > zeros, (known - zeros) * mean, 0.0)
    with np.errstate(invalid="ignore"):
        return (total + known[0] - known) / known[0]
