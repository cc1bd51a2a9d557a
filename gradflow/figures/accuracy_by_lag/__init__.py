"""How far the gradient reaches before training tells how far a network learns."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=13,
    across=("data.length", "data.names_per_sequence"),
    whole=True,
    trained="experiment=lecture seed=0 data.names_per_sequence=8,4,2 network=lstm_forget_3,tanh_orthogonal,tanh",
    seconds=50,
)
