"""The table: :func:`gradflow.theory.error_surface.cliff`."""

from gradflow.theory.error_surface import cliff

compute = cliff
