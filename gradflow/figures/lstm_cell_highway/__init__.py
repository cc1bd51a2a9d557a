"""The whole gradient of a cell exceeds the path through the cells, which is as its gates say."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=8,
    gated=True,
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=none cell=lstm init.forget_bias=0,1,3 "
    "train.iterations=1",
    seconds=10,
)
