"""Two directions hear both ends of a sequence; the middle they do not."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=12,
    trained="experiment=lecture_architectures network=none cell.bidirectional=true train.iterations=1",
    seconds=6,
    steps=2,
)
