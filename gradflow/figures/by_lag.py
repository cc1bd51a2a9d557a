"""What figures by lag call what they draw: gradients of the whole loss, or of the loss at single positions."""

from typing import NamedTuple

import pandas as pd

from gradflow.figures.catalogue import Labels


class OfLag(NamedTuple):
    """The words of a figure by lag: of the gradient relative to lag 0, of the lag, and what to say in the caption."""

    gradient: str
    lag: str
    notes: list[str]


def of_lag(data: pd.DataFrame, labels: Labels) -> OfLag:
    """What a table by lag is of: the whole loss and the end, single positions of the loss, or some of each.

    Args:
        data: what :func:`gradflow.analysis.by_lag.lag_gradient` returned, of any number of runs.
        labels: of a language.
    """
    kinds = set(data["anchored"])
    whole, anchored = labels("axis.relative_gradient"), labels("axis.anchored_gradient")
    unreached = (data["lag"] == 0) & (data["zeros"] > 0) & ~data["anchored"].astype(bool)
    notes = [labels("note.reached")] if unreached.any() else []
    notes += [labels("note.sum")] if data["many_steps"].any() else []
    if kinds == {False}:
        return OfLag(whole, labels("axis.lag"), notes)
    notes.append(labels("note.anchored"))
    if kinds == {True}:
        return OfLag(anchored, labels("axis.lag_anchored"), notes)
    return OfLag(whole + labels("list.separator") + anchored, labels("axis.lag_short"), notes)
