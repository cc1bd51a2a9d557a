"""What networks learn from: labelled names and long-range tasks, as padded arrays. No torch here."""

from gradflow.data.dataset import Dataset, Names, Sequences
from gradflow.data.encoding import SEPARATOR, encode
from gradflow.data.loading import load
from gradflow.data.task import Success, Task

__all__ = ["SEPARATOR", "Dataset", "Names", "Sequences", "Success", "Task", "encode", "load"]
