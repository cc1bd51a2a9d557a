"""A vanishing gradient is not small but short-sighted: the last steps make up most of it."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=7,
    apart=("init",),
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=tanh train.iterations=1",
    seconds=6,
)
