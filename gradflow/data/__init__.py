"""What networks learn from: labelled names and long-range problems, as padded arrays; tables that show names.

No torch.
"""

from gradflow.data.dataset import Names
from gradflow.data.encoding import SEPARATOR, encode
from gradflow.data.loading import load
from gradflow.data.names import all_names
from gradflow.data.portraits import names_corpus, one_hot
from gradflow.tasks import Dataset, Sequences, Success, Task

__all__ = [
    "SEPARATOR",
    "Dataset",
    "Names",
    "Sequences",
    "Success",
    "Task",
    "all_names",
    "encode",
    "load",
    "names_corpus",
    "one_hot",
]
