"""The table: :func:`gradflow.theory.unrolled.unrolled_gradients`."""

from gradflow.theory.unrolled import unrolled_gradients

compute = unrolled_gradients
