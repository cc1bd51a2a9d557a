"""Each step back multiplies the gradient by about the same factor."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=9)
