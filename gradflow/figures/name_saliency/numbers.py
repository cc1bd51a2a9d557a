"""Which characters decided the answer of a model of names."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import claim

SURNAME_FIRST = ("generated", "corpus")  # sources of Chinese names


def name_saliency_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the scores of a linear network add up; and in Chinese names, that the surname matters less than the rest.

    The sensitivity falls with the distance from the end whatever stands there, so a surname is compared with characters
    of given names that are as far from the end (of names of other lengths); without such, nothing is said of it.

    Args:
        data: What :func:`gradflow.training.prediction.name_saliency` returned.
    """
    if not np.isfinite(data["norm"]).all() or not data["norm"].any():
        return []
    first = data.iloc[0]
    chinese = first["source"] in SURNAME_FIRST and first["names_per_sequence"] == 1
    claims = _surname_against_given(data) if chinese else []
    if not claims:
        row = data.nlargest(1, "score").iloc[0]
        details = {"character": str(row["character"]), "asked": str(row["name"])}
        claims = [claim("most_telling", row["score"], "> 0", row["score"] > 0, **details)]
    if first["cell"] == "linear":
        ends = data.groupby("example").agg(score=("score", "sum"), logit=("logit", "first"), rest=("rest", "first"))
        off = float(((ends["score"] + ends["rest"] - ends["logit"]).abs() / ends["logit"].abs().clip(lower=1)).max())
        claims.append(claim("scores_add_up", off, "<= 1e-6", off <= 1e-6))
    return claims


def _surname_against_given(data: pd.DataFrame) -> list[dict[str, Any]]:
    """The sensitivity, relative to that at the end of the name, of surnames and of what else is as far from the end."""
    position = data["position"]
    last = position == data.groupby("example")["position"].transform("max")
    end = data["norm"].where(last).groupby(data["example"]).transform("max")
    back = data.groupby("example")["position"].transform("max") - position
    far = pd.DataFrame({"back": back, "surname": position == 0, "weight": data["norm"] / end})
    means = far[(far["back"] > 0) & np.isfinite(far["weight"])].groupby(["back", "surname"])["weight"].mean().unstack()
    if set(means) != {True, False} or means.dropna().empty:
        return []
    surname, given = (float(means.dropna()[which].mean()) for which in (True, False))
    expected = f"> {surname:.3g}, of a surname as far from the end"
    return [claim("given_name_decides", given, expected, given > surname, surname=surname)]
