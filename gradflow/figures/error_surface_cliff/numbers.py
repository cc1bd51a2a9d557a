"""What the error surface of the single unit and the descents over it must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_most, named, only

THRESHOLD = 0.5


def error_surface_cliff_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the cliff lies on its line with the gradient it must have, and that only clipping survives it.

    Args:
        data: What :func:`gradflow.theory.cliff` returned.
    """
    unclipped, clipped = only(data, quantity="unclipped"), only(data, quantity="clipped")
    line, ridge = only(data, quantity="cliff"), only(data, quantity="ridge")
    spike = int(np.argmax(unclipped["norm"]))
    thrown, landed = unclipped.iloc[spike], unclipped.iloc[min(spike + 1, len(unclipped) - 1)]
    after = clipped.loc[clipped["iteration"] > thrown["iteration"], "error"]
    details = {"norm": thrown["norm"], "iteration": int(thrown["iteration"]), "w": landed["w"], "b": landed["b"]}
    details |= {"end": clipped["error"].iloc[-1]}
    details |= {"stuck": landed["error"], "lowest": after.min(), "threshold": THRESHOLD}
    descent = "descent from (5, -2.7), rate 0.1, 60 updates"
    return [
        agreement(
            "cliff_on_its_line",
            line.assign(measured=line["b"], tolerance=1e-12, where=named(line, w="w")),
            what="the cliff of Pascanu's unit lies on b = 0.5 - 0.62246 w",
            protocol="x_0 = 0.5, T = 50; b halved between the two attractors",
            **details,
        ),
        agreement(
            "gradient_on_the_cliff",
            ridge.assign(measured=ridge["norm"], tolerance=1e-9 * ridge["expected"], where=named(ridge, w="w")),
            what="‖∇E‖ on the cliff: ∝ (r^T - 1) / (r - 1), r = w σ'(½)",
            protocol="x_0 = 0.5, T = 50",
        ),
        agreement(
            "thrown_off_the_cliff",
            pd.DataFrame(
                {
                    "measured": [thrown["norm"], landed["w"], landed["b"], landed["error"]],
                    "expected": [45.4, 2.55, -6.44, 0.488],
                    "tolerance": [0.05, 0.005, 0.005, 0.0005],
                    "where": [f"{name}, iteration {thrown['iteration']:g}" for name in ("‖∇E‖", "w", "b", "E")],
                }
            ),
            what="one update without clipping: ‖∇E‖ = 45.4 throws (w, b) to (2.55, -6.44), E = 0.488",
            protocol=descent,
        ),
        at_most(
            "clipped_updates_are_small",
            clipped.assign(
                measured=clipped["norm_after"], expected=THRESHOLD, tolerance=0.0, where=named(clipped, iteration="it.")
            ),
            what="clipped, every update is at most rate × threshold",
            protocol=f"{descent}, norm clipped at {THRESHOLD}",
        ),
        at_most(
            "clipped_descent_arrives",
            pd.DataFrame([{"measured": after.min(), "expected": 0.003, "tolerance": 0.0, "where": "min E"}]),
            what="clipped, the descent goes on past the cliff and gets to E <= 0.003",
            protocol=f"{descent}, norm clipped at {THRESHOLD}",
        ),
    ]
