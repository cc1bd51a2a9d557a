"""How far training moves the spectrum of the recurrent weights from one record to the next."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY, Run, collect, recorded
from gradflow.analysis.spectrum import of_gate
from gradflow.checks import numbers


def spectral_distance(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Largest, sum and root of the sum of squares of the differences between the singular values of two matrices.

    They bound the difference of the matrices themselves from below: the largest its spectral norm (Weyl 1912,
    Math. Ann. 71, 441-479), the root its Frobenius norm (Mirsky 1960, Quart. J. Math. 11, 50-59), the sum its nuclear
    norm (Mirsky, the same).

    Args:
        before: [S], in any order; differences are taken rank by rank.
        after: [S].

    Raises:
        ValueError: They differ in number.

    Example:
        >>> spectral_distance(np.array([3.0, 1.0]), np.array([1.0, 6.0]))
        (3.0, 3.0, 3.0)
    """
    before, after = numbers("before", before), numbers("after", after)
    if len(before) != len(after):
        raise ValueError(f"after: expected as many values as before, {len(before)}, got {len(after)}")
    change = np.abs(np.sort(after) - np.sort(before))
    return float(change.max()), float(change.sum()), float(np.sqrt((change**2).sum()))


def spectrum_drift(
    source: Any, *, gate: str | None = None, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """How far the singular values of the recurrent weights moved between neighbouring records.

    Args:
        source: A run, a sweep, or a sequence of runs.
        gate: Gate in torch's letters; None is the candidate (LSTM g, GRU n), or the only matrix of a plain cell.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, gate, iteration, since (the record before), largest, sum, frobenius (see
        :func:`spectral_distance`) and sgd_path: the sum of lr · ‖dL/dW_hh‖_F after clipping over the iterations
        from `since` to `iteration`, by which plain SGD (no momentum, no weight decay) can have moved W_hh at most, so
        that largest <= frobenius <= sgd_path; NaN where one of its terms was not recorded. A row per run and record
        but the first.

    Raises:
        ValueError: No run has rows of the `spectrum` table, or the gate is not there.
    """
    parts = recorded(source, "spectrum", ["singular_value"], layer=layer, direction=direction)
    columns = ["layer", "direction", "gate", "iteration", "since", "largest", "sum", "frobenius", "sgd_path"]
    return collect([(run, _drift(run, of_gate(frame, gate))) for run, frame in parts])[[*IDENTITY, *columns]]


def _drift(run: Run, frame: pd.DataFrame) -> pd.DataFrame:
    place = {name: frame[name].iloc[0] for name in ("layer", "direction", "gate")}
    steps = _sgd_steps(run, str(frame["module"].iloc[0]), **{name: int(place[name]) for name in ("layer", "direction")})
    values = frame["singular_value"].to_numpy()
    records = frame.groupby("iteration").indices
    rows = []
    for since, iteration in pairwise(sorted(frame["iteration"].unique().tolist())):
        largest, total, frobenius = spectral_distance(values[records[since]], values[records[iteration]])
        path = steps.loc[since:iteration].sum(min_count=iteration - since + 1)
        row = {"iteration": iteration, "since": since, "largest": largest, "sum": total, "frobenius": frobenius}
        rows.append(row | {"sgd_path": float(path)})
    return pd.DataFrame(rows, columns=["iteration", "since", "largest", "sum", "frobenius", "sgd_path"]).assign(**place)


def _sgd_steps(run: Run, module: str, layer: int, direction: int) -> pd.Series:
    """Rate times ‖dL/dW_hh‖_F after clipping at every iteration, NaN where unknown; empty if it was not recorded."""
    parameter = f"{module}.weight_hh_l{layer}{'_reverse' * direction}".removeprefix(".")
    name = f"log_grad_after.{parameter}"
    if name not in run.columns["scalars"]:
        return pd.Series(dtype=float)
    scalars = run.frame("scalars", columns=["lr", name]).set_index("iteration")
    return scalars["lr"] * np.exp(scalars[name])
