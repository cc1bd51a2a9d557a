"""Which characters decided the answer of a model of names."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import claim

SURNAME_FIRST = ("generated", "corpus")  # sources of Chinese names


def name_saliency_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the scores of a linear network add up; and in Chinese names, that the surname matters less than the rest.

    Args:
        data: What :func:`gradflow.training.prediction.name_saliency` returned.
    """
    if not np.isfinite(data["norm"]).all() or not data["norm"].any():
        return []
    share = data["norm"] / data.groupby("example")["norm"].transform("sum")
    surname = float(share[data["position"] == 0].mean())
    given = float(share[data["position"] > 0].mean()) if (data["position"] > 0).any() else np.nan
    first = data.iloc[0]
    if first["source"] in SURNAME_FIRST and first["names_per_sequence"] == 1 and np.isfinite(given):
        claims = [
            claim("given_name_decides", given, f"> {surname:.3g}, of the surname", given > surname, surname=surname)
        ]
    else:
        row = data.nlargest(1, "score").iloc[0]
        details = {"character": str(row["character"]), "asked": str(row["name"])}
        claims = [claim("most_telling", row["score"], "> 0", row["score"] > 0, **details)]
    if first["cell"] == "linear":
        ends = data.groupby("example").agg(score=("score", "sum"), logit=("logit", "first"), rest=("rest", "first"))
        off = float(((ends["score"] + ends["rest"] - ends["logit"]).abs() / ends["logit"].abs().clip(lower=1)).max())
        claims.append(claim("scores_add_up", off, "<= 1e-6", off <= 1e-6))
    return claims
