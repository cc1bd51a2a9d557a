"""From names to index arrays by an alphabet alone, so that a saved model can be asked without a data file."""

import sys
from collections.abc import Iterable, Sequence

import numpy as np

from gradflow.checks import check_kind, listed, require, shown

SEPARATOR = "|"  # between the names of a roll call; no name holds it


def code_points(texts: Iterable[str]) -> np.ndarray:
    """Unicode code points of all texts one after the other, uint32 [sum of the lengths]."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")


def lengths_of(texts: Sequence[str]) -> np.ndarray:
    """Characters of each text, int64 [N]."""
    return np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))


def indices(texts: Iterable[str], alphabet: Sequence[str]) -> np.ndarray:
    """Index of every character into the alphabet, texts one after the other; -1 outside it.

    Returns:
        int64 [sum of the lengths].
    """
    lookup = np.full(sys.maxunicode + 1, -1, dtype=np.int64)
    lookup[code_points(alphabet)] = np.arange(len(alphabet))
    return lookup[code_points(texts)]


def encode(names: Sequence[str], alphabet: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Names as the indices of their characters, padded with 0 at the end.

    Args:
        names: N names, or roll calls written with the separator between the names (``"王伟|李娜"``).
        alphabet: single characters; the position of each is its index.

    Returns:
        ``inputs``, int64 [N, T] with T the longest length, and ``lengths``, int64 [N]. Index 0 is a character
        like any other: only ``lengths`` tells it from padding.

    Raises:
        TypeError: ``names`` is one string instead of a list of them.
        ValueError: no name, an empty name, or a character outside the alphabet.

    >>> inputs, lengths = encode(["ab", "c"], alphabet=("a", "b", "c"))
    >>> inputs.tolist(), lengths.tolist()
    ([[0, 1], [2, 0]], [2, 1])
    """
    if isinstance(names, str):
        raise TypeError(f"names: expected a list of names, got one string; write [{shown(names)}]")
    names = listed("names", names, "a list of names")
    for name in names:
        check_kind("names", name, str, "texts")
    known = list(alphabet) if isinstance(alphabet, str) else listed("alphabet", alphabet, "single characters")
    for character in known:
        require(isinstance(character, str) and len(character) == 1, "alphabet", "single characters", character)
    lengths = lengths_of(names)
    if not len(names) or not lengths.all():
        raise ValueError(
            f"names: expected one or more non-empty names, got {shown(list(names[:10]))}; leave out the empty ones"
        )
    flat = indices(names, alphabet)
    if (flat < 0).any():
        outside = "".join(sorted(set("".join(names)) - set(alphabet)))
        raise ValueError(
            f"names: expected characters of the alphabet of the model, which has {len(alphabet)}, got "
            f"{shown(outside)}; leave out the names that hold them, or train with a larger data.vocabulary_size"
        )
    inputs = np.zeros((len(names), lengths.max()), dtype=np.int64)
    inputs[np.arange(lengths.max()) < lengths[:, None]] = flat
    return inputs, lengths
