"""Singular values and eigenvalues of the recurrent weights, before and after training."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import (
    IDENTITY,
    Run,
    binned,
    claim,
    collect,
    curve_name,
    identity,
    one_clipping,
    one_seed,
    recorded,
    runs_of,
    setting,
)
from gradflow.analysis.spectrum import of_gate
from gradflow.cells.facts import GATED

VALUES = ["singular_value", "eigenvalue_re", "eigenvalue_im"]
_COLUMNS = [*IDENTITY, "layer", "direction", "gate", "when", "iteration", "index", "share", *VALUES, "weights", "gain"]
_MATRIX = ["cell", "start", "clip", "gate", "when"]
_UNIFORM = 3**-0.5  # standard deviation of torch's U(-1, 1) / sqrt(H), times sqrt(H)


def weight_spectrum(source: Any, *, layer: int | None = None, direction: int = 0) -> pd.DataFrame:
    """The spectrum of every gate's recurrent weights at the first and the last record.

    Of several networks only the candidate's weights (LSTM g, GRU n), which play the part of an RNN's W_hh. One run per
    cell and start: of the lowest seed, without clipping if there is one (what clipping does to singular values is in
    :func:`gradflow.analysis.singular_values_over_training`).

    Args:
        source: A run, a sweep, or a sequence of runs.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, gate, when (`before` any update, `after` the last), iteration, index,
        share (index over H), singular_value (descending), eigenvalue_re, eigenvalue_im (by descending modulus), weights
        (`uniform`, `gaussian`, `orthogonal` or empty: what the recurrent weights started as), gain (of these).

    Raises:
        ValueError: No run has rows of the `spectrum` table.
    """
    parts = recorded(one_clipping(one_seed(runs_of(source))), "spectrum", VALUES, layer=layer, direction=direction)
    several = len({(identity(run)["cell"], identity(run)["start"]) for run, _ in parts}) > 1
    ends = [(run, _described(run, frame, several)) for run, frame in parts]
    return collect([(run, frame[frame["when"] != "during"]) for run, frame in ends])[_COLUMNS]


def weight_spectrum_over_training(source: Any, *, layer: int | None = None, direction: int = 0) -> pd.DataFrame:
    """The spectrum of every gate's recurrent weights at each record, and the loss there; one seed per setting.

    Of several runs only the candidate's weights (LSTM g, GRU n), which play the part of an RNN's W_hh.

    Args:
        source: A run, a sweep, or a sequence of runs.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns of :func:`weight_spectrum`, where `when` may be `during` too, and loss (as the figures of training
        show it: of a run of more than 200 iterations, the median of a few; NaN where none was recorded).

    Raises:
        ValueError: No run has rows of the `spectrum` table.
    """
    parts = recorded(one_seed(runs_of(source)), "spectrum", VALUES, layer=layer, direction=direction)
    rows = []
    for run, frame in parts:
        described = _described(run, frame, candidate=len(parts) > 1).sort_values("iteration", kind="stable")
        loss = binned(run.scalars["loss"]).rename(columns={"value": "loss"})
        rows.append((run, pd.merge_asof(described, loss, on="iteration")))
    return collect(rows)[[*_COLUMNS, "loss"]]


def weight_spectrum_over_training_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """What :func:`weight_spectrum_claims` checks, of the first and the last record."""
    return weight_spectrum_claims(data[data["when"] != "during"])


def _described(run: Run, frame: pd.DataFrame, candidate: bool) -> pd.DataFrame:
    """The rows of all gates, or of the candidate alone, with what the table adds to the log."""
    data = of_gate(run, frame) if candidate else frame
    first, last = data["iteration"].min(), data["iteration"].max()
    when = np.select([data["iteration"] == first, data["iteration"] == last], ["before", "after"], "during")
    weights, gain = _started_as(run.config or {})
    share = data["index"] / (data["index"].max() + 1)
    return data.assign(when=when, share=share, weights=weights, gain=gain)


def _started_as(config: Any) -> tuple[str, float]:
    """What filled W_hh before training, and its gain; nothing for what gradflow did not initialise or flossed."""
    name, cell = setting(config, "init.name", ""), setting(config, "cell.name", "")
    gain = setting(config, "init.gain", 1.0)
    if not cell or setting(config, "flossing.iterations", 0):
        return "", gain
    if name == "remember":
        return ("uniform" if cell in GATED else "orthogonal"), gain
    kinds = {"default": "uniform", "chrono": "uniform", "gaussian": "gaussian", "orthogonal": "orthogonal"}
    return kinds.get(name, ""), gain


def weight_spectrum_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the largest singular value is not the rate; that the spectrum starts as the theory of its weights says.

    Uniform and Gaussian weights: σ_1 tends to 2g and ρ to g, with g = 1/√3 for U(-1, 1)/√H; both keep to that within
    2/√H, a few widths of the edge (Bai & Yin 1993; Ginibre 1965). Orthogonal: all σ_i and |λ_i| are
    the gain. Always ρ <= σ_1 (within 1e-5) and Σ|λ_i|² <= Σσ_i² (Schur), with equality for normal matrices only.
    """
    rows = pd.DataFrame([_summary(group) for _, group in data.groupby(_MATRIX, sort=False, dropna=False)])
    known = rows[np.isfinite(rows["sigma"]) & (rows["sigma"] > 0)]
    if known.empty:
        return []
    ratio = float((known["rho"] / known["sigma"]).max())
    schur = float((known["eigen_squares"] / known["squares"]).max())
    finite = len(known) == len(rows)
    return [
        _headline(known, finite and ratio <= 1 + 1e-5),
        claim("schur", schur, "<= 1", schur <= 1 + 1e-5),
        *_start_claims(known[known["when"] == "before"]),
    ]


