"""What trained reproductions must show, checked on :func:`gradflow.analysis.accuracy_by_lag`.

Every claim carries what it is about, the protocol in a few words, and the measured numbers in words.
"""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.reach import what_decides
from gradflow.analysis.results import wilson_interval
from gradflow.analysis.runs import claim

SOLVED, STUCK = 0.01, 0.1  # squared errors of the adding problem; a constant answer has 1/6


def _protocol(data: pd.DataFrame, more: str) -> str:
    lengths = sorted({int(lag) + 1 for lag in data["lag"]})
    spelled = f"T = {lengths[0]}" if len(lengths) == 1 else f"T = {lengths[0]}-{lengths[-1]}"
    return f"{spelled}, {more}, {int(data['seed'].max())} seeds, at most {int(data['iterations'].max()):,} updates"


def temporal_order_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """The order of Pascanu et al. 2013, figure 7: clipping helps plain SGD, and the regulariser Ω helps on top of it.

    Args:
        data: Of quantity `success`, over every length and start that was run.
    """
    shares = {clip: _pooled(data[data["clip"] == clip]) for clip in ("none", "norm", "norm, omega")}
    (none, *_), (norm, *_), (omega, *_) = shares.values()
    measured = "; ".join(
        f"{name} {share:.2f} [{low:.2f}, {high:.2f}]"
        for name, (share, low, high) in zip(("SGD", "clipped", "clipped + Ω"), shares.values(), strict=True)
    )
    protocol = _protocol(data, f"{data['start'].nunique()} starts, SGD 0.01, batches of 20")
    what = "temporal order: success of SGD <= clipped <= clipped + Ω"
    holds = none <= norm <= omega and none < omega
    return [
        claim(
            "figure_7_order", omega, "in this order, not all equal", holds, what=what, protocol=protocol, told=measured
        )
    ]


def _pooled(data: pd.DataFrame) -> tuple[float, float, float]:
    """Share of all runs that solved the task, with Wilson's 95 % interval; NaN without runs."""
    runs = int(data["seed"].sum())
    if not runs:
        return float("nan"), float("nan"), float("nan")
    share = float((data["value"] * data["seed"]).sum() / runs)
    return share, *wilson_interval(share, runs)


def adding_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Who solves the adding problem: IRNN, LSTM and GRU, not the tanh RNN from torch's start (Le et al. 2015).

    Args:
        data: Of quantity `loss`, squared errors.
    """
    expected = {
        "IRNN": ("rnn_relu", f"<= {SOLVED}"),
        "LSTM": ("lstm", f"<= {SOLVED}"),
        "GRU": ("gru", f"<= {SOLVED}"),
        "tanh RNN": ("rnn", f">= {STUCK}, near 1/6"),
    }
    claims = []
    for name, (cell, limit) in expected.items():
        own = data[data["cell"] == cell]
        if own.empty:
            continue
        solves = cell != "rnn"
        error = float(own["value"].max() if solves else own["value"].min())  # the mean over seeds, at its worst length
        holds = error <= SOLVED if solves else error >= STUCK
        errors = own.sort_values("lag")[["lag", "value"]].to_numpy()
        told = ", ".join(f"{value:.4f} (T = {lag + 1:.0f})" for lag, value in errors)
        what = f"adding problem: {name} {'solves it' if solves else 'does not learn it'}, mean squared error"
        protocol = _protocol(own, "Adam, clipped, batches of 50")
        claims.append(claim(f"adding_{cell}", error, limit, holds, what=what, protocol=protocol, told=told))
    return claims


def roll_call_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether the gradient before training ranks the networks as training does.

    Args:
        data: Of quantity `accuracy`, over several lags.
    """
    ranks = what_decides(data)
    told = f"{ranks['agree']} of {ranks['pairs']} clear pairs" if "pairs" in ranks else "no pair clearly apart"
    lags = sorted(data["lag"].unique())
    protocol = f"roll calls of {lags[0]:.0f}-{lags[-1]:.0f} steps, {int(data['seed'].max())} seeds, Adam, "
    protocol += f"{int(data['iterations'].max()):,} updates"
    what = "roll call: horizon ln(0.001)/slope before training ranks the accuracies"
    holds = bool(ranks.get("claim") == "horizon_ranks" and ranks["holds"])
    value = ranks["value"] if "pairs" in ranks else np.nan
    return [claim("horizon_ranks_roll_call", value, ">= 0.9", holds, what=what, protocol=protocol, told=told)]
