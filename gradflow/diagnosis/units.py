"""Units and gates that no longer answer: saturated, dead, unable to hold, stuck open; layers that get no gradient."""

import math
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import VANISHED
from gradflow.analysis.runs import recorded
from gradflow.cells.facts import KEEPING_GATES
from gradflow.diagnosis.case import Case, Place
from gradflow.diagnosis.condition import Condition, Measurement, Unknown
from gradflow.diagnosis.remedies import for_growth, gates_that_hold, lower_rate, one_layer, slower

SATURATED = 0.95  # of the range of a unit or gate, as the log counts it
SLOPE = 1 - SATURATED**2  # tanh' where |tanh| is that
STUCK = 0.95  # share of units and steps
SPARSE = 0.15  # share active below which rectifiers learn less: Glorot, Bordes & Bengio 2011, fig. 3
_PLAIN = ("rnn", "rnn_sigmoid", "rnn_relu")


def _now(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["iteration"] == frame["iteration"].max()]


def _slopes(place: Place) -> tuple[pd.DataFrame, bool]:
    """Mean and root mean square of φ' by position; whether φ' is 0 or 1 alone (ReLU)."""
    quantities = ["activation_derivative", "activation_derivative_rms"]
    columns = [f"{name}_{end}" for name in quantities for end in ("q50", "zeros")] + ["valid"]
    [(_, frame)] = recorded(place.run, "lag", columns, **place.at)
    if f"{quantities[0]}_q50" not in frame:
        raise Unknown("no_slopes")
    zero = 2 * frame[f"{quantities[0]}_zeros"] > frame["valid"]
    mean = frame[f"{quantities[0]}_q50"].mask(zero, 0.0)
    rms = frame.get(f"{quantities[1]}_q50", mean * math.nan).mask(zero, 0.0)
    steps = bool(np.allclose(rms**2, mean, atol=1e-4))
    return frame[["iteration", "lag"]].assign(slope=mean).dropna(), steps


def _slope(case: Case, place: Place, *, relu: bool) -> Measurement | None:
    if place.cell not in _PLAIN:
        return None
    frame, steps = _slopes(place)
    if frame.empty:
        raise Unknown("nothing_finite")
    if (place.cell == "rnn_relu" or steps) != relu:
        return None
    scale = 0.25 if place.cell == "rnn_sigmoid" else 1.0  # the steepest slope
    by_iteration = frame.groupby("iteration")["slope"].median() / scale
    start, now = float(by_iteration.iloc[0]), float(by_iteration.iloc[-1])
    threshold = SPARSE if relu else SLOPE
    ill = now < threshold and not case.solved
    values: dict[str, Any] = {
        "start": start,
        "percent": 100 * now,
        "variant": "lost" if ill and start >= threshold else "",
    }
    values |= lower_rate(case)
    remedy = slower(case) if start >= threshold else for_growth(case, place)
    return Measurement(now, threshold, ill, -now, remedy, values)


def saturated(case: Case, place: Place) -> Measurement | None:
    """Mean slope of tanh or sigmoid over units, as a share of its steepest."""
    return _slope(case, place, relu=False)


def dead(case: Case, place: Place) -> Measurement | None:
    """Mean slope of ReLU: the share of units and steps that are active."""
    return _slope(case, place, relu=True)


def _gate(place: Place) -> pd.DataFrame | None:
    """The keeping gate by iteration, medians over positions; None: there is none."""
    columns = ["mean", "saturated_high", "time_scale_q50", "time_scale_q90"]
    frame = place.run.frame("gates", columns=columns)
    frame = frame[(frame["layer"] == place.layer) & (frame["direction"] == place.direction)]
    frame = frame[frame["gate"].isin(KEEPING_GATES)]
    if frame.empty:
        return None
    scales = ["time_scale_q50", "time_scale_q90"]
    frame = frame.assign(**frame[scales].abs())  # -1/ln 1 is infinite, whatever its sign
    return frame.assign(gate=frame["gate"].iloc[0]).groupby(["iteration", "gate"])[columns].median().reset_index("gate")


def _greatest(place: Place) -> float:
    return float(place.run.frame("lag", columns=[])["lag"].max())


def cannot_hold(case: Case, place: Place) -> Measurement | None:
    """Time scale of the slowest tenth of the units' gates, in steps."""
    gates = _gate(place)
    if gates is None:
        return None
    start, now = float(gates["time_scale_q90"].iloc[0]), float(gates["time_scale_q90"].iloc[-1])
    if math.isnan(now):
        raise Unknown("nothing_finite")
    lag = case.lag(place, _greatest(place))
    reach = now * -math.log(VANISHED)
    if math.isnan(lag):
        raise Unknown("no_lag_gate", now, math.nan, reach=reach)
    threshold = lag / -math.log(VANISHED)
    values = {"lag": lag, "length": lag + 1, "start": start, "reach": reach, "gate": gates["gate"].iloc[0]}
    values["left"] = math.exp(-lag / now)
    remedy = gates_that_hold(case, lag)
    return Measurement(now, threshold, now < threshold and not case.solved, -now, remedy, values)


def stuck_open(case: Case, place: Place) -> Measurement | None:
    """Share of units and steps at which the keeping gate is above SATURATED, if it forgets nothing within the lag."""
    gates = _gate(place)
    if gates is None:
        return None
    now, scale = float(gates["saturated_high"].iloc[-1]), float(gates["time_scale_q50"].iloc[-1])
    if math.isnan(now):
        raise Unknown("nothing_finite")
    lag = case.lag(place, _greatest(place))
    lag = _greatest(place) if math.isnan(lag) else lag
    kept = math.exp(-lag / scale) if scale > 0 else 0.0
    ill = now >= STUCK and kept >= STUCK and not case.solved
    values = {"lag": lag, "length": lag + 1, "scale": scale, "kept": 100 * kept, "gate": gates["gate"].iloc[0]}
    values["percent"] = 100 * now
    return Measurement(now, STUCK, ill, now, gates_that_hold(case, lag), values)


def starved(case: Case, place: Place) -> Measurement | None:
    """The gradient of the states of a layer, at its largest over lags, over that of the top one."""
    frame = place.run.frame("lag", columns=["log_state_gradient_q50"])
    frame = frame[frame["direction"] == place.direction]
    top = int(frame["layer"].max())
    if top == 0 or place.layer == top:
        return None
    largest = frame.groupby(["iteration", "layer"])["log_state_gradient_q50"].max().unstack()
    apart = (largest[place.layer] - largest[top]).dropna()
    if apart.empty:
        raise Unknown("nothing_finite")
    start, now = math.exp(apart.iloc[0]), math.exp(apart.tail(3).median())
    values = {"start": start, "layer": place.layer, "top": top, "per_layer": now ** (1 / (top - place.layer))}
    ill = now < VANISHED and not case.solved
    return Measurement(now, VANISHED, ill, -now, one_layer(case), values)


CONDITIONS = [
    Condition("units_saturated", "1", saturated, "singular_values_over_training"),
    Condition("units_dead", "1", dead, "jacobian_norm_over_training"),
    Condition("gates_cannot_hold", "steps", cannot_hold, "gate_timescales"),
    Condition("gates_stuck_open", "1", stuck_open, "gate_timescales"),
    Condition("lower_layers_starved", "1", starved, "stacked_lattice"),
]
