"""A name as one-hot vectors: its characters, their indices in the dictionary, one 1 per step."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "picture", order=2, steps=3)
