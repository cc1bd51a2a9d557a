"""The table: :func:`gradflow.theory.saturation.mean_field_slopes`."""

from gradflow.theory.saturation import mean_field_slopes

compute = mean_field_slopes
