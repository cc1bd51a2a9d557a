"""What the curse of memory must keep to."""

from typing import Any

import pandas as pd

from gradflow.analysis.verdicts import agreement, named, only

STANDARD_ERRORS = 4.0


def memory_sensitivity_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That state and sensitivity grow with λ as they must, while no gradient through time exceeds 1.

    Args:
        data: What :func:`gradflow.theory.memory_curse` returned.
    """
    state, sensitivity, gradient = (_told(data, name) for name in ("state", "sensitivity", "state_gradient"))
    last = sensitivity.nlargest(1, "decay").iloc[0]
    details = {"decay": last["decay"], "measured": last["measured"], "exact": last["expected"]}
    details |= {"state": only(state, decay=last["decay"])["measured"].iloc[0]}
    protocol = "h' = λh + x, white x, 16,000 examples, within 4 standard errors"
    return [
        agreement(
            "sensitivity_explodes",
            sensitivity,
            what="E[(dh/dλ)²] = (1 + λ²) / (1 - λ²)³",
            protocol=protocol,
            **details,
        ),
        agreement("state_variance", state, what="E[h²] = 1 / (1 - λ²)", protocol=protocol),
        agreement("state_gradient_is_one", gradient, what="the largest ∂h_T/∂h_t is 1", protocol="h' = λh + x"),
    ]


def _told(data: pd.DataFrame, quantity: str) -> pd.DataFrame:
    rows = only(data, quantity=quantity)
    tolerance = (STANDARD_ERRORS * rows["standard_error"]).clip(lower=1e-12)
    return rows.assign(tolerance=tolerance, where=named(rows, decay="λ"))
