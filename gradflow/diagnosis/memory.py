"""Whether the gradient reaches as far back as the task asks: it vanishes, grows, or is cut off."""

import math
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import LAG_COLUMNS, VANISHED, factor_per_step, lag_gradient
from gradflow.analysis.credit import weight_gradient_reach
from gradflow.analysis.decay import vanishing_lag
from gradflow.analysis.reach import horizon
from gradflow.analysis.runs import once, recorded
from gradflow.diagnosis.case import Case, Place
from gradflow.diagnosis.condition import Condition, Measurement, Remedy, Unknown
from gradflow.diagnosis.remedies import for_growth, for_memory, lower_rate

LAST = 3  # recordings of which the median is what is so now
NEAR = 10  # steps that count as the last ones


def _gradient(place: Place) -> pd.DataFrame:
    key = ("gradient", place.module, place.layer, place.direction)
    return once(place.run, key, lambda _: _gradient_read(place))


def _gradient_read(place: Place) -> pd.DataFrame:
    [(_, frame)] = recorded(place.run, "lag", LAG_COLUMNS, **place.at)
    if not any(f"{name}_q50" in frame for name in ("log_relative_gradient", "log_anchored_gradient")):
        raise Unknown("no_relative_gradient")
    data = lag_gradient(frame)
    silent = _silent(data)
    told = data["valid"] - data["non_finite"] - silent
    median = data["log_median"].mask(2 * (data["zeros"] - silent) > told, -np.inf)
    return data.assign(log_median=median.mask(told <= 0)).dropna(subset="log_median")


def _silent(data: pd.DataFrame) -> pd.Series:
    """How many examples have no gradient at any lag, so that they say nothing of what a step does to one.

    Such are the answers that are right by so much that the softmax is 1 in float32.
    """
    share = (data["zeros"] / data["valid"]).groupby(data["iteration"]).transform("min")
    return share * data["valid"]


def _at(frame: pd.DataFrame, lag: float) -> float:
    """Ln of what is left of the gradient this many steps back from the last that it reaches.

    Beyond the recorded lags, as the fitted factor per step has it; where the loss reads no late step, at most as far
    as the record goes.
    """
    lags, values = frame["lag"].to_numpy(), frame["log_median"].to_numpy()
    reached = lags[values > -np.inf]
    if not len(reached):
        return -math.inf
    first, greatest = int(reached.min()), int(lags.max())
    if first + lag <= greatest or first > 0:
        return float(values[lags <= min(first + lag, greatest)][-1])
    return float(values[-1] + (lag - greatest) * math.log(factor_per_step(lags, values)))


def _over_training(data: pd.DataFrame, lag: float) -> pd.Series:
    return pd.Series({iteration: _at(own, lag) for iteration, own in data.groupby("iteration")})


def _start_and_now(values: pd.Series) -> tuple[float, float]:
    values = values.dropna()
    if values.empty:
        raise Unknown("nothing_finite")
    return math.exp(min(values.iloc[0], 700)), math.exp(min(float(values.iloc[-LAST:].median()), 700))


def _horizon(data: pd.DataFrame) -> tuple[float, bool]:
    """Where the gradient of the last recording has vanished, in steps; whether that was measured, not extrapolated."""
    last = data[data["iteration"] == data["iteration"].max()]
    lags, values = last["lag"].to_numpy(), last["log_median"].to_numpy()
    seen = vanishing_lag(lags, values) - lags[values > -np.inf].min(initial=lags.max())
    return (seen, True) if math.isfinite(seen) else (horizon(factor_per_step(lags, values)), False)


def _short_sight(place: Place) -> float:
    """Share of dL/dW_hh that comes from the last NEAR steps, in per cent, at the last recording; NaN: not recorded."""
    try:
        share = weight_gradient_reach(place.run, steps=NEAR, **place.at)["share"].dropna()
    except ValueError:
        return math.nan
    return 100 * float(share.iloc[-1]) if len(share) else math.nan


def vanishes(case: Case, place: Place) -> Measurement:
    """What is left of the gradient at the lag that matters, relative to the last step: at the start, and now."""
    data = _gradient(place)
    if data.empty:
        raise Unknown("nothing_finite")
    greatest = float(data["lag"].max())
    lag = case.lag(place, greatest)
    steps, _ = _horizon(data)
    if math.isnan(lag):
        start, now = _start_and_now(_over_training(data, greatest))
        if now < VANISHED:
            raise Unknown("no_lag", now, VANISHED, horizon=steps, greatest=greatest)
        lag = greatest
    start, now = _start_and_now(_over_training(data, lag))
    values: dict[str, Any] = {"lag": lag, "length": lag + 1, "start": start, "horizon": steps, "near": NEAR}
    values |= {"share": _short_sight(place)} | ({"recorded": greatest} if lag > greatest else {})
    ill = now < VANISHED and not case.solved
    if now < VANISHED and case.solved:
        values["variant"] = "solved"
    elif ill and start >= VANISHED:
        values |= {"variant": "lost"} | lower_rate(case)
    elif ill and math.isnan(values["share"]):
        values["variant"] = "unshared"
    remedy = for_memory(case, place, lag, lost=start >= VANISHED)
    return Measurement(now, VANISHED, ill, -_log(now), remedy, values)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def grows(case: Case, place: Place) -> Measurement:
    """How many times the last step's gradient the greatest one is, within the lag that matters."""
    data = _gradient(place)
    greatest = float(data["lag"].max()) if len(data) else math.nan
    lag = case.lag(place, greatest)
    reach = greatest if math.isnan(lag) else min(lag, greatest)
    within = data[data["lag"] <= reach]
    largest = within.groupby("iteration")["log_median"].max()
    start, now = _start_and_now(largest)
    last = within[within["iteration"] == within["iteration"].max()]
    factor = factor_per_step(last["lag"].to_numpy(), last["log_median"].to_numpy())
    ill = now > 1 / VANISHED
    values = {"lag": reach, "length": reach + 1, "start": start, "factor": factor}
    return Measurement(now, 1 / VANISHED, ill, _log(now), for_growth(case, place), values)


def truncated(case: Case, place: Place) -> Measurement:
    """How many steps backpropagation goes back."""
    data = _gradient(place)
    reached = data[data["log_median"] > -np.inf]
    if reached.empty:
        raise Unknown("nothing_finite")
    window = float(reached["lag"].max() - reached["lag"].min() + 1)
    told = case.setting("train.truncate", int, None)
    window = window if told is None else min(window, told)
    lag = case.lag(place, float(data["lag"].max()))
    if math.isnan(lag):
        raise Unknown("no_lag_window", window, math.nan)
    if reached["lag"].min() > 0 and told is None:  # the loss reads earlier steps
        window = max(window, lag + 1)
    remedy = Remedy(
        "train.truncate=null", f"state = state.detach()  # only every {int(lag) + 1} steps, not every {int(window)}"
    )
    values = {"lag": lag, "length": lag + 1}
    return Measurement(window, lag + 1, window < lag + 1, -window, remedy, values)


CONDITIONS = [
    Condition("gradient_vanishes", "1", vanishes, "gradient_by_lag"),
    Condition("gradient_grows", "1", grows, "gradient_by_lag"),
    Condition("truncated_short", "steps", truncated, "temporal_contributions"),
]
