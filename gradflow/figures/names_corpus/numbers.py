"""What the characters and lengths of a corpus of names must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import claim

MOST = 0.5  # of what is written
_EXACT = 1e-9


def names_corpus_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the kept characters, few as they are, make up most of what is written; and that the shares are whole.

    Args:
        data: What :func:`gradflow.data.names_corpus` returned.
    """
    share = {quantity: rows["share"] for quantity, rows in data.groupby("quantity")}
    kept, left_out = (share.get(name, pd.Series(dtype=float)) for name in ("kept", "left_out"))
    covered, distinct = kept.sum(skipna=False), len(kept) + len(left_out)
    details = {"kept": len(kept), "distinct": distinct, "covered": 100 * covered, "inside": 100 * share["inside"].sum()}
    wholes = [covered + left_out.sum(skipna=False), share["length"].sum(skipna=False)]
    wholes += list(data[data["quantity"] == "length_by_label"].groupby("label")["share"].sum(min_count=1))
    off = float(np.max(np.abs(np.array(wholes) - 1)))
    return [
        claim("vocabulary_covers", covered, f">= {MOST:g}", covered >= MOST, **details),
        claim("shares_are_whole", off, f"<= {_EXACT:g}", off <= _EXACT),
    ]
