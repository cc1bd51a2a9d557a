"""A name as one-hot vectors: one 1 per step."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "picture", order=2)
