"""The gradient of a weight explodes with memory though no gradient through time exceeds 1."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=6)
