"""States come one after the other, so the time of an update grows with length."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=14,
    across=("data.length", "data.names_per_sequence"),
    whole=True,
    trained="experiment=lecture seed=0 network=lstm_forget_3,tanh train.iterations=100",
    seconds=20,
)
