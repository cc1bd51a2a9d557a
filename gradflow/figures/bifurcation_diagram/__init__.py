"""Gradients explode where the basins of two attractors meet."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=4)
