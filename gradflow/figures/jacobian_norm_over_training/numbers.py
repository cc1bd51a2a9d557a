"""The largest singular value of the Jacobian of each step against that of the recurrent weights, over training."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY, DoesNotApply, Run, claim, collect, one_seed, recorded, runs_of
from gradflow.analysis.spectrum import of_gate
from gradflow.cells.facts import CANDIDATE_GATES, WITHOUT_GATES

ONE = 1 + 1e-4  # the Jacobian's is found to a relative error of 1e-5; that of a rotation is 1 but for rounding
_QUANTILES = {f"log_jacobian_spectral_{q}": name for q, name in (("q10", "low"), ("q50", "median"), ("q90", "high"))}


def jacobian_norm_over_training(source: Any, *, layer: int | None = None, direction: int = 0) -> pd.DataFrame:
    """σ_1(J_t) at each position against σ_1(W_hh), where the log has both; one seed per setting.

    Args:
        source: A run, a sweep, or a sequence of runs; those that recorded only one of them are left out.
        layer: 0-based; None is the top layer.
        direction: 0 forward, 1 reverse.

    Returns:
        The columns IDENTITY, layer, direction, gate, iteration, time, low, median, high (σ_1 of the Jacobian: 10 %,
        50 % and 90 % quantile over the recorded examples, without those whose Jacobian is zero or not finite), weights
        (σ_1 of the recurrent weights: of a gated cell those of its candidate, LSTM g, GRU n).

    Raises:
        DoesNotApply: No run has both at one iteration.
        ValueError: No run has rows of the `time` table.
    """
    parts = []
    for run, frame in recorded(one_seed(runs_of(source)), "time", list(_QUANTILES), layer=layer, direction=direction):
        if set(_QUANTILES) <= set(frame):
            norms = frame.rename(columns=_QUANTILES).dropna(subset="median")
            norms[list(_QUANTILES.values())] = np.exp(norms[list(_QUANTILES.values())].astype("float64"))
            parts.append((run, norms.merge(_weights(run, layer, direction), on="iteration")))
    if not any(len(frame) for _, frame in parts):
        raise DoesNotApply(
            "log_jacobian_spectral: expected it and the spectrum of W_hh at one iteration, got none in any run; name "
            "it in record(quantities=) and let spectrum_every be a multiple of every"
        )
    data = collect([(run, frame) for run, frame in parts if len(frame)])
    return data[[*IDENTITY, "layer", "direction", "gate", "iteration", "time", *_QUANTILES.values(), "weights"]]


def _weights(run: Run, layer: int | None, direction: int) -> pd.DataFrame:
    """Gate and σ_1 by iteration; no rows where none was recorded."""
    try:
        [(_, frame)] = recorded([run], "spectrum", ["singular_value"], layer=layer, direction=direction)
    except ValueError:
        return pd.DataFrame({"iteration": [], "gate": [], "weights": []})
    largest = of_gate(frame).rename(columns={"singular_value": "weights"}).groupby("iteration")
    return largest[["gate", "weights"]].max().reset_index()


def jacobian_norm_over_training_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the Jacobian never stretches more than the weights, and in how many steps it shrinks though they stretch.

    That is so where |φ'| <= 1, in cells without gates. Of others: whether the two lie on other sides of 1 in any step.
    """
    data = data.replace(np.inf, np.nan).dropna(subset=["median", "high", "weights"])
    plain = data["cell"].isin(WITHOUT_GATES)
    return _of_plain(data[plain]) + _of_gated(data[~plain])


def _of_plain(data: pd.DataFrame) -> list[dict[str, Any]]:
    if data.empty:
        return []
    most, typical = ((data[name] / data["weights"]).agg(how) for name, how in (("high", "max"), ("median", "median")))
    misled = int(((data["median"] < 1) & (data["weights"] > ONE)).sum())
    name = "weights_do_not_tell" if misled else "weights_tell"
    return [claim(name, most, "<= 1", most <= ONE, misled=misled, typical=typical, total=len(data))]


def _of_gated(data: pd.DataFrame) -> list[dict[str, Any]]:
    if data.empty:
        return []
    apart = int(((data["median"] > 1) != (data["weights"] > ONE)).sum())
    if not data["gate"].isin(CANDIDATE_GATES).all():  # some cell of one's own, of which no more is known
        return [claim("weights_beside_jacobians", apart, "> 0", apart > 0, total=len(data))]
    return [claim("candidate_does_not_tell", apart, "> 0", apart > 0, total=len(data))]
