"""The gradient along the cells of an LSTM against the product of its forget gates."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.by_lag import SHORT, at_iteration, factor_per_step, quantiles, read_at_many, read_at_the_end
from gradflow.analysis.gates import keep_bias
from gradflow.analysis.runs import (
    DoesNotApply,
    before_clipping,
    claim,
    collect,
    curve_name,
    identity,
    one_seed,
    recorded,
    runs_of,
)
from gradflow.cells.facts import GATED

LOGGED = {"cell": "log_cell_gradient", "state": "log_state_gradient", "path": "log_cell_path"}
"""Quantity of the table -> quantity of the log."""


_COLUMNS = ["valid", "log_direct_gradient_zeros"] + [
    f"{name}_{statistic}" for name in LOGGED.values() for statistic in ("q10", "q50", "q90", "zeros", "non_finite")
]


def lstm_cell_highway(
    source: Any, *, iteration: int | None = None, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """Gradients of cell and hidden state against lag, the path through the cells alone, and σ(b)^k; one seed each.

    Args:
        source: A run, a sweep, or a sequence of runs; those of other cells than LSTM and GRU are left out.
        iteration: The last recorded one not after this is taken; None is the first recorded, before any update.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, quantity, layer, direction, iteration, lag, valid, log_median (natural log, median over
        examples), zeros, non_finite, bias (see :func:`keep_bias`), factor (per step; NaN of `cell` and `state` where
        many_steps), last_step_only (whether the loss reaches this layer at the last step alone, so that the path and
        the cell start from the same), many_steps (whether it does at several, over which they sum). Quantities: of an
        LSTM `cell`, the cell's part of the adjoint of (h, c), and `path`, (∏ f_s) ∘ dL/dc_T; of both cells `state`,
        dL/dh_t, and `gate`, σ(bias)^k from where the path, or else the state, begins.

    Raises:
        DoesNotApply: There is no run of an LSTM or a GRU.
        ValueError: None has rows of the `lag` table.
    """
    runs = [run for run in one_seed(runs_of(source)) if identity(run)["cell"] in GATED]
    if not runs:
        raise DoesNotApply("cell: expected runs of an LSTM or a GRU, got none; train one with cell=lstm")
    parts = recorded(runs, "lag", _COLUMNS, layer=layer, direction=direction)
    data = collect([(run, _curves(at_iteration(frame, iteration), run)) for run, frame in parts])
    return before_clipping(data) if iteration is None else data


def _curves(frame: pd.DataFrame, run: Any) -> pd.DataFrame:
    bias, names = keep_bias(run.config), identity(run)
    wanted = ("cell", "path", "state") if names["cell"] == "lstm" else ("state",)
    curves = {name: quantiles(frame, LOGGED[name]) for name in wanted}
    start = curves["path" if "path" in curves else "state"]
    reached = start[np.isfinite(start["log_median"])]
    first, lag = reached[["log_median", "lag"]].iloc[0] if len(reached) else (np.nan, np.nan)
    steps = (start["lag"] - lag).where(start["lag"] >= lag)
    curves["gate"] = start.assign(log_median=first + steps * np.log(_sigmoid(bias)), zeros=0, non_finite=0)
    columns = ["layer", "direction", "iteration", "lag", "valid", "log_median", "zeros", "non_finite"]
    parts = [
        curve[columns].assign(
            quantity=name, factor=factor_per_step(curve["lag"].to_numpy(), curve["log_median"].to_numpy())
        )
        for name, curve in curves.items()
    ]
    data, many = pd.concat(parts).assign(bias=bias, last_step_only=read_at_the_end(frame)), read_at_many(frame)
    data["factor"] = data["factor"].mask(many & data["quantity"].isin(["cell", "state"]))
    return data.assign(many_steps=many)


def _sigmoid(bias: float) -> float:
    return float(1 / (1 + np.exp(-bias)))


def lstm_cell_highway_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the path through the cells is as the gates say, and the whole gradient exceeds it; equal one step back."""
    panels = pd.DataFrame([_panel(group) for _, group in data.groupby(["cell", "start", "clip"], sort=False)])
    lstm = panels[np.isfinite(panels["ratio"]) & panels["last_step_only"]]
    if lstm.empty:
        known = panels[np.isfinite(panels["state"])]
        if known.empty:
            return []
        most = known.nlargest(1, "state").iloc[0]
        if not np.isfinite(most["gate"]):
            return [claim("state_alone", most["state"], "< 1", most["state"] < 1, curve=curve_name(most))]
        details = {"gate": most["gate"], "curve": curve_name(most)}
        expected = f"> {most['gate']:.3g}, of the gate alone"
        return [claim("state_against_gate", most["state"], expected, most["state"] > most["gate"], **details)]
    biased = lstm[np.isfinite(lstm["gate"])]
    most = (biased if len(biased) else lstm).nlargest(1, "ratio").iloc[0]
    details = {name: most[name] for name in ("path", "gate", "whole", "lag")} | {"curve": curve_name(most)}
    least = float(lstm["ratio"].min())
    name = "more_than_the_highway" if len(biased) else "more_than_the_path"
    claims = [claim(name, most["ratio"], ">= 1 in every panel", least >= 1, **details)]
    given = lstm[lstm["exact"] & (lstm["lag"] >= SHORT)]
    if len(given):
        own = _own_path(given)
        claims = [own, *claims] if own["claim"] == "own_path_by_bias" else [*claims, own]
    apart = float(lstm["one_back"].abs().max())
    claims.append(claim("equal_one_step_back", apart, "<= 1e-4 nats", apart <= 1e-4))
    return claims


def _own_path(given: pd.DataFrame) -> dict[str, Any]:
    """Whether the path through the cells is what their gates start at; of several biases the outermost are told."""
    off = float((np.log(given["path"] / given["gate"]) / np.maximum(0.15 * -np.log(given["gate"]), 0.01)).abs().max())
    low, high = given.nsmallest(1, "bias").iloc[0], given.nlargest(1, "bias").iloc[0]
    details: dict[str, Any] = {}
    for end, row in {"low": low, "high": high}.items() if low["bias"] < high["bias"] else ():
        details |= {f"{end}_bias": row["bias"], end: row["path"], f"{end}_gate": row["gate"]}
    name = "own_path_by_bias" if details else "path_is_the_gates"
    return claim(name, off, "<= 1 (15 % of the rate, or 0.01)", off <= 1, **details)


def _panel(group: pd.DataFrame) -> dict[str, Any]:
    """Factors per step of the curves, the ratio of the whole gradient of c to the path at the farthest lag."""
    by_lag = group.pivot(index="lag", columns="quantity", values="log_median").replace(-np.inf, np.nan)
    factors = group.groupby("quantity")["factor"].first()
    first = group.iloc[0]
    gap = (by_lag["cell"] - by_lag["path"]).dropna() if "cell" in by_lag else pd.Series(dtype=float)
    return {
        **{name: first[name] for name in ("cell", "start", "last_step_only")},
        "exact": "b_f=" in first["start"],
        "whole": factors.get("cell", np.nan),
        "path": factors.get("path", np.nan),
        "gate": _sigmoid(first["bias"]),
        "bias": float(first["bias"]),
        "state": factors["state"],
        "ratio": float(np.exp(gap.iloc[-1])) if len(gap) else np.nan,
        "lag": float(gap.index[-1]) if len(gap) else np.nan,
        "one_back": float(gap.get(1, np.nan)),
    }
