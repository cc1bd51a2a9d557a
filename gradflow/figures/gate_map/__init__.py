"""How long each unit of a model remembers while it reads."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "picture",
    order=4,
    gated=True,
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=none cell=lstm init=remember",
    seconds=20,
)
