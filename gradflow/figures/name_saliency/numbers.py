"""Which characters decided the answer of a model of names."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import claim

SURNAME_FIRST = ("generated", "corpus")  # sources of Chinese names


def name_saliency_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the scores of a linear network add up; and in Chinese names, that the given name pushes, not the surname.

    What pushes most is the character with the largest score. The sensitivity falls with the distance from the end
    whatever stands there, so the surname's is told beside that of characters of given names that are as far from the
    end (of names of other lengths), where there are such.

    Args:
        data: What :func:`gradflow.training.prediction.name_saliency` returned.
    """
    if not np.isfinite(data["norm"]).all() or not data["norm"].any():
        return []
    first = data.iloc[0]
    claims = [_given_name_pushes(data)] if surname_first(data) else [_most_telling(data)]
    if first["cell"] == "linear":
        ends = data.groupby("example").agg(score=("score", "sum"), logit=("logit", "first"), rest=("rest", "first"))
        off = float(((ends["score"] + ends["rest"] - ends["logit"]).abs() / ends["logit"].abs().clip(lower=1)).max())
        claims.append(claim("scores_add_up", off, "<= 1e-6", off <= 1e-6))
    return claims


def surname_first(data: pd.DataFrame) -> bool:
    """Whether the names are Chinese, each alone, whose first character is the surname."""
    first = data.iloc[0]
    return bool(first["source"] in SURNAME_FIRST and first["names_per_sequence"] == 1)


def _most_telling(data: pd.DataFrame) -> dict[str, Any]:
    row = data.nlargest(1, "score").iloc[0]
    details = {"character": str(row["character"]), "asked": str(row["name"])}
    return claim("most_telling", row["score"], "> 0", row["score"] > 0, **details)


def _given_name_pushes(data: pd.DataFrame) -> dict[str, Any]:
    """In how many names no surname has the largest score, and one of them as an example."""
    most = data.loc[data.groupby("example")["score"].idxmax()]
    pushed, shown = int((most["position"] > 0).sum()), most.iloc[0]
    details: dict[str, Any] = {
        "asked": str(shown["name"]),
        "answer": str(shown["predicted"]),
        "character": str(shown["character"]),
    }
    details |= {"total": len(most), "probability": round(100 * float(shown["probability"])), **_sensitivities(data)}
    holds = pushed > len(most) / 2
    if holds and "surname" in details:
        details["variant"] = "compared"
    return claim("given_name_pushes", pushed, f"> {len(most) / 2:g}", holds, **details)


def _sensitivities(data: pd.DataFrame) -> dict[str, Any]:
    """The sensitivity, relative to that at the end of the name, of surnames and of what else is as far from the end."""
    position = data["position"]
    last = position == data.groupby("example")["position"].transform("max")
    end = data["norm"].where(last).groupby(data["example"]).transform("max")
    back = data.groupby("example")["position"].transform("max") - position
    far = pd.DataFrame({"back": back, "surname": position == 0, "weight": data["norm"] / end})
    means = far[(far["back"] > 0) & np.isfinite(far["weight"])].groupby(["back", "surname"])["weight"].mean().unstack()
    if set(means) != {True, False} or means.dropna().empty:
        return {}
    surname, given = (float(means.dropna()[which].mean()) for which in (True, False))
    return {"surname": surname, "given": given}
