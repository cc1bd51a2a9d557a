"""Memory starts at the bias of the gate that keeps, and training lengthens it."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=9,
    apart=("clip",),
    gated=True,
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=lstm_forget_0,lstm_forget_1,lstm_forget_3,gru",
    seconds=40,
)
