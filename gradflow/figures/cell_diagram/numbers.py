"""How open the gates of an LSTM or a GRU are on average, before and after training."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.gates import keep_bias
from gradflow.analysis.runs import (
    IDENTITY,
    DoesNotApply,
    Run,
    claim,
    collect,
    curve_name,
    everywhere,
    identity,
    one_clipping,
    one_seed,
    recorded,
    runs_of,
)
from gradflow.cells.facts import CELLS, KEEPING_GATES

"""The sigmoid gates of a cell, in torch's letters and order."""

_PLACE = ["iteration", "call", "layer", "direction", "time"]
_SHARES = ["mean", "saturated_low", "saturated_high"]
TOLERANCE = 0.1  # of the mean of a gate around σ(bias) before training
KEPT = 0.1  # of a state, from which on it counts as kept, if most of it is in a step

DRAWN = ("lstm", "gru", "gru_before")
"""The cells that there is a drawing of."""


def gate_means(source: Any, *, layer: int | None = None, direction: int = 0) -> pd.DataFrame:
    """Mean of every gate over units, examples and positions, at the first and last recorded iteration.

    Each position counts by its examples, as far as the log says how many it had.

    Args:
        source: A run, a sweep, or a sequence of runs; those of other cells than LSTM and GRU are left out.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, gate, when (`before` any update, `after` the last), iteration, mean,
        saturated_low, saturated_high (shares below 0.05 and above 0.95), steps (of the longest sequence), bias (of the
        gate that keeps, see :func:`gradflow.analysis.gates.keep_bias`; NaN for the others), expected (σ of it). One run
        per cell and start: of the lowest seed, without clipping if there is one.

    Raises:
        ValueError: No run of an LSTM or a GRU has rows of the `gates` table.
    """
    runs = [run for run in one_clipping(one_seed(runs_of(source))) if identity(run)["cell"] in DRAWN]
    if not runs:
        raise DoesNotApply("cell: expected runs of an LSTM or a GRU, got none; train one with cell=lstm")
    parts = recorded(runs, "gates", _SHARES, layer=layer, direction=direction)
    data = collect([(run, _means(run, frame)) for run, frame in parts])
    columns = ["layer", "direction", "gate", "when", "iteration", *_SHARES, "steps", "bias", "expected"]
    return data[[*IDENTITY, *columns]]


def _means(run: Run, frame: pd.DataFrame) -> pd.DataFrame:
    [(_, counted)] = everywhere([run], "time", ["valid"])
    kind, first, last = identity(run)["cell"], frame["iteration"].min(), frame["iteration"].max()
    rows = frame[frame["iteration"].isin([first, last]) & frame["gate"].isin(CELLS[kind].sigmoid_gates)].astype(
        {"gate": str}
    )
    counts = counted[[*_PLACE, "valid"]] if len(counted) else rows[_PLACE].drop_duplicates().assign(valid=1)
    rows = rows.merge(counts, how="left", on=_PLACE).fillna({"valid": 1})
    rows = rows[rows["valid"] > 0]
    keys, bias = ["layer", "direction", "gate", "iteration"], keep_bias(run.config)
    table = [
        dict(zip(keys, key, strict=True)) | dict(zip(_SHARES, _average(group), strict=True))
        for key, group in rows.groupby(keys, sort=False)
    ]
    data = pd.DataFrame(table).sort_values("iteration", kind="stable")
    bias_of = data["gate"].map(dict.fromkeys(KEEPING_GATES, bias)).astype("float64")
    return data.assign(
        when=np.where(data["iteration"] == first, "before", "after"),
        steps=int(rows["time"].max()) + 1,
        bias=bias_of,
        expected=1 / (1 + np.exp(-bias_of)),
    )


def _average(rows: pd.DataFrame) -> np.ndarray:
    """Over positions, NaN if one of them is."""
    return np.average(rows[_SHARES].astype("float64"), axis=0, weights=rows["valid"])


def check_one_network(data: pd.DataFrame) -> None:
    """Raise a ValueError unless every gate of a table has one row before training and at most one after."""
    networks = int(data.groupby(["gate", "when"]).size().max())
    if networks > 1:
        raise ValueError(f"data: expected the gates of one network, got those of {networks}; draw each by itself")


def gate_means_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether the gate that keeps would, at its mean, over the whole length; that it starts at σ of its bias.

    Args:
        data: What :func:`gate_means` returned, of one network.

    Raises:
        ValueError: There are several networks.
    """
    check_one_network(data)
    keeps = data[data["gate"].isin(KEEPING_GATES)].sort_values("iteration")
    before, last, kept = keeps.iloc[0], keeps.iloc[-1], (keeps["mean"] ** keeps["steps"]).tolist()
    details = {"first": before["mean"], "last": last["mean"], "steps": int(last["steps"]), "kept_first": kept[0]}
    ends = data.sort_values("iteration", kind="stable").drop_duplicates("gate", keep="last").set_index("gate")["mean"]
    rest = f"{1 - last['mean']:.2f}".replace("nan", "NaN")
    details |= {f"mean_{gate}": mean for gate, mean in ends.items()} | {"build": last["cell"], "rest": rest}
    name = f"{'forget' if last['gate'] == 'f' else 'update'}_gate_{'keeps' if len(keeps) > 1 else 'before'}"
    if not keeps["mean"].notna().all():
        name = "gates_lost"
    holds = bool(keeps["mean"].between(0, 1).all()) and last["mean"] > 0.5 and kept[-1] > KEPT
    claims = [claim(name, kept[-1], f"> {KEPT:g}, of a mean from 0.5 to 1", holds, **details, curve=curve_name(last))]
    if np.isfinite(before["expected"]):
        holds = abs(before["mean"] - before["expected"]) <= TOLERANCE
        expected = f"{before['expected']:.3g} ± {TOLERANCE:g}"
        claims.append(claim("gate_starts_at_bias", before["mean"], expected, holds))
    return claims
