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
    asked = "".join(data.groupby("time")["character"].first())
    details: dict[str, Any] = {"asked": asked, "steps": steps, "size": size, "numbers": str(len(data))}
    entries = list(data.groupby("index")["entry"].first())
    indices = {character: str(index) for index, character in enumerate(entries)}
    first = ", ".join(f"{character} {index}" for character, index in list(indices.items())[:3])
    read = ", ".join(indices.get(character, "?") for character in asked)
    details |= {"build": "one_hot", "dictionary": first, "indices": read}
    return [claim("one_per_step", len(ones), f"{steps}, one per step", whole and right, **details)]
