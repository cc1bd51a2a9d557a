"""What learns is what the gradient reaches: how far, while a network trains."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=3,
    moving="gradient_heatmap",
    apart=("clip",),
    trained="experiment=lecture seed=0 data.names_per_sequence=8 network=lstm_forget_3,gru,tanh_orthogonal,tanh",
    seconds=40,
)
