"""Which settings learned: their final test results lie beyond chance."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=1,
    whole=True,
    trained="experiment=lecture_names seed=0",
    seconds=20,
)
