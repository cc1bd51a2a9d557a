"""Which characters of a name decide the answer of a model."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "picture",
    order=3,
    trained="experiment=lecture_names seed=0 cell=rnn",
    seconds=12,
)
