"""What tanh and its derivative must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_most, named, only


def tanh_derivative_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That tanh' is 1 at 0 and below 1 / (1 + a²) elsewhere, and what a product of such factors leaves.

    Args:
        data: What :func:`gradflow.theory.tanh_derivative` returned.
    """
    product, slope = only(data, quantity="product"), only(data, quantity="derivative")
    last = product[product["steps"] == product["steps"].max()]
    one = only(product, steps=1)["measured"].iloc[0]
    details = {"steps": last["steps"].iloc[0], "preactivation": last["a"].iloc[0], "factor": one}
    known = pd.concat([only(data, quantity="tanh"), slope])
    protocol = "Jacobian of a tanh unit whose recurrent weight is 1"
    return [
        agreement(
            "twenty_steps_leave",
            last.assign(tolerance=1e-12 * last["expected"], where=named(last, a="a", steps="steps")),
            what="∂h_T/∂h_(T-k) = (1 - tanh²(a))^k where every step has the same a",
            protocol=protocol,
            **details,
        ),
        agreement(
            "derivative_of_tanh",
            known.assign(tolerance=1e-15, where=known["quantity"].str.cat(named(known, a="a"), sep=", ")),
            what="tanh'(a) = 1 / cosh²(a)",
            protocol=protocol,
        ),
        agreement(
            "one_at_zero",
            _at(slope[slope["a"] == 0]).assign(expected=1.0, tolerance=1e-15),
            what="tanh'(0) = 1",
            protocol=protocol,
        ),
        at_most(
            "below_one_elsewhere",
            _at(slope).assign(expected=1 / (1 + np.square(slope["a"])), tolerance=0.0),
            what="tanh'(a) <= 1 / (1 + a²), which is below 1 but at 0",
            protocol=protocol,
        ),
    ]


def _at(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(where=named(rows, a="a"))
