"""The lecture's derivation, line by line: a gradient many steps back is a product, and its factors are measured."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=9.5, steps=4)
