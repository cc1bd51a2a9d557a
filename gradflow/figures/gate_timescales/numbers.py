"""How long the gates that keep (LSTM f, GRU z) remember, before and after training."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.gates import keep_bias, time_scale
from gradflow.analysis.runs import (
    IDENTITY,
    DoesNotApply,
    claim,
    collect,
    curve_name,
    identity,
    one_seed,
    recorded,
    runs_of,
)
from gradflow.cells.facts import GATED, KEEPING_GATES, WITHOUT_GATES

_COLUMNS = ["q10", "time_scale_q50", "time_scale_q90", "saturated_high"]


def gate_timescales(source: Any, *, layer: int | None = None, direction: int = 0) -> pd.DataFrame:
    """Time scale τ = -1/ln(gate) at each position, over units and examples, at the first and last recorded iteration.

    Args:
        source: A run, a sweep, or a sequence of runs; those of cells without such a gate are left out.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, gate, when (`before` any update, `after` the last), iteration, time,
        low, median, high (steps: 10 %, 50 % and 90 % quantile; infinite for a gate that is 1), saturated_high (share
        of gates above 0.95), bias (see :func:`gradflow.analysis.gates.keep_bias`), expected (τ of that bias), steps
        (of the longest sequence). One seed per setting.

    Raises:
        DoesNotApply: No run has a gate that keeps in the rows of its `gates` table.
    """
    data = gate_timescales_over_training(source, layer=layer, direction=direction)
    return data[data["when"] != "during"].reset_index(drop=True)


def gate_timescales_over_training(source: Any, *, layer: int | None = None, direction: int = 0) -> pd.DataFrame:
    """As :func:`gate_timescales`, at every recorded iteration: `when` may be `during` too."""
    parts = []
    runs = [run for run in one_seed(runs_of(source)) if identity(run)["cell"] not in WITHOUT_GATES]
    if runs:
        parts = recorded(runs, "gates", _COLUMNS, layer=layer, direction=direction)
        parts = [(run, frame[frame["gate"].isin(KEEPING_GATES)]) for run, frame in parts]
    if not any(len(frame) for _, frame in parts):
        gates, cells = " or ".join(KEEPING_GATES), ", ".join(GATED)
        raise DoesNotApply(f"gates: expected runs of a cell that has a gate {gates}, got none; train cell={cells}")
    data = collect([(run, _scales(frame, keep_bias(run.config))) for run, frame in parts if len(frame)])
    columns = ["gate", "when", "iteration", "time", "low", "median", "high", "saturated_high", "bias", "expected"]
    return data[[*IDENTITY, "layer", "direction", *columns, "steps"]]


def _scales(frame: pd.DataFrame, bias: float) -> pd.DataFrame:
    first, last = frame["iteration"].min(), frame["iteration"].max()
    when = np.select([frame["iteration"] == first, frame["iteration"] == last], ["before", "after"], "during")
    data = frame.assign(when=when)
    with np.errstate(divide="ignore"):
        low = np.abs(1 / np.log(data["q10"].astype("float64")))
    scales = {"median": data["time_scale_q50"], "high": data["time_scale_q90"]}
    return data.assign(
        low=low,
        **{name: values.astype("float64") for name, values in scales.items()},
        bias=bias,
        expected=time_scale(bias),
        steps=frame.loc[frame["time_scale_q50"].notna(), "time"].max() + 1,
    )


def gate_timescales_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """By how much training lengthened the memory of the longest tenth of the gates; that it starts at the bias."""
    keys = ["cell", "start", "clip"]
    ends = data.groupby([*keys, "when"], sort=False).agg(
        high=("high", "median"), middle=("median", "median"), expected=("expected", "first"), steps=("steps", "first")
    )
    before = ends.xs("before", level="when").reset_index()
    if not np.isfinite(before["middle"]).any():
        return []
    first = _from_bias(before)
    if not (data["when"] == "after").any():
        return [first]
    moved = before.set_index(keys).join(ends.xs("after", level="when")["high"].rename("last")).reset_index()
    moved["growth"] = moved["last"] / moved["high"]
    if not moved["growth"].notna().any():
        return [first]
    most = moved.nlargest(1, "growth").iloc[0]
    details = {"first": most["high"], "last": most["last"], "steps": float(most["steps"]), "curve": curve_name(most)}
    details |= {"grown": int((moved["growth"] > 1).sum()), "total": len(moved)}
    lengthens = claim("memory_lengthens", most["growth"], "> 1", most["growth"] > 1, **details)
    return [lengthens, *([first] if first["claim"] == "memory_starts_at_bias" else [])]


def _from_bias(before: pd.DataFrame) -> dict[str, Any]:
    """How far the median before training is at most from -1/ln σ(bias): a quarter, as torch's weights are small.

    Where no bias is known, whether the longest tenth of the gates remember a whole sequence.
    """
    known = before[np.isfinite(before["expected"])]
    if known.empty:
        high, steps = float(before["high"].max()), float(before["steps"].max())
        return claim("memory_before", high, f">= {steps:g}, the length", high >= steps, steps=steps)
    ratio = known["middle"] / known["expected"]
    worst = known.loc[np.log(ratio).abs().fillna(np.inf).idxmax()]
    value = float(worst["middle"] / worst["expected"])
    details = {"middle": worst["middle"], "target": worst["expected"], "curve": curve_name(worst)}
    return claim("memory_starts_at_bias", value, "0.75 to 1.33", 0.75 <= value <= 1 / 0.75, **details)
