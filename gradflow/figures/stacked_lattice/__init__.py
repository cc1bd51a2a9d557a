"""A layer costs the gradient about what a step back does; time dominates by its many steps."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=11,
    trained="experiment=lecture_architectures network=none cell.num_layers=4 train.iterations=1",
    seconds=6,
    steps=2,
)
