"""The table: :func:`gradflow.theory.linear.linear_slopes`."""

from gradflow.theory.linear import linear_slopes

compute = linear_slopes
