"""Exact and published results on vanishing and exploding gradients, computed with gradflow's own instruments.

Each function returns one tidy table of finished numbers, float64 and the same for the same seed: what was measured, and
beside it what theory says. :mod:`gradflow.analysis` checks such a table, :mod:`gradflow.figures` draws it, under the
names of `EXACT`::

    for name, compute in theory.EXACT.items():
        data = compute()
        claims = figures.EXACT[name].check(data)
        figures.save(figures.EXACT[name].plot(data, claims=claims), name, data=data, claims=claims)
"""

from collections.abc import Callable

import pandas as pd

from gradflow.theory.additive import additive_paths
from gradflow.theory.bifurcation import bifurcation
from gradflow.theory.cliff import cliff
from gradflow.theory.composition import repeated_composition
from gradflow.theory.linear import linear_slopes
from gradflow.theory.lyapunov import lyapunov_gains
from gradflow.theory.memory import memory_curse
from gradflow.theory.saturation import mean_field_slopes
from gradflow.theory.tanh import tanh_derivative
from gradflow.theory.unrolled import unrolled_gradients

EXACT: dict[str, Callable[[], pd.DataFrame]] = {
    "jacobian_product_by_lag": linear_slopes,
    "activation_saturation": mean_field_slopes,
    "error_surface_cliff": cliff,
    "bifurcation_diagram": bifurcation,
    "lyapunov_spectrum": lyapunov_gains,
    "memory_sensitivity": memory_curse,
    "tanh_derivative": tanh_derivative,
    "repeated_composition": repeated_composition,
    "unrolled_graph": unrolled_gradients,
    "residual_analogy": additive_paths,
}
"""Name -> table; `gradflow.analysis.<name>_claims` checks it, `plot_<name>` of `gradflow.figures` draws it.

All of them take half a minute on one core.
"""

__all__ = [
    "EXACT",
    "additive_paths",
    "bifurcation",
    "cliff",
    "linear_slopes",
    "lyapunov_gains",
    "mean_field_slopes",
    "memory_curse",
    "repeated_composition",
    "tanh_derivative",
    "unrolled_gradients",
]
