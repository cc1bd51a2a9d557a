"""What fixed points, folds and sensitivities of the single unit must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, named, only

PUBLISHED_FOLDS = (-2.65561, -2.34439)


def bifurcation_diagram_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That ln|dx_T/db| grows with T where basins meet and nowhere else, and that the folds are where they must be.

    Args:
        data: What :func:`gradflow.theory.bifurcation` returned.
    """
    crossing, folds, basins = (only(data, quantity=name) for name in ("crossing", "fold", "attractors"))
    sensitivity = only(data, quantity="sensitivity")
    settled = sensitivity[sensitivity["expected"].notna()]
    longest, shortest = crossing.nlargest(1, "steps").iloc[0], crossing.nsmallest(1, "steps").iloc[0]
    rate = (longest["measured"] - shortest["measured"]) / (longest["steps"] - shortest["steps"])
    details = {"b": longest["b"], "steps": int(longest["steps"]), "factor": np.exp(rate)}
    details |= {"elsewhere": np.exp(settled["measured"].max()), "explosion": np.exp(longest["measured"])}
    published = folds.sort_values("b").assign(expected=PUBLISHED_FOLDS, tolerance=5e-6)
    unit = "w = 5, x_0 = 0.5"
    return [
        agreement(
            "explodes_where_basins_meet",
            crossing.assign(tolerance=_rounding(crossing["expected"]), where=named(crossing, steps="T")),
            what="ln|dx_T/db| where x_0 is an unstable fixed point: ln((r^T - 1) / (r - 1))",
            protocol=f"{unit}, b = 0.5 - 5 σ(0.5)",
            **details,
        ),
        agreement(
            "constant_elsewhere",
            settled.assign(tolerance=1e-9, where=named(settled, b="b", steps="T")),
            what="ln|dx_T/db| elsewhere: -ln(1 - J) of the fixed point, for every T",
            protocol=f"{unit}, every b at which x_T has forgotten x_0",
        ),
        agreement(
            "folds",
            pd.concat([published, folds.assign(tolerance=1e-12)]).pipe(lambda r: r.assign(where=named(r, b="b"))),
            what="folds of x = 5 σ(x) + b at b = -2.65561 and -2.34439",
            protocol="where the Jacobian of a fixed point is 1; published digits and closed form",
        ),
        agreement(
            "attractors",
            basins.assign(tolerance=0.5, where=named(basins, b="b")),
            what="two attractors between the folds, one outside",
            protocol="2,000 steps from far below and far above",
        ),
    ]


def _rounding(log_sensitivity: pd.Series) -> pd.Series:
    """What a rounding of x grows to on an unstable fixed point: as dx_T/db itself."""
    return 1e-9 + np.finfo(float).eps * np.exp(log_sensitivity)
