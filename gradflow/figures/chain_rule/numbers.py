"""What the factors of a product of Jacobians must keep to."""

from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.verdicts import agreement, at_most, named, only

_PROTOCOL = "torch.nn.RNN as it comes, H = 64, 11 one-hot symbols, one gradient from h_11 to h_1"


def chain_rule_claims(data: pd.DataFrame) -> list[dict[str, Any]]:
    """That the product of all Jacobians leaves what the factors of the single steps do, and each of these takes away.

    Args:
        data: What :func:`gradflow.theory.chain_of_jacobians` returned.
    """
    parts = {name: only(data, quantity=name).assign(where=_at) for name in ("tanh", "weights", "factor", "product")}
    factor, product = parts["factor"], parts["product"]
    means = {name: float(np.exp(np.log(parts[name]["measured"]).mean())) for name in ("tanh", "weights", "factor")}
    multiplied = product.assign(expected=factor["measured"].prod(skipna=False))
    return [
        agreement(
            "product_of_factors",
            pd.concat([product, multiplied]).assign(tolerance=1e-10 * product["measured"].iloc[0]),
            what="‖δ_1‖/‖δ_T‖ is the product of its steps, and what ∏ diag(tanh') W_hh leaves of δ_T",
            protocol=_PROTOCOL,
            steps=len(factor),
            build="chain_rule",
            **means,
        ),
        agreement(
            "factor_of_tanh_and_weights",
            factor.assign(tolerance=1e-12),
            what="each step leaves what tanh' leaves, times what W_hh leaves of that",
            protocol=_PROTOCOL,
        ),
        at_most(
            "tanh_takes_away",
            parts["tanh"].assign(expected=1.0, tolerance=0.0),
            what="tanh' makes no gradient larger",
            protocol=_PROTOCOL,
        ),
        at_most(
            "every_factor_below_one",
            factor.assign(expected=1.0, tolerance=0.0),
            what="each step leaves less than it got",
            protocol=_PROTOCOL,
        ),
    ]


def _at(rows: pd.DataFrame) -> pd.Series:
    return named(rows, time="t")
