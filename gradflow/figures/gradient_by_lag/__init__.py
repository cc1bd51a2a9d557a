"""The initialisation rather than the cell decides how fast the gradient fades with the lag."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=2)
