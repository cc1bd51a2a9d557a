"""Whether the record can be believed and is long enough."""

import numpy as np

from gradflow.analysis.explosions import WINDOW
from gradflow.diagnosis.case import Case
from gradflow.diagnosis.condition import Condition, Measurement, Remedy, Unknown

_RESIDUALS = ("forward_residual", "backward_residual")


def unproved(case: Case) -> Measurement:
    """The worst residual of the identities that prove a record."""
    verdict = case.run.proof
    tolerance = float(case.run.meta.get("proof_tolerance") or np.nan)
    residuals = case.run.frame("proof", columns=_RESIDUALS)[list(_RESIDUALS)].abs().to_numpy()
    worst = float(np.nanmax(residuals)) if np.isfinite(residuals).any() else np.nan
    worst = np.inf if np.isinf(residuals).any() else worst
    if verdict == "unproved":
        raise Unknown("unproved", worst, tolerance)
    remedy = Remedy("", 'gf.record(model, "outputs/again", optimizer=optimizer)  # modules called')
    return Measurement(worst, tolerance, verdict == "failed", remedy=remedy)


def too_short(case: Case) -> Measurement:
    """How many iterations were recorded; of a run that goes on that is not known yet."""
    count = len(case.run.frame("scalars", columns=["loss"]))
    if count < WINDOW and case.run.status == "running":
        raise Unknown("running", count, WINDOW)
    remedy = Remedy(f"train.iterations={WINDOW}", f"for iteration in range({WINDOW}): ...  # as many updates at least")
    return Measurement(count, WINDOW, count < WINDOW, remedy=remedy)


PROOF = Condition(
    "record_unproved",
    "1",
    unproved,
    whole=True,
)
SHORT = Condition(
    "log_too_short",
    "iterations",
    too_short,
    whole=True,
)
