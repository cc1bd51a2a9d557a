"""The norm of the recurrent weights is not the rate: singular values beside eigenvalues."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "log", order=6, moving="weight_spectrum_over_training", apart=("init",))
