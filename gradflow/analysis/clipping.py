"""How often clipping acted, and the gradient norm before it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import Run, collect, runs_of


def log_norm_before(scalars: Mapping[str, np.ndarray] | pd.DataFrame) -> Any:
    """Natural log of the norm of all gradients before clipping; the only norm where clipping was not recorded.

    Of a frame a series, of arrays an array.
    """
    before, after, clipped = (scalars[name] for name in ("log_grad_norm_before", "log_grad_norm_after", "clipped"))
    unknown = np.isnan(np.asarray(before)) & np.isnan(np.asarray(clipped))
    norm = np.where(unknown, after, before)
    return pd.Series(norm, before.index, name=before.name) if isinstance(before, pd.Series) else norm


def clipped_share(source: Any) -> pd.DataFrame:
    """In which share of its iterations clipping changed the gradients of each run.

    Iterations follow from one another, so there is no interval over them; the one over seeds is
    `over_seeds(data, "share")`.

    Args:
        source: A run, a sweep, or a sequence of runs.

    Returns:
        The columns IDENTITY, iterations (for which the log says whether clipping acted), share (NaN where it says so
        for none), coefficient (geometric mean of what clipping multiplied by where it acted).
    """
    return collect([(run, _share(run)) for run in runs_of(source)])


def _share(run: Run) -> pd.DataFrame:
    scalars = run.frame("scalars", columns=["clipped", "coefficient"])
    clipped, acted = scalars["clipped"].dropna(), scalars.loc[scalars["clipped"] == 1, "coefficient"]
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(acted).mean())
    return pd.DataFrame([{"iterations": len(clipped), "share": clipped.mean(), "coefficient": mean}])
