"""How far the gradient reaches before training tells how far a network learns."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=13, across=("data.length", "data.names_per_sequence"), whole=True)
