"""The slide's criterion over training: σ_1 of each step's Jacobian, which decides, beside that of the weights."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=5.5, apart=("clip",))
