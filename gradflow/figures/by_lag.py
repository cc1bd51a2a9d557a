"""What figures by lag call what they draw: gradients of the whole loss, or of the loss at single positions."""

from typing import NamedTuple

import pandas as pd

from gradflow.figures.catalogue import Labels


class OfLag(NamedTuple):
    """The words of a figure by lag: of the gradient relative to lag 0, of the lag, and of what is anchored (if any)."""

    gradient: str
    lag: str
    notes: list[str]


def of_lag(data: pd.DataFrame, labels: Labels) -> OfLag:
    """What a table by lag is of: the whole loss and the end, single positions of the loss, or some of each.

    Args:
        data: with the column `anchored` of :func:`gradflow.analysis.by_lag.lag_gradient`.
        labels: of a language.
    """
    anchored = set(data["anchored"])
    if anchored == {False}:
        return OfLag(labels("axis.relative_gradient"), labels("axis.lag"), [])
    lag = labels("axis.lag_anchored" if anchored == {True} else "axis.lag_short")
    names = ["axis.relative_gradient"] * (False in anchored) + ["axis.anchored_gradient"]
    return OfLag(labels("list.separator").join(map(labels, names)), lag, [labels("note.anchored")])
