"""Quantities of the log against lag, and the factor per step that fits them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradflow.checks import numbers, require, whole_number

FEWEST_EXAMPLES = 5  # lags with fewer valid examples say nothing


SHORT = 8  # steps; over fewer nothing vanishes and a rate per step means little


VANISHED = 1e-3  # share of the gradient that counts as nothing


QUANTILES = {"log_low": "q10", "log_median": "q50", "log_high": "q90"}


_STATISTICS = [*QUANTILES.values(), "zeros", "non_finite"]


ANCHORED = "log_anchored_gradient"
"""Recorded where the loss reads many positions, whose sum says nothing of memory; with a count of its own."""


OWNER = "owner"
"""The column with the number of its run, in rows of several runs that are worked on together."""


LAG_COLUMNS = ["valid", "log_direct_gradient_zeros", f"{ANCHORED}_valid"] + [
    f"{quantity}_{statistic}"
    for quantity in (ANCHORED, "log_relative_gradient", "log_joint_gradient", "log_state_gradient")
    for statistic in _STATISTICS
]


def lag_gradient(frame: pd.DataFrame, *, relative: bool = True) -> pd.DataFrame:
    """The gradient of the state at each lag, out of rows of the `lag` table.

    Relative to lag 0 this is `log_anchored_gradient`, of the loss at single positions, where any row has it (then of
    the iterations that do), and `log_relative_gradient`, of the whole loss, elsewhere. Otherwise it is that of the
    whole loss: `log_joint_gradient` of an LSTM, whose state is (h, c), and `log_state_gradient` of the other cells.

    Returns:
        Columns (OWNER, if it was given,) layer, direction, iteration, lag, valid, log_low, log_median, log_high, zeros,
        non_finite (counts), anchored (whether of single positions), many_steps (whether the whole loss reads several,
        or the log does not say how many); without the lags that have fewer than FEWEST_EXAMPLES examples, or pairs of
        an example and a position.

    Raises:
        ValueError: The quantity was not recorded.
    """
    single = np.zeros(len(frame), bool)
    if relative and f"{ANCHORED}_valid" in frame:
        single = _any(frame, frame[f"{ANCHORED}_valid"] > 0)
    if not single.any():
        return _of_the_whole_loss(frame, relative)
    own = frame[single & (frame[f"{ANCHORED}_valid"] > 0)]
    counted = own.assign(valid=own[f"{ANCHORED}_valid"].astype(int))
    anchored = quantiles(counted, ANCHORED).assign(anchored=True, many_steps=False)
    if single.all():
        return anchored
    both = pd.concat([anchored, _of_the_whole_loss(frame[~single], relative)])
    return both.sort_values(OWNER, kind="stable", ignore_index=True)


def _of_the_whole_loss(frame: pd.DataFrame, relative: bool) -> pd.DataFrame:
    wanted = ["log_relative_gradient"] if relative else ["log_joint_gradient", "log_state_gradient"]
    there = [name for name in wanted if f"{name}_q50" in frame]
    data = quantiles(frame, there[0] if there else wanted[-1]).assign(anchored=False)
    if "log_direct_gradient_zeros" not in frame:
        return data.assign(many_steps=True)
    told = _any(frame, frame["log_direct_gradient_zeros"].notna())
    first = at_iteration(frame, None)
    read = _owner(first[first["log_direct_gradient_zeros"] < first["valid"]])
    several = np.bincount(read, minlength=_owner(frame).max(initial=0) + 1) > 1
    untold = np.unique(_owner(frame)[~told])
    several[untold] = True
    return data.assign(many_steps=several[_owner(data)])


def _owner(frame: pd.DataFrame) -> np.ndarray:
    """The number of the run that each row is of; 0 where they are of one."""
    return frame[OWNER].to_numpy() if OWNER in frame else np.zeros(len(frame), int)


def _any(frame: pd.DataFrame, holds: pd.Series) -> np.ndarray:
    """For each row, whether something holds in any row of its run."""
    return holds.groupby(_owner(frame)).transform("any").to_numpy(dtype=bool)


def quantiles(frame: pd.DataFrame, quantity: str, *, position: str = "lag", more: Sequence[str] = ()) -> pd.DataFrame:
    """One quantity out of rows of the table `lag` or `time`.

    Args:
        frame: Rows with the statistics of the quantity, as far as they were recorded; of several runs with OWNER.
        quantity: Its name.
        position: `lag` or `time`.
        more: Further columns to keep.

    Returns:
        Columns layer, direction, iteration, `position`, valid, log_low, log_median, log_high, zeros, non_finite and
        `more`; without the positions that have fewer than FEWEST_EXAMPLES examples.

    Raises:
        ValueError: The quantity was not recorded.
    """
    columns = {f"{quantity}_{q}": name for name, q in QUANTILES.items()}
    columns |= {f"{quantity}_{count}": count for count in ("zeros", "non_finite")}
    if not set(columns) <= set(frame):
        raise ValueError(
            f"{position}: expected {quantity} in the log, got a log without; name it in record(quantities=)"
        )
    owner = [OWNER] if OWNER in frame else []
    keys = [*owner, "layer", "direction", "iteration", position]
    result = frame[[*keys, "valid", *columns, *more]].rename(columns=columns)
    result = result.sort_values([*owner, "iteration", position])
    enough = result.groupby(_owner(result))["valid"].transform("max").clip(upper=FEWEST_EXAMPLES)
    return result[result["valid"] >= enough].astype(dict.fromkeys(QUANTILES, "float64")).reset_index(drop=True)


def factor_per_step(lag: np.ndarray, log_value: np.ndarray) -> float:
    """What one step back multiplies the gradient by: exp of the fitted slope; NaN with fewer than two finite points.

    The straight line is fitted from one sixth to two thirds of the greatest lag, clear of the read-out and of the
    noisy far end; over all finite points where that leaves fewer than four.

    Example:
        >>> lag = np.arange(61)
        >>> round(factor_per_step(lag, lag * np.log(0.57)), 6)
        0.57
    """
    lag, log_value = numbers("lag", lag), numbers("log_value", log_value)
    require(len(lag) == len(log_value), "log_value", f"as many values as lags, {len(lag)}", log_value)
    finite = np.isfinite(log_value)
    if finite.sum() < 2:
        return float("nan")
    greatest = lag[finite].max()
    window = finite & (lag >= greatest / 6) & (lag <= greatest * 2 / 3)
    chosen = window if window.sum() >= 4 else finite
    return float(np.exp(np.polyfit(lag[chosen], log_value[chosen], 1)[0]))


def read_at_the_end(frame: pd.DataFrame) -> bool:
    """Whether the loss reads one direction of a layer at its last step alone.

    Args:
        frame: Its rows of `lag` or `time` at one iteration.

    Returns:
        False where the direct gradient was not recorded (`log_direct_gradient_zeros`).
    """
    position = "lag" if "lag" in frame else "time"
    last = frame[position].max() if position == "time" and (frame["direction"] == 0).all() else 0
    return _read(frame, position) == [last]


def read_at_many(frame: pd.DataFrame) -> bool:
    """Whether the loss reads one direction of a layer at several steps: its total gradient is a sum over them.

    Args:
        frame: Its rows of `lag` or `time` at one iteration.

    Returns:
        False where the direct gradient was not recorded.
    """
    return len(_read(frame, "lag" if "lag" in frame else "time")) > 1


def _read(frame: pd.DataFrame, position: str) -> list[int]:
    if "log_direct_gradient_zeros" not in frame:
        return []
    return frame.loc[frame["log_direct_gradient_zeros"] < frame["valid"], position].tolist()


def at_iteration(frame: pd.DataFrame, iteration: int | None) -> pd.DataFrame:
    """The rows of the last recorded iteration of each run not after this one, or of the first recorded."""
    if iteration is not None:
        iteration = whole_number("iteration", iteration, 0)
    owner = _owner(frame)
    first = frame.groupby(owner)["iteration"].transform("min")
    if iteration is None:
        return frame[frame["iteration"] == first]
    before = frame["iteration"].where(frame["iteration"] <= np.maximum(first, iteration))
    return frame[frame["iteration"] == before.groupby(owner).transform("max")]
