"""Saturation alone does not make gradients vanish: mean-field theory gives their slope."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "exact", order=2)
