"""The kept characters, few as they are, make up most of what is written in the names."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "picture", order=1)
