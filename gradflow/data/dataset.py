"""What a source of names becomes: two disjoint sets of padded sequences, and the words to read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.data.encoding import SEPARATOR, encode


@dataclass(frozen=True)
class Sequences:
    """N labelled sequences of up to T characters.

    Attributes:
        inputs: int64 [N, T], index into the alphabet; 0 beyond each length.
        lengths: int64 [N], at least 1.
        targets: int64 [N], index into the classes.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """Training and test sequences that share no name, and what their indices mean.

    Attributes:
        train: sequences to learn from.
        test: sequences to be judged by.
        alphabet: index -> character; the separator of a roll call is its last entry.
        classes: index -> label, sorted.
        names_per_sequence: above 1 a roll call, labelled by its first name.
        dropped: reason -> number of names left out.
    """

    train: Sequences
    test: Sequences
    alphabet: tuple[str, ...]
    classes: tuple[str, ...]
    names_per_sequence: int
    dropped: dict[str, int]

    @property
    def input_size(self) -> int:
        """Size D of a one-hot input."""
        return len(self.alphabet)

    @property
    def chance(self) -> float:
        """Test accuracy of always answering the most frequent class of the test set."""
        return float(np.bincount(self.test.targets).max() / len(self.test))

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
