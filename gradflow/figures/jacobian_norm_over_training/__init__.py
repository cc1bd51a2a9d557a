"""The slide's criterion over training: σ_1 of each step's Jacobian, which decides, beside that of the weights."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=5.5,
    apart=("clip",),
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=tanh",
    seconds=12,
)
