"""The table: :func:`gradflow.theory.additive.additive_paths`."""

from gradflow.theory.additive import additive_paths

compute = additive_paths
