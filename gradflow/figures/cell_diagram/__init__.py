"""What a gate keeps on average, before and after training, in the diagram of its cell, built up part by part."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=10,
    table="gate_means",
    apart=("cell", "start"),
    gated=True,
    steps=5,
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=none cell=lstm init=remember",
    seconds=20,
)
