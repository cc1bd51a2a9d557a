"""What Lyapunov exponents of random networks must keep to."""

from typing import Any

import pandas as pd

from gradflow.analysis.verdicts import agreement, at_most, named, only

BELOW_ONE, ABOVE_ONE = 0.06, 0.025
"""Tolerances at N = 400: below g = 1 λ_1 is ln ρ(W), about 0.04 over ln g; above it finite N takes up to 0.015."""


def lyapunov_spectrum_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That λ_1 is that of mean-field theory, ln ρ where the Jacobian is W, lower with input; what the sum must be.

    Args:
        data: What :func:`gradflow.theory.lyapunov_gains` returned.
    """
    largest = only(data, quantity="largest")
    autonomous = _mean_of_networks(only(largest, system="autonomous"))
    exact = data[data["exact"].notna()].assign(expected=data["exact"])
    known, spectrum, sums, equal = (
        only(exact, quantity=name) for name in ("largest", "spectrum", "determinant", "orthogonal")
    )
    strongest = autonomous.nlargest(1, "gain").iloc[0]
    details = {"gain": strongest["gain"], "largest": strongest["measured"], "networks": largest["network"].nunique()}
    return [
        agreement(
            "chaos_of_mean_field",
            autonomous.assign(
                expected=autonomous["mean_field"],
                tolerance=[BELOW_ONE if gain < 1 else ABOVE_ONE for gain in autonomous["gain"]],
                where=named(autonomous, gain="g"),
            ),
            what="largest Lyapunov exponent of h ← tanh(W h): ln(g √E[φ'²]) of mean-field theory",
            protocol="W_ij ~ N(0, g²/N), N = 400, 400 steps after 300, mean of 3 networks",
            **details,
        ),
        agreement(
            "radius_where_linear",
            known.assign(tolerance=0.005, where=_placed(known)),
            what="λ_1 = ln ρ(W) of linear networks, and of tanh ones below g = 1",
            protocol="N = 400, each W by itself",
        ),
        agreement(
            "eigenvalues_where_linear",
            spectrum.assign(tolerance=0.01, where=named(spectrum, gain="g", position="i/N")),
            what="all λ_i = ln|eigenvalue of W| below g = 1",
            protocol="tanh without input, N = 150",
        ),
        agreement(
            "all_equal_where_orthogonal",
            equal.assign(tolerance=1e-14, where=named(equal, gain="s", position="i/N")),
            what="every λ_i of W = sQ is ln s",
            protocol="linear, N = 30, 700 steps",
        ),
        agreement(
            "sum_is_log_determinant",
            sums.assign(tolerance=1e-9 * sums["expected"].abs(), where=named(sums, gain="g")),
            what="Σ λ_i = mean of ln|det J_t|",
            protocol="tanh without input, N = 150",
        ),
        at_most(
            "input_lowers",
            _against(data, "driven", "autonomous", 0.0),
            what="input lowers λ_1",
            protocol="N = 400, the same W, input of variance ¼",
        ),
        at_most(
            "tanh_at_most_linear",
            _against(data, "autonomous", "linear", 0.005),
            what="λ_1 with tanh is at most that without",
            protocol="N = 400, the same W",
        ),
    ]


def _mean_of_networks(rows: pd.DataFrame) -> pd.DataFrame:
    """NaN where one of them is."""
    measured = rows.pivot(index=["gain", "mean_field"], columns="network", values="measured")
    return pd.DataFrame({"measured": measured.to_numpy().mean(1)}, measured.index).reset_index()


def _placed(rows: pd.DataFrame) -> pd.Series:
    return rows["system"].str.cat(named(rows, gain="g", network="network"), sep=", ")


def _against(data: pd.DataFrame, lower: str, upper: str, tolerance: float) -> pd.DataFrame:
    """λ_1 of one system against that of another, for networks that are in both."""
    low, high = (only(data, quantity="largest", system=system) for system in (lower, upper))
    both = low.merge(high, on=["gain", "network"], suffixes=("", "_upper"))
    return both.assign(expected=both["measured_upper"], tolerance=tolerance, where=named(both, gain="g"))
