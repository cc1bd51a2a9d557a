"""The initialisation rather than the cell decides how fast the gradient fades with the lag."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=2,
    trained="experiment=lecture seed=0 data.names_per_sequence=8 train.iterations=1",
    seconds=12,
)
