"""The spectral radius, not the largest singular value, sets the rate of a product of Jacobians."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=1)
