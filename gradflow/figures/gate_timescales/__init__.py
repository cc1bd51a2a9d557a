"""Memory starts at the bias of the gate that keeps, and training lengthens it."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=9, apart=("clip",))
