"""What saturation and gradients of random tanh networks must keep to."""

from typing import Any

import pandas as pd

from gradflow.analysis.verdicts import agreement, at_least, at_most, named, only


def activation_saturation_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That slopes and φ' are those of mean-field theory, φ' ≤ 1, and that gradients explode though units saturate.

    Args:
        data: What :func:`gradflow.theory.mean_field_slopes` returned.
    """
    slope, mean = only(data, quantity="slope"), only(data, quantity="mean")
    moments = pd.concat([mean, only(data, quantity="root_mean_square")])
    strongest, protocol = slope["gain"].max(), "tanh, H = 256, input of variance 1, 4 networks of 8 examples"
    most = only(slope, gain=strongest)
    details = {"gain": strongest, "mean": only(mean, gain=strongest)["measured"].iloc[0]}
    details |= {"steepest": most["measured"].iloc[0], "low": slope["measured"].min(), "gain_low": slope["gain"].min()}
    return [
        agreement(
            "mean_field_slope",
            slope.assign(tolerance=0.03, where=named(slope, gain="g")),
            what="slope of ln‖dL/dh_t‖: ½ ln(g² E[φ'²]) of mean-field theory",
            protocol=protocol,
            **details,
        ),
        agreement(
            "mean_field_derivative",
            moments.assign(tolerance=0.01, where=moments["quantity"].str.cat(named(moments, gain="g"), sep=", ")),
            what="mean and root mean square of φ': those of mean-field theory",
            protocol=protocol,
        ),
        at_most(
            "derivative_at_most_one",
            _largest(data),
            what="φ' = 1 - tanh² <= 1",
            protocol=protocol,
        ),
        at_least(
            "saturated_yet_exploding",
            most.assign(expected=0.0, tolerance=0.0, where=named(most, gain="g")),
            what="gradients grow at the largest g, where φ' is smallest",
            protocol=protocol,
        ),
    ]


def _largest(data: pd.DataFrame) -> pd.DataFrame:
    rows = only(data, quantity="largest")
    return rows.assign(expected=1.0, tolerance=0.0, where=named(rows, gain="g"))
