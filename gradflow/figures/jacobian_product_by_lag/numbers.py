"""What the norms of products of Jacobians must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_most, named, only

LATE = 50  # lags from which on a Gaussian matrix has settled to its spectral radius


def jacobian_product_by_lag_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That ρ sets the rate and σ_max only bounds it, that s Q has exactly ln s at every lag, that tanh shrinks more.

    Args:
        data: What :func:`gradflow.theory.linear_slopes` returned.
    """
    linear, tanh = (only(data, weights="gaussian", cell=cell) for cell in ("linear", "rnn"))
    first = linear.iloc[0]
    late = pd.DataFrame([_late(linear)])
    details = {"sigma": np.exp(first["log_sigma"]), "rho": np.exp(first["log_rho"]), "log_rho": first["log_rho"]}
    details |= {name: f"{details[key]:.2f}" for name, key in (("largest", "sigma"), ("radius", "rho"))}
    details |= {"tanh": _late(tanh)["measured"]}
    return [
        agreement(
            "radius_sets_the_rate",
            late.assign(expected=first["log_rho"], tolerance=0.005),
            what="rate of a linear RNN: ln of the spectral radius, though σ_max > 1",
            protocol=f"Gaussian W, late slope of ln‖∂h_T/∂h_(T-k)‖, k >= {LATE}",
            **details,
        ),
        agreement(
            "exact_slope",
            _increments(only(data, weights="orthogonal")),
            what="slope of ln‖∂h_T/∂h_t‖ of a linear RNN, W = sQ: ln s",
            protocol="every lag, three s",
        ),
        at_most(
            "within_singular_bound",
            _against_bound(data[data["lag"] > 0]),
            what="‖∂h_T/∂h_(T-k)‖ <= σ_max^k",
            protocol="all curves, every lag",
        ),
        agreement(
            "grows_before_it_vanishes",
            _first_step(linear),
            what="one step of the linear RNN stretches by σ_max > 1 although it vanishes",
            protocol="Gaussian W, ‖∂h_T/∂h_(T-1)‖",
        ),
        at_most(
            "tanh_shrinks_faster",
            pd.DataFrame([_late(tanh)]).assign(expected=late["measured"], tolerance=0.0),
            what="tanh shrinks gradients faster than the same W without it",
            protocol=f"Gaussian W, white input, late slope, k >= {LATE}",
        ),
    ]


def _increments(data: pd.DataFrame) -> pd.DataFrame:
    """The rate at every lag, as the difference to the lag before."""
    ordered = data.sort_values(["scale", "lag"])
    rows = ordered.assign(measured=ordered.groupby("scale")["log_norm"].diff(), expected=np.log(ordered["scale"]))
    rows = rows[rows["lag"] > 0]
    return rows.assign(tolerance=1e-14, where=named(rows, scale="s", lag="k"))


def _against_bound(data: pd.DataFrame) -> pd.DataFrame:
    where = data["weights"].str.cat(named(data, scale="scale", lag="k"), sep=", ")
    bound = data["lag"] * data["log_sigma"]
    return data.assign(measured=data["log_norm"], expected=bound, tolerance=1e-12 * data["lag"], where=where)


def _first_step(data: pd.DataFrame) -> pd.DataFrame:
    first = only(data, lag=1)
    return first.assign(
        measured=np.exp(first["log_norm"]),
        expected=np.exp(first["log_sigma"]),
        tolerance=1e-5,
        where=named(first, scale="g", lag="k"),
    )


def _late(data: pd.DataFrame) -> dict[str, Any]:
    late = data[data["lag"] >= LATE]
    lag = (late["lag"] - late["lag"].mean()).to_numpy()
    slope = lag @ late["log_norm"].to_numpy() / (lag @ lag)  # least squares; NaN stays NaN
    return {"measured": slope, "where": f"g = {late['scale'].iloc[0]:g}"}
