"""The table: :func:`gradflow.theory.fixed_points.bifurcation`."""

from gradflow.theory.fixed_points import bifurcation

compute = bifurcation
