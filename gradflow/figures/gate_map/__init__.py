"""How long each unit of a model remembers while it reads."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "picture", order=4)
