"""Training stretches the recurrent weights: their largest singular value grows."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=5,
    apart=("init",),
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=tanh",
    seconds=12,
)
