"""Clipping holds the norm of the gradient to its threshold and changes no other step."""

from gradflow.figures.room import Room

ROOM = Room(
    __name__,
    "log",
    order=4,
    apart=("init", "clip"),
    beside="none",
    whole=True,
    trained="experiment=lecture_clipping seed=0",
    seconds=12,
)
