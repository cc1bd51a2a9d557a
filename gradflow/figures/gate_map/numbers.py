"""How many units of a model remember a whole sequence."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import (
    claim,
)


def gate_map_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether units remember longer than the sequence; that these are the ones whose gates multiply to more than 1/e.

    Args:
        data: What :func:`gradflow.training.prediction.gate_map` returned.
    """
    units = data.groupby("rank").agg(scale=("time_scale", "first"), product=("value", "prod"), steps=("value", "size"))
    if not units["scale"].notna().all():
        return []
    longer, kept = units["scale"] > units["steps"], units["product"] > np.exp(-1)
    details = {"longer": int(longer.sum()), "units": len(units), "steps": int(units["steps"].iloc[0])}
    share = float(longer.mean())
    return [
        claim("units_outlast", share, "> 0", 0 < share <= 1, **details),
        claim("outlasting_is_keeping", float((longer != kept).sum()), "0 units", bool((longer == kept).all())),
    ]
