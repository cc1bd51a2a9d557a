"""Tables that show names as a network meets them: all of a source counted, and one as its one-hot vectors."""

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradflow.checks import check_kind, listed, require, shown, whole_number
from gradflow.data.cleaning import keep_inside, most_frequent_characters
from gradflow.data.encoding import code_points, encode
from gradflow.data.generated import frequent_characters


def names_corpus(names: pd.DataFrame, vocabulary: int | Sequence[str] = 500) -> pd.DataFrame:
    """How often the characters of names occur, which of them a model keeps, and how long the names are.

    Args:
        names: Columns ``name`` and ``label``, and ``source`` where the figure is to name it;
            :func:`gradflow.data.all_names` reads those of any source.
        vocabulary: How many of the most frequent characters are kept, or the characters themselves.

    Returns:
        Rows with the columns quantity, rank, character, label, length, count, share, source (empty: not told):

        `kept`, `left_out`: a character with its rank (1: the most frequent) and its share of all characters; none for
        those that do not occur.
        `inside`: the names that hold kept characters alone, and so can be learned from; their share of all names.
        `length`: names of a number of characters; their share of all names.
        `length_by_label`: the same among the names of a label.

    Raises:
        ValueError: No names, an empty one, or fewer than one character to be kept.

    Example:
        >>> data = names_corpus(pd.DataFrame({"name": ["banana", "band"], "label": ["a", "b"]}), vocabulary=2)
        >>> data[data["quantity"] == "kept"][["rank", "character", "count", "share"]].to_dict("list")
        {'rank': [1, 2], 'character': ['a', 'n'], 'count': [4, 3], 'share': [0.4, 0.3]}
    """
    is_table = isinstance(names, pd.DataFrame) and {"name", "label"} <= set(names)
    require(is_table, "names", "a table with the columns name and label", names)
    if names.empty or (names["name"] == "").any():
        raise ValueError(f"names: expected one or more non-empty names, got {len(names)}; leave out the empty ones")
    if not isinstance(vocabulary, (str, list, tuple)):
        vocabulary = whole_number("vocabulary", vocabulary, 1, ", or characters")
    elif not all(isinstance(character, str) and len(character) == 1 for character in vocabulary):
        raise ValueError(f"vocabulary: expected single characters, or how many are kept, got {shown(vocabulary)}")
    everything = most_frequent_characters(names["name"], sys.maxunicode)
    kept = everything[:vocabulary] if isinstance(vocabulary, int) else tuple(vocabulary)
    parts = [_characters(names, everything, kept), _inside(names, kept)]
    parts += [_lengths(names, "length", []), _lengths(names, "length_by_label", ["label"])]
    columns = ["quantity", "rank", "character", "label", "length", "count", "share"]
    whole = dict.fromkeys(("rank", "length"), "Int64")
    source = names["source"].iloc[0] if "source" in names else ""
    return pd.concat(parts, ignore_index=True).reindex(columns=columns).astype(whole).assign(source=source)


def _characters(names: pd.DataFrame, everything: Sequence[str], kept: Sequence[str]) -> pd.DataFrame:
    counts = np.bincount(code_points(names["name"]))[code_points(everything)]
    return pd.DataFrame(
        {
            "quantity": np.where(np.isin(everything, kept), "kept", "left_out"),
            "rank": np.arange(1, len(everything) + 1),
            "character": everything,
            "count": counts,
            "share": counts / counts.sum(),
        }
    )


def _inside(names: pd.DataFrame, kept: Sequence[str]) -> pd.DataFrame:
    count = len(keep_inside(names, kept, {}))
    return pd.DataFrame({"quantity": "inside", "count": [count], "share": [count / len(names)]})


def _lengths(names: pd.DataFrame, quantity: str, by: list[str]) -> pd.DataFrame:
    counted = names.assign(length=names["name"].str.len()).groupby([*by, "length"]).size().rename("count").reset_index()
    whole = counted.groupby(by)["count"].transform("sum") if by else counted["count"].sum()
    return counted.assign(quantity=quantity, share=counted["count"] / whole)


def one_hot(name: str = "王晓丽", alphabet: Sequence[str] | None = None) -> pd.DataFrame:
    """A name as the T one-hot vectors of D numbers that a network reads one after the other.

    Args:
        name: T characters; or the names of a roll call joined by the separator, if the alphabet has that.
        alphabet: D characters, such as ``alphabet`` in the ``vocabulary.json`` of a run; None: the 500 of generated
            names.

    Returns:
        A row per time and column of the matrix, with the columns time (from 0), character (of the name), index (of the
        column, from 0), entry (the character that the column stands for), value (0 or 1).

    Raises:
        ValueError: An empty name, or a character outside the alphabet: there is no vector for it.

    Example:
        >>> data = one_hot("abc", alphabet="cab")
        >>> data.pivot(index="time", columns="index", values="value").to_numpy().tolist()
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    """
    if alphabet is None:
        alphabet = frequent_characters(500)
    elif not isinstance(alphabet, str):
        alphabet = listed("alphabet", alphabet, "characters")
    check_kind("name", name, str, "one text")
    try:
        [hits], _ = encode([name], alphabet)
    except ValueError as error:
        raise ValueError(str(error).replace("names:", "name:", 1)) from None
    steps, size = len(name), len(alphabet)
    return pd.DataFrame(
        {
            "time": np.repeat(np.arange(steps), size),
            "character": np.repeat(list(name), size),
            "index": np.tile(np.arange(size), steps),
            "entry": np.tile(list(alphabet), steps),
            "value": (np.arange(size) == hits[:, None]).astype(int).flatten(),
        }
    )
