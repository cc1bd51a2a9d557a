"""How much gradient reaches k steps back, at one iteration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY, before_clipping, claim, collect, curve_name, recorded

FEWEST_EXAMPLES = 5  # lags with fewer valid examples say nothing
SHORT = 8  # steps; over fewer nothing vanishes and a rate per step means little
VANISHED = 1e-3  # share of the gradient that counts as nothing
_QUANTILES = {"log_low": "q10", "log_median": "q50", "log_high": "q90"}
_KEYS = ["layer", "direction", "iteration", "lag"]
_STATISTICS = [*_QUANTILES.values(), "zeros", "non_finite"]
LAG_COLUMNS = ["valid"] + [
    f"{quantity}_{statistic}"
    for quantity in ("log_relative_gradient", "log_joint_gradient", "log_state_gradient")
    for statistic in _STATISTICS
]


def lag_gradient(frame: pd.DataFrame, *, relative: bool = True) -> pd.DataFrame:
    """The total gradient of the state at each lag, out of rows of the `lag` table.

    Relative to the last step this is `log_relative_gradient`, otherwise `log_joint_gradient` of an LSTM, whose state
    is (h, c), and `log_state_gradient` of the other cells.

    Returns:
        Columns layer, direction, iteration, lag, valid, log_low, log_median, log_high (natural logs), zeros,
        non_finite (counts); without the lags that have fewer than FEWEST_EXAMPLES examples.

    Raises:
        ValueError: The quantity was not recorded.
    """
    wanted = ["log_relative_gradient"] if relative else ["log_joint_gradient", "log_state_gradient"]
    there = [name for name in wanted if f"{name}_q50" in frame]
    return quantiles(frame, there[0] if there else wanted[-1])


def quantiles(frame: pd.DataFrame, quantity: str, *, position: str = "lag", more: Sequence[str] = ()) -> pd.DataFrame:
    """One quantity out of rows of the table `lag` or `time`.

    Args:
        frame: Rows with the statistics of the quantity, as far as they were recorded.
        quantity: Its name.
        position: `lag` or `time`.
        more: Further columns to keep.

    Returns:
        Columns layer, direction, iteration, `position`, valid, log_low, log_median, log_high, zeros, non_finite and
        `more`; without the positions that have fewer than FEWEST_EXAMPLES examples.

    Raises:
        ValueError: The quantity was not recorded.
    """
    columns = {f"{quantity}_{q}": name for name, q in _QUANTILES.items()}
    columns |= {f"{quantity}_{count}": count for count in ("zeros", "non_finite")}
    if not set(columns) <= set(frame):
        raise ValueError(
            f"{position}: expected {quantity} in the log, got a log without; name it in record(quantities=)"
        )
    keys = ["layer", "direction", "iteration", position]
    result = frame[[*keys, "valid", *columns, *more]].rename(columns=columns).sort_values(["iteration", position])
    enough = min(FEWEST_EXAMPLES, frame["valid"].max())
    return result[result["valid"] >= enough].astype(dict.fromkeys(_QUANTILES, "float64")).reset_index(drop=True)


def factor_per_step(lag: np.ndarray, log_value: np.ndarray) -> float:
    """What one step back multiplies the gradient by: exp of the fitted slope; NaN with fewer than two finite points.

    The straight line is fitted from one sixth to two thirds of the greatest lag, clear of the read-out and of the
    noisy far end; over all finite points where that leaves fewer than four.

    Example:
        >>> lag = np.arange(61)
        >>> round(factor_per_step(lag, lag * np.log(0.57)), 6)
        0.57
    """
    finite = np.isfinite(log_value)
    if finite.sum() < 2:
        return float("nan")
    greatest = lag[finite].max()
    window = finite & (lag >= greatest / 6) & (lag <= greatest * 2 / 3)
    chosen = window if window.sum() >= 4 else finite
    return float(np.exp(np.polyfit(lag[chosen], log_value[chosen], 1)[0]))


def gradient_by_lag(
    source: Any, *, iteration: int | None = None, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """Gradient relative to the last step against lag, a curve per cell, initialisation and clipping.

    Runs that differ in the seed alone are one curve (median over them). At the first recorded iteration clipping has
    not acted yet, so runs that differ in it alone are one curve too.

    Args:
        source: A run, a sweep, or a sequence of runs.
        iteration: The last recorded one not after this is taken; None is the first recorded, before any update.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY (`seed` is the number of seeds), layer, direction, iteration, lag, valid, low, median,
        high (the 10 %, 50 % and 90 % quantile over examples, ratios), log_median (natural log), zeros, non_finite,
        factor (per step).

    Raises:
        ValueError: No run has rows of the `lag` table.
    """
    parts = recorded(source, "lag", LAG_COLUMNS, layer=layer, direction=direction)
    data = collect([(run, lag_gradient(at_iteration(frame, iteration))) for run, frame in parts])
    data = _over_seeds(before_clipping(data) if iteration is None else data)
    for name in ("low", "median", "high"):
        data[name] = np.exp(data.pop(f"log_{name}") if name != "median" else data["log_median"])
    curves = data.groupby(["cell", "start", "clip"], sort=False)
    fits = {key: factor_per_step(g["lag"].to_numpy(), g["log_median"].to_numpy()) for key, g in curves}
    data["factor"] = [fits[key] for key in zip(data["cell"], data["start"], data["clip"], strict=True)]
    return data


def read_at_one_position(frame: pd.DataFrame) -> bool:
    """Whether the loss reaches a layer at one position alone, out of its rows of `lag` or `time` at one iteration.

    False where the direct gradient was not recorded (`log_direct_gradient_zeros`).
    """
    if "log_direct_gradient_zeros" not in frame:
        return False
    return int((frame["log_direct_gradient_zeros"] < frame["valid"]).sum()) == 1


def at_iteration(frame: pd.DataFrame, iteration: int | None) -> pd.DataFrame:
    """The rows of the last recorded iteration not after this one, or of the first recorded."""
    first = frame["iteration"].min()
    last = first if iteration is None else max(iteration, first)
    return frame[frame["iteration"] == frame.loc[frame["iteration"] <= last, "iteration"].max()]


def _over_seeds(data: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in IDENTITY if name != "seed"] + _KEYS
    how = dict.fromkeys(["log_low", "log_median", "log_high"], "median")
    how |= dict.fromkeys(["valid", "zeros", "non_finite"], "sum") | {"seed": "nunique"}
    result = data.groupby(keys, sort=False, dropna=False).agg(how).reset_index()
    return result[[*IDENTITY, *_KEYS, "valid", *_QUANTILES, "zeros", "non_finite"]]


def gradient_by_lag_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether the initialisation rather than the cell decides how fast the gradient fades (or what can be said)."""
    if data["lag"].max() < SHORT:
        return _too_short(data)
    curves = data.drop_duplicates(["cell", "start", "clip"]).dropna(subset="factor")
    if curves.empty:
        return []
    low, high = curves.nsmallest(1, "factor").iloc[0], curves.nlargest(1, "factor").iloc[0]
    ends = {"low": low["factor"], "high": high["factor"], "low_curve": curve_name(low), "high_curve": curve_name(high)}
    ends["iteration"] = int(data["iteration"].max())
    default, remember = (curves.loc[curves[k] == v, "factor"] for k, v in (("start", "default"), ("init", "remember")))
    if len(default) and len(remember):
        spread = {"default_low": default.min(), "default_high": default.max(), "remember_high": remember.max()}
        holds = remember.min() > default.max()
        expected = f"> {default.max():.3g}, the slowest decay by default"
        return [claim("initialisation_decides", remember.min(), expected, holds, **ends, **spread)]
    if len(default) == len(curves):
        return [claim("default_fades", high["factor"], "< 1", high["factor"] < 1, **ends)]
    return [claim("factor_per_step", high["factor"], "finite", np.isfinite(high["factor"]), **ends)]


def _too_short(data: pd.DataFrame) -> list[dict[str, Any]]:
    far = data[data["lag"] == data["lag"].max()].nsmallest(1, "median")
    if far.empty:
        return []
    least, lag = far.iloc[0], int(data["lag"].max())
    holds = least["median"] > VANISHED
    return [claim("too_short", least["median"], f"> {VANISHED:g}", holds, curve=curve_name(least), lag=lag)]
