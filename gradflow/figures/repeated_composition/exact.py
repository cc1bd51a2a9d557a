"""The table: :func:`gradflow.theory.composition.repeated_composition`."""

from gradflow.theory.composition import repeated_composition

compute = repeated_composition
