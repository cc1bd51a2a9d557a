"""What learns is what the gradient reaches: how far, while a network trains."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=3, moving="gradient_heatmap", apart=("clip",))
