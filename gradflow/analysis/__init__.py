"""From recorded runs to finished numbers: what figures draw and tables print.

Each analysis takes a run, a sweep or a sequence of runs and returns one tidy table; beside it stands a function that
checks on such a table what the figure claims. Pure functions, no torch and no plotting.
"""

from gradflow.analysis.by_lag import factor_per_step, gradient_by_lag, gradient_by_lag_claims
from gradflow.analysis.clipping import clipping_effect, clipping_effect_claims
from gradflow.analysis.comparison import comparison, comparison_claims, solved_at, wilson_interval
from gradflow.analysis.heatmap import gradient_heatmap, gradient_heatmap_claims
from gradflow.analysis.reach import accuracy_by_lag, accuracy_by_lag_claims, horizon
from gradflow.analysis.runs import by_task, identity, runs_of
from gradflow.analysis.spectrum import singular_values_over_training, singular_values_over_training_claims

__all__ = [
    "accuracy_by_lag",
    "accuracy_by_lag_claims",
    "by_task",
    "clipping_effect",
    "clipping_effect_claims",
    "comparison",
    "comparison_claims",
    "factor_per_step",
    "gradient_by_lag",
    "gradient_by_lag_claims",
    "gradient_heatmap",
    "gradient_heatmap_claims",
    "horizon",
    "identity",
    "runs_of",
    "singular_values_over_training",
    "singular_values_over_training_claims",
    "solved_at",
    "wilson_interval",
]
