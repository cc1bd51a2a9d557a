"""From recorded runs to finished numbers: what figures draw and tables print.

Each analysis takes a run, a sweep or a sequence of runs and returns one tidy table; beside it stands a function that
checks on such a table what the figure claims. The tables of :mod:`gradflow.theory` are checked here in the same way.
Pure functions, no torch and no plotting.
"""

from gradflow.analysis.bidirectional import bidirectional_profile, bidirectional_profile_claims
from gradflow.analysis.bifurcation import bifurcation_diagram_claims
from gradflow.analysis.by_lag import factor_per_step, gradient_by_lag, gradient_by_lag_claims
from gradflow.analysis.cliff import error_surface_cliff_claims
from gradflow.analysis.clipping import clipping_effect, clipping_effect_claims
from gradflow.analysis.comparison import comparison, comparison_claims, solved_at, wilson_interval
from gradflow.analysis.contributions import temporal_contributions, temporal_contributions_claims
from gradflow.analysis.gates import gate_timescales, gate_timescales_claims
from gradflow.analysis.heatmap import gradient_heatmap, gradient_heatmap_claims
from gradflow.analysis.highway import lstm_cell_highway, lstm_cell_highway_claims
from gradflow.analysis.jacobian_products import jacobian_product_by_lag_claims
from gradflow.analysis.lattice import stacked_lattice, stacked_lattice_claims
from gradflow.analysis.lyapunov import lyapunov_spectrum_claims
from gradflow.analysis.memory import memory_sensitivity_claims
from gradflow.analysis.reach import accuracy_by_lag, accuracy_by_lag_claims, horizon
from gradflow.analysis.reproductions import adding_claims, roll_call_claims, temporal_order_claims
from gradflow.analysis.runs import by_task, identity, runs_of
from gradflow.analysis.saliency import name_saliency_claims
from gradflow.analysis.saturation import activation_saturation_claims
from gradflow.analysis.spectrum import singular_values_over_training, singular_values_over_training_claims
from gradflow.analysis.verdicts import verdict_table
from gradflow.analysis.weights import weight_spectrum, weight_spectrum_claims

__all__ = [
    "accuracy_by_lag",
    "accuracy_by_lag_claims",
    "activation_saturation_claims",
    "adding_claims",
    "bidirectional_profile",
    "bidirectional_profile_claims",
    "bifurcation_diagram_claims",
    "by_task",
    "clipping_effect",
    "clipping_effect_claims",
    "comparison",
    "comparison_claims",
    "error_surface_cliff_claims",
    "factor_per_step",
    "gate_timescales",
    "gate_timescales_claims",
    "gradient_by_lag",
    "gradient_by_lag_claims",
    "gradient_heatmap",
    "gradient_heatmap_claims",
    "horizon",
    "identity",
    "jacobian_product_by_lag_claims",
    "lstm_cell_highway",
    "lstm_cell_highway_claims",
    "lyapunov_spectrum_claims",
    "memory_sensitivity_claims",
    "name_saliency_claims",
    "roll_call_claims",
    "runs_of",
    "singular_values_over_training",
    "singular_values_over_training_claims",
    "solved_at",
    "stacked_lattice",
    "stacked_lattice_claims",
    "temporal_contributions",
    "temporal_contributions_claims",
    "temporal_order_claims",
    "verdict_table",
    "weight_spectrum",
    "weight_spectrum_claims",
    "wilson_interval",
]
