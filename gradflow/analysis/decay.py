"""How fast the gradient fades per step back, and where it has vanished, at every recorded iteration of every run."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import LAG_COLUMNS, VANISHED, factor_per_step, lag_gradient
from gradflow.analysis.reach import horizon
from gradflow.analysis.runs import collect, recorded
from gradflow.checks import numbers, require, share


def vanishing_lag(lag: np.ndarray, log_value: np.ndarray, vanished: float = VANISHED) -> float:
    """The first lag, from the last step that the gradient reaches on, at which less than a share is left, as measured.

    Beside it, :func:`horizon` says where that would be at a constant factor per step, however short the sequences are.

    Args:
        lag: Steps back, in any order.
        log_value: Natural log of the gradient relative to lag 0; -inf where it is exactly zero, NaN where unknown.
        vanished: The share.

    Returns:
        Infinite where it does not fall so far within the lags given; NaN where nothing is known.

    Example:
        >>> lag = np.arange(31)
        >>> vanishing_lag(lag, lag * np.log(0.5)), vanishing_lag(lag, lag * np.log(0.9)), round(horizon(0.9), 1)
        (10.0, inf, 65.6)
    """
    share("vanished", vanished)
    lag, log_value = numbers("lag", lag), numbers("log_value", log_value)
    require(len(lag) == len(log_value), "log_value", f"as many values as lags, {len(lag)}", log_value)
    known = ~np.isnan(log_value)
    if not known.any():
        return float("nan")
    reached = lag[known & (log_value > -np.inf)]
    below = known & (log_value < np.log(vanished)) & (lag >= (reached.min() if len(reached) else 0))
    return float(lag[below].min()) if below.any() else float("inf")


def gradient_decay(
    source: Any, *, vanished: float = VANISHED, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """Rate per step back and horizons of the gradient relative to lag 0.

    Of the loss at single positions where that was recorded, else of the whole loss (see
    :func:`gradflow.analysis.by_lag.lag_gradient`).
    All of the median over examples, in which an exact zero counts as smaller than any number. The log holds quantiles,
    so there is no interval over examples; the one over seeds is `over_seeds(data, "rate", by=["iteration"])`.

    Args:
        source: A run, a sweep, or a sequence of runs.
        vanished: Share of the gradient that counts as nothing.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, iteration, rate (nats per step back, see
        :func:`factor_per_step`), factor (its exponential), vanishing_lag (steps; measured, infinite where the gradient
        does not vanish within the recorded lags), horizon (steps; extrapolated from the factor), greatest_lag (the
        last with enough examples). A row per run and iteration at which it was recorded.

    Raises:
        ValueError: No run has rows of the `lag` table, or the quantity was not recorded.
    """
    parts = recorded(source, "lag", LAG_COLUMNS, layer=layer, direction=direction)
    return collect([(run, _decay(lag_gradient(frame), vanished)) for run, frame in parts])


def _decay(frame: pd.DataFrame, vanished: float) -> pd.DataFrame:
    mostly_zero = 2 * frame["zeros"] > frame["valid"] - frame["non_finite"]
    lags, medians = frame["lag"].to_numpy(), frame["log_median"].mask(mostly_zero, -np.inf).to_numpy()
    rows = []
    for iteration, own in frame.groupby("iteration").indices.items():
        lag, log_value = lags[own], medians[own]
        factor = factor_per_step(lag, log_value)
        row = {"iteration": iteration, "rate": np.log(factor), "factor": factor}
        row |= {"vanishing_lag": vanishing_lag(lag, log_value, vanished), "horizon": horizon(factor, vanished)}
        rows.append(row | {"greatest_lag": lag.max()})
    place = {name: frame[name].iloc[0] for name in ("layer", "direction")}
    return pd.DataFrame(rows).assign(**place)[[*place, *rows[0]]]
