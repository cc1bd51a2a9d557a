"""The weights alone do not tell: the Jacobian of a step may shrink gradients though W_hh stretches."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=5.5, apart=("clip",))
