"""Figures that explain recorded gradients: finished numbers in, one figure out.

Plot functions take what :mod:`gradflow.analysis` returned and return a figure; they compute, change and save nothing.
:func:`save` writes a figure with its numbers and the checks of its claims, :func:`draw_all` does it all.
"""

from gradflow.figures.accuracy_by_lag import plot_accuracy_by_lag
from gradflow.figures.clipping_effect import plot_clipping_effect
from gradflow.figures.comparison import plot_comparison
from gradflow.figures.gallery import draw_all
from gradflow.figures.gradient_by_lag import plot_gradient_by_lag
from gradflow.figures.gradient_heatmap import plot_gradient_heatmap
from gradflow.figures.output import save
from gradflow.figures.singular_values_over_training import plot_singular_values_over_training
from gradflow.figures.style import style

__all__ = [
    "draw_all",
    "plot_accuracy_by_lag",
    "plot_clipping_effect",
    "plot_comparison",
    "plot_gradient_by_lag",
    "plot_gradient_heatmap",
    "plot_singular_values_over_training",
    "save",
    "style",
]
