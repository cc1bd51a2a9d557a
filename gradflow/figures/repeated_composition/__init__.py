"""A smooth layer applied again and again is flat here and steep there."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=8)
