"""What one-hot vectors must keep to."""

from typing import Any

import pandas as pd

from gradflow.analysis.runs import claim


def one_hot_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That every step is one 1 among zeros, in the column of its character.

    Args:
        data: What :func:`gradflow.data.one_hot` returned.
    """
    ones, steps, size = data[data["value"] == 1], data["time"].nunique(), data["index"].nunique()
    whole = len(data) == steps * size and bool(data["value"].isin([0, 1]).all())
    right = len(ones) == steps and ones["time"].is_unique and bool((ones["character"] == ones["entry"]).all())
    details = {"asked": "".join(data.groupby("time")["character"].first()), "steps": steps, "size": size}
    details |= {"numbers": str(len(data))}
    return [claim("one_per_step", len(ones), f"{steps}, one per step", whole and right, **details)]
