"""A test set that overlaps with training flatters: names that were learnt from are answered better than new ones."""

from gradflow.figures.room import Room

ROOM = Room(__name__, "picture", order=2.5, trained="experiment=lecture_names seed=0", seconds=25)
