"""What a gate keeps on average, before and after training, in the diagram of its cell, built up part by part."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=10, table="gate_means", apart=("cell", "start"), steps=5)
