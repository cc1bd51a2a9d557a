"""Figures that explain recorded gradients: finished numbers in, one figure out.

Plot functions take what :mod:`gradflow.analysis` or :mod:`gradflow.theory` returned and return a figure; they compute,
change and save nothing. :func:`save` writes a figure with its numbers and the checks of its claims; :func:`draw_all`
does it all for a log; `EXACT` says how a table of the theory is checked and drawn. Animate functions do the same for
figures that move, which :func:`save_animation` writes; `ANIMATIONS` says of what they are made.
"""

from gradflow.figures.accuracy_by_lag import plot_accuracy_by_lag
from gradflow.figures.activation_saturation import plot_activation_saturation
from gradflow.figures.animate_gradient_heatmap import animate_gradient_heatmap
from gradflow.figures.animate_weight_spectrum import animate_weight_spectrum
from gradflow.figures.animation import Animation, save_animation
from gradflow.figures.bidirectional_profile import plot_bidirectional_profile
from gradflow.figures.bifurcation_diagram import plot_bifurcation_diagram
from gradflow.figures.cell_diagram import plot_cell_diagram
from gradflow.figures.clipping_effect import plot_clipping_effect
from gradflow.figures.comparison import plot_comparison
from gradflow.figures.compute_time import plot_compute_time
from gradflow.figures.error_surface_cliff import plot_error_surface_cliff
from gradflow.figures.gallery import ANIMATIONS, EXACT, PICTURES, draw_all
from gradflow.figures.gate_map import plot_gate_map
from gradflow.figures.gate_timescales import plot_gate_timescales
from gradflow.figures.gradient_by_lag import plot_gradient_by_lag
from gradflow.figures.gradient_heatmap import plot_gradient_heatmap
from gradflow.figures.jacobian_product_by_lag import plot_jacobian_product_by_lag
from gradflow.figures.lstm_cell_highway import plot_lstm_cell_highway
from gradflow.figures.lyapunov_spectrum import plot_lyapunov_spectrum
from gradflow.figures.memory_sensitivity import plot_memory_sensitivity
from gradflow.figures.name_saliency import plot_name_saliency
from gradflow.figures.names_corpus import plot_names_corpus
from gradflow.figures.one_hot import plot_one_hot
from gradflow.figures.output import deck, save
from gradflow.figures.repeated_composition import plot_repeated_composition
from gradflow.figures.residual_analogy import plot_residual_analogy
from gradflow.figures.singular_values_over_training import plot_singular_values_over_training
from gradflow.figures.stacked_lattice import plot_stacked_lattice
from gradflow.figures.style import style
from gradflow.figures.tanh_derivative import plot_tanh_derivative
from gradflow.figures.temporal_contributions import plot_temporal_contributions
from gradflow.figures.unrolled_graph import plot_unrolled_graph
from gradflow.figures.weight_spectrum import plot_weight_spectrum

__all__ = [
    "ANIMATIONS",
    "EXACT",
    "PICTURES",
    "Animation",
    "animate_gradient_heatmap",
    "animate_weight_spectrum",
    "deck",
    "draw_all",
    "plot_accuracy_by_lag",
    "plot_activation_saturation",
    "plot_bidirectional_profile",
    "plot_bifurcation_diagram",
    "plot_cell_diagram",
    "plot_clipping_effect",
    "plot_comparison",
    "plot_compute_time",
    "plot_error_surface_cliff",
    "plot_gate_map",
    "plot_gate_timescales",
    "plot_gradient_by_lag",
    "plot_gradient_heatmap",
    "plot_jacobian_product_by_lag",
    "plot_lstm_cell_highway",
    "plot_lyapunov_spectrum",
    "plot_memory_sensitivity",
    "plot_name_saliency",
    "plot_names_corpus",
    "plot_one_hot",
    "plot_repeated_composition",
    "plot_residual_analogy",
    "plot_singular_values_over_training",
    "plot_stacked_lattice",
    "plot_tanh_derivative",
    "plot_temporal_contributions",
    "plot_unrolled_graph",
    "plot_weight_spectrum",
    "save",
    "save_animation",
    "style",
]
