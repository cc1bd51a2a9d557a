"""What the gradients of an RNN unrolled over time must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_most, named, only

_PROTOCOL = "torch.nn.RNN as it comes, H = 64, T = 20 one-hot symbols; 8 networks of 16 examples"


def unrolled_graph_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the gradient fades by the same factor at every step back, which mean-field theory predicts.

    Args:
        data: What :func:`gradflow.theory.unrolled_gradients` returned.
    """
    slope, gradient = (only(data, quantity=name) for name in ("slope", "gradient"))
    gradient = gradient.assign(where=named(gradient, lag="k"))
    details = {"first": float(np.exp(only(gradient, time=0)["measured"].iloc[0])), "steps": len(gradient)}
    details["back"] = len(gradient) - 1  # between so many states
    return [
        agreement(
            "same_factor_every_step",
            slope.assign(
                measured=np.exp(slope["measured"]),
                expected=np.exp(slope["expected"]),
                tolerance=0.02,
                where="lags 0 to 19",
            ),
            what="one step back multiplies the gradient by √(E[tanh'²]/3)",
            protocol=_PROTOCOL,
            **details,
        ),
        agreement(
            "every_lag_as_predicted",
            gradient.assign(tolerance=4 * gradient["deviation"] / 8**0.5 + 0.02),
            what="ln‖dL/dh_(T-k)‖ falls by mean-field theory's rate at every lag",
            protocol=f"{_PROTOCOL}; within 4 standard errors and 0.02",
        ),
        at_most(
            "fades_at_every_step",
            _steps_back(gradient),
            what="every single step back shrinks the gradient",
            protocol=_PROTOCOL,
        ),
    ]


def _steps_back(gradient: pd.DataFrame) -> pd.DataFrame:
    """What every step adds to the logarithm."""
    ordered = gradient.sort_values("lag")
    return ordered.assign(measured=ordered["measured"].diff(), expected=0.0, tolerance=0.0).iloc[1:]
