"""The norm of the recurrent weights is not the rate: singular values beside eigenvalues."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=6,
    moving="weight_spectrum_over_training",
    apart=("init",),
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=tanh",
    seconds=12,
)
