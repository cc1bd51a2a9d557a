"""From recorded runs to finished numbers: what figures draw and tables print.

Each analysis takes a run, a sweep or a sequence of runs and returns one tidy table; beside that of a figure stands a
function that checks on such a table what the figure claims. The tables of :mod:`gradflow.theory` are checked here in
the same way. Rates and horizons, explosions, drift of the spectrum and ranking have a row per run (and iteration), and
:func:`over_seeds` gives any of them an interval. Pure functions, no torch and no plotting.
"""

from gradflow.analysis.additive import residual_analogy_claims
from gradflow.analysis.bidirectional import bidirectional_profile, bidirectional_profile_claims
from gradflow.analysis.bifurcation import bifurcation_diagram_claims
from gradflow.analysis.by_lag import factor_per_step, gradient_by_lag, gradient_by_lag_claims
from gradflow.analysis.cliff import error_surface_cliff_claims
from gradflow.analysis.clipping import clipped_share, clipping_effect, clipping_effect_claims
from gradflow.analysis.comparison import comparison, comparison_claims, solved_at, wilson_interval
from gradflow.analysis.composition import repeated_composition_claims
from gradflow.analysis.contributions import temporal_contributions, temporal_contributions_claims
from gradflow.analysis.credit import effective_lag, weight_gradient_reach
from gradflow.analysis.decay import gradient_decay, vanishing_lag
from gradflow.analysis.drift import spectral_distance, spectrum_drift
from gradflow.analysis.explosions import exploding_events, explosion_threshold
from gradflow.analysis.gate_means import gate_means, gate_means_claims
from gradflow.analysis.gates import gate_map_claims, gate_timescales, gate_timescales_claims
from gradflow.analysis.heatmap import gradient_heatmap, gradient_heatmap_claims
from gradflow.analysis.highway import lstm_cell_highway, lstm_cell_highway_claims
from gradflow.analysis.jacobian_products import jacobian_product_by_lag_claims
from gradflow.analysis.lattice import stacked_lattice, stacked_lattice_claims
from gradflow.analysis.lyapunov import lyapunov_spectrum_claims
from gradflow.analysis.memory import memory_sensitivity_claims
from gradflow.analysis.names import names_corpus_claims, one_hot_claims
from gradflow.analysis.ranking import ranking
from gradflow.analysis.reach import accuracy_by_lag, accuracy_by_lag_claims, horizon
from gradflow.analysis.reproductions import adding_claims, roll_call_claims, temporal_order_claims
from gradflow.analysis.runs import identity, runs_of
from gradflow.analysis.saliency import name_saliency_claims
from gradflow.analysis.saturation import activation_saturation_claims
from gradflow.analysis.seeds import difference_over_seeds, mean_interval, over_seeds
from gradflow.analysis.spectrum import singular_values_over_training, singular_values_over_training_claims
from gradflow.analysis.tanh import tanh_derivative_claims
from gradflow.analysis.tasks import by_task
from gradflow.analysis.timing import compute_time, compute_time_claims
from gradflow.analysis.unrolled import unrolled_graph_claims
from gradflow.analysis.verdicts import verdict_table
from gradflow.analysis.weights import (
    weight_spectrum,
    weight_spectrum_claims,
    weight_spectrum_over_training,
    weight_spectrum_over_training_claims,
)

__all__ = [
    "accuracy_by_lag",
    "accuracy_by_lag_claims",
    "activation_saturation_claims",
    "adding_claims",
    "bidirectional_profile",
    "bidirectional_profile_claims",
    "bifurcation_diagram_claims",
    "by_task",
    "clipped_share",
    "clipping_effect",
    "clipping_effect_claims",
    "comparison",
    "comparison_claims",
    "compute_time",
    "compute_time_claims",
    "difference_over_seeds",
    "effective_lag",
    "error_surface_cliff_claims",
    "exploding_events",
    "explosion_threshold",
    "factor_per_step",
    "gate_map_claims",
    "gate_means",
    "gate_means_claims",
    "gate_timescales",
    "gate_timescales_claims",
    "gradient_by_lag",
    "gradient_by_lag_claims",
    "gradient_decay",
    "gradient_heatmap",
    "gradient_heatmap_claims",
    "horizon",
    "identity",
    "jacobian_product_by_lag_claims",
    "lstm_cell_highway",
    "lstm_cell_highway_claims",
    "lyapunov_spectrum_claims",
    "mean_interval",
    "memory_sensitivity_claims",
    "name_saliency_claims",
    "names_corpus_claims",
    "one_hot_claims",
    "over_seeds",
    "ranking",
    "repeated_composition_claims",
    "residual_analogy_claims",
    "roll_call_claims",
    "runs_of",
    "singular_values_over_training",
    "singular_values_over_training_claims",
    "solved_at",
    "spectral_distance",
    "spectrum_drift",
    "stacked_lattice",
    "stacked_lattice_claims",
    "tanh_derivative_claims",
    "temporal_contributions",
    "temporal_contributions_claims",
    "temporal_order_claims",
    "unrolled_graph_claims",
    "vanishing_lag",
    "verdict_table",
    "weight_gradient_reach",
    "weight_spectrum",
    "weight_spectrum_claims",
    "weight_spectrum_over_training",
    "weight_spectrum_over_training_claims",
    "wilson_interval",
]
