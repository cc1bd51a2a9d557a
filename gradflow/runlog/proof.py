"""Whether a record is proved: what the residuals in its table `proof` amount to.

Two identities are asked, at some iterations, of every layer and direction of every module. *Forward*: one step of the
cell from what entered gives the state that was seen. *Backward*: the recorded gradients add up to the gradient of the
recurrent weights. A residual is relative, and NaN where its identity could not be asked.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

RESIDUALS = ("forward_residual", "backward_residual")
TOLERANCE = "proof_tolerance"
"""Entry of `run.json`: the largest residual of an identity that holds."""

_PLACE = ["module", "layer", "direction"]


def verdict(rows: pa.Table, tolerance: float | None) -> str:
    """The worst of what was asked: "failed", then "unproved", then "proved".

    A residual above the tolerance, or infinite, fails the record, at whichever iteration. Otherwise it is proved if in
    every place (module, layer and direction) each identity was asked at least once: where one could not be asked at
    some iteration or call, as after training diverged, those that were still stand. A record without rows, or whose
    log states no tolerance, is unproved.

    Args:
        rows: the table `proof`.
        tolerance: see :func:`tolerance_in`.
    """
    if not len(rows) or tolerance is None:
        return "unproved"
    residuals = np.abs([rows[name].to_numpy() for name in RESIDUALS])
    if (residuals > tolerance).any():
        return "failed"
    places = list(zip(*(rows[key].to_pylist() for key in _PLACE), strict=True))
    asked = [set(itertools.compress(places, known)) for known in ~np.isnan(residuals)]
    return "proved" if all(those == set(places) for those in asked) else "unproved"


def tolerance_in(description: Mapping[str, Any]) -> float | None:
    """The tolerance that `run.json` states, or where it is older than proofs, the first resumption that states one."""
    stated = [entry.get(TOLERANCE) for entry in (description, *description.get("resumptions", ()))]
    return next((tolerance for tolerance in stated if tolerance is not None), None)
