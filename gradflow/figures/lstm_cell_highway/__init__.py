"""The whole gradient of a cell exceeds the path through the cells, which is as its gates say."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=8)