def _summary(group: pd.DataFrame) -> dict[str, Any]:
    first, modulus = group.iloc[0], np.hypot(group["eigenvalue_re"].to_numpy(), group["eigenvalue_im"].to_numpy())
    singular = group["singular_value"].to_numpy()
    return {name: first[name] for name in [*_MATRIX, "iteration", "weights", "gain"]} | {
        "size": len(group),
        "sigma": singular.max(),
        "rho": modulus.max(),
        "squares": (singular**2).sum(),
        "eigen_squares": (modulus**2).sum(),
        "off": max(np.abs(singular / first["gain"] - 1).max(), np.abs(modulus / first["gain"] - 1).max()),
    }


def _headline(rows: pd.DataFrame, holds: bool) -> dict[str, Any]:
    """The matrix whose radius is the furthest below its norm before training, and what became of it."""
    before = rows[rows["when"] == "before"] if (rows["when"] == "before").any() else rows
    widest = before.iloc[int(np.argmin(before["rho"] / before["sigma"]))]
    same = (rows[["cell", "start", "clip", "gate"]] == widest[["cell", "start", "clip", "gate"]]).all(axis=1)
    after = rows[same & (rows["when"] == "after")]
    last = after.iloc[0] if len(after) else widest
    details = {"sigma": widest["sigma"], "last": last["rho"], "last_sigma": last["sigma"], "curve": curve_name(widest)}
    misleads = widest["sigma"] > 1.01 and widest["rho"] < 1
    name = "norm_is_not_radius" if misleads else "spectrum_moves"
    return claim(name, widest["rho"], "<= the largest singular value", holds, **details)


def _start_claims(before: pd.DataFrame) -> list[dict[str, Any]]:
    claims = []
    random = before[before["weights"].isin(["uniform", "gaussian"])]
    if len(random):
        scale = random["gain"].where(random["weights"] == "gaussian", _UNIFORM)
        error = np.maximum((random["sigma"] / (2 * scale) - 1).abs(), (random["rho"] / scale - 1).abs())
        excess = error / (2 * random["size"] ** -0.5)
        claims.append(claim("random_matrix_edges", excess.max(), "<= 1 (2/√H)", bool((excess <= 1).all())))
    rotations = before[before["weights"] == "orthogonal"]
    if len(rotations):
        off = float(rotations["off"].max())
        claims.append(claim("orthogonal_spectrum", off, "<= 1e-4", off <= 1e-4))
    return claims
