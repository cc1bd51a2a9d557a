"""What the composition of a tanh layer with itself must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_least, named, only

TOLERANCE = 0.03  # nats per composition: four standard errors of the mean over ten networks


def repeated_composition_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That slopes are products of Jacobians, grow as mean-field theory says, and turn more and more often.

    Args:
        data: What :func:`gradflow.theory.repeated_composition` returned.
    """
    growth, slope = only(data, quantity="growth"), only(data, quantity="slope")
    deepest = slope["k"].max()
    last = only(slope, k=deepest)["measured"].abs()
    turns = only(data, quantity="turning_points")
    shown = only(turns, network=0, k=deepest)["measured"].iloc[0]
    details = {"compositions": deepest, "steepest": last.max(), "middle": last.median(), "turns": shown}
    details |= {"factor": np.exp(growth["measured"].iloc[0]), "theory": np.exp(growth["expected"].iloc[0])}
    protocol = "tanh(W h), H = 100, g = 4, along a line through the inputs"
    return [
        agreement(
            "slope_grows_by_composition",
            growth.assign(tolerance=TOLERANCE, where=f"k = 2 to {deepest:g}"),
            what="growth of the slope per composition: ½ ln(g² E[φ'²]) of mean-field theory",
            protocol=f"{protocol}, mean of {turns['network'].nunique()} networks",
            **details,
        ),
        agreement(
            "slope_is_product_of_jacobians",
            slope.assign(tolerance=1e-7 * last.max(), where=named(slope, k="k", s="s")),
            what="slope of f^k: J_k … J_1, against central differences",
            protocol=protocol,
        ),
        at_least(
            "turns_more_often",
            _gained(turns),
            what="f^k turns more often than f in every network",
            protocol=f"{protocol}, {turns['network'].nunique()} networks",
        ),
    ]


def _gained(turns: pd.DataFrame) -> pd.DataFrame:
    """Turning points of the deepest composition beside those of the first, which they must exceed."""
    deepest = only(turns, k=turns["k"].max())
    first = only(turns, k=1).set_index("network")["measured"].reindex(deepest["network"])
    return deepest.assign(expected=first.to_numpy() + 1, tolerance=0.0, where=named(deepest, network="network"))
