"""How training moves the singular values of the recurrent weights."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY, claim, collect, curve_name, one_seed, recorded, runs_of
from gradflow.analysis.spectrum import of_gate


def singular_values_over_training(
    source: Any, *, gate: str | None = None, layer: int | None = None, direction: int = 0
) -> pd.DataFrame:
    """All singular values of the recurrent weights at every record; one seed per setting.

    Args:
        source: A run, a sweep, or a sequence of runs.
        gate: Gate in torch's letters; None is the candidate (LSTM g, GRU n), or the only matrix of a plain cell.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, gate, quantity, iteration, index, value. Rows of quantity
        `singular_value` are sorted, largest first (so crossings look like repulsion); `spectral_radius` is the
        largest modulus of an eigenvalue; rows of quantity `clipped` are the iterations at which clipping acted.

    Raises:
        ValueError: No run has rows of the `spectrum` table, or the gate is not there.
    """
    parts = []
    columns = ["singular_value", "eigenvalue_re", "eigenvalue_im"]
    for run, frame in recorded(one_seed(runs_of(source)), "spectrum", columns, layer=layer, direction=direction):
        own = of_gate(frame, gate)
        values = _values(own)
        scalars = run.scalars
        acted = pd.DataFrame({"quantity": "clipped", "iteration": scalars.index[scalars["clipped"] == 1]})
        both = pd.concat([values, acted.assign(index=-1, value=1.0)], ignore_index=True)
        place = {name: own[name].iloc[0] for name in ("layer", "direction", "gate")}
        parts.append((run, both.assign(**place)))
    return collect(parts)[[*IDENTITY, "layer", "direction", "gate", "quantity", "iteration", "index", "value"]]


def _values(frame: pd.DataFrame) -> pd.DataFrame:
    singular = frame[["iteration", "index", "singular_value"]].rename(columns={"singular_value": "value"})
    modulus = (frame["eigenvalue_re"] ** 2 + frame["eigenvalue_im"] ** 2) ** 0.5
    radius = modulus.groupby(frame["iteration"]).max().rename("value").reset_index().assign(index=0)
    return pd.concat([singular.assign(quantity="singular_value"), radius.assign(quantity="spectral_radius")])


def singular_values_over_training_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """By how much training changed the largest singular value; and that no eigenvalue exceeds it."""
    keys = ["cell", "start", "clip"]
    leading = data[(data["quantity"] == "singular_value") & (data["index"] == 0)].sort_values("iteration")
    records = leading.groupby(keys, sort=False)["value"]
    ends = records.agg(first=lambda values: values.iloc[0], last=lambda values: values.iloc[-1]).reset_index()
    ends["growth"] = ends["last"] / ends["first"]
    if leading["iteration"].nunique() < 2 or not np.isfinite(ends["growth"]).any():
        return []
    most = ends.nlargest(1, "growth").iloc[0]
    details = {"first": most["first"], "last": most["last"], "curve": curve_name(most)}
    details |= {"grown": int((ends["growth"] > 1).sum()), "total": len(ends)}
    radius = data[data["quantity"] == "spectral_radius"].set_index([*keys, "iteration"])["value"]
    ratio = (radius / leading.set_index([*keys, "iteration"])["value"]).max()
    return [
        claim("largest_grows", most["growth"], "> 1", most["growth"] > 1, **details),
        claim("radius_within_norm", ratio, "<= 1", ratio <= 1 + 1e-5),
    ]
