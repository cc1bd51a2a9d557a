"""What a source of names becomes: sequences, and the words to read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.data.encoding import SEPARATOR, encode
from gradflow.tasks import Dataset, Sequences


@dataclass(frozen=True, kw_only=True)
class Names(Dataset):
    """Training and test sequences that share no name, and what their indices mean.

    Attributes:
        alphabet: index -> character; the separator of a roll call is its last entry.
        classes: index -> label, sorted.
        names_per_sequence: above 1 a roll call, labelled by its first name.
        dropped: reason -> number of names left out.
    """

    train: Sequences
    alphabet: tuple[str, ...]
    classes: tuple[str, ...]
    names_per_sequence: int
    dropped: dict[str, int]

    def facts(self) -> dict[str, Any]:
        """What the log of a run says about it."""
        return super().facts() | {"dropped": self.dropped, "classes": list(self.classes)}

    def encode(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """``inputs`` [N, T] and ``lengths`` [N] of other names, see :func:`gradflow.data.encode`."""
        return encode(names, self.alphabet)

    def vocabulary(self) -> dict[str, Any]:
        """What a saved model needs to be asked later, in the types of JSON.

        Names are encoded by ``encode(names, vocabulary["alphabet"])``, and output i of the model is the label
        ``vocabulary["classes"][i]``. A roll call is one text, ``separator`` between its names; otherwise it is None.
        """
        return {
            "alphabet": list(self.alphabet),
            "classes": list(self.classes),
            "names_per_sequence": self.names_per_sequence,
            "separator": SEPARATOR if self.names_per_sequence > 1 else None,
        }
