"""Measured Lyapunov exponents are those of mean-field theory."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=5)
