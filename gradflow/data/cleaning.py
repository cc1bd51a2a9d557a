"""What is kept of a table of names (columns ``name`` and ``label``): every drop is counted by its reason."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from gradflow.data.encoding import SEPARATOR, code_points, indices, lengths_of

UNKNOWN = "未知"  # the label of names whose sex nobody knows


def clean(table: pd.DataFrame, dropped: Counter[str], keep_ambiguous: bool = False) -> pd.DataFrame:
    """The rows with a name and a known label, each once.

    A name that occurs with several labels is dropped with all its rows: no model can get it right.
    `keep_ambiguous` keeps it once per label, for classes that share names by nature.

    Args:
        table: columns ``name`` and ``label``, text without missing values.
        dropped: reason -> number of rows, added to.
        keep_ambiguous: whether a name may have several labels.
    """
    name, label = table["name"], table["label"]
    reasons = {
        "without a name": name == "",
        "without a label": label == "",
        f"of label {UNKNOWN} (unknown)": label == UNKNOWN,
        f"holding the separator {SEPARATOR}": name.str.contains(SEPARATOR, regex=False),
    }
    for reason, rows in reasons.items():
        table = _drop(table, rows.loc[table.index], reason, dropped)
    table = _drop(table, table.duplicated(), "given twice", dropped)
    if keep_ambiguous:
        return table
    return _drop(table, table.duplicated("name", keep=False), "with several labels", dropped)


def most_frequent_characters(names: Iterable[str], size: int) -> tuple[str, ...]:
    """The `size` most frequent characters, most frequent first, ties in the order of their code points.

    >>> most_frequent_characters(["banana", "band"], size=2)
    ('a', 'n')
    """
    counts = np.bincount(code_points(names))
    order = np.argsort(-counts, kind="stable")[:size]
    return tuple(chr(code) for code in order if counts[code])


def keep_inside(table: pd.DataFrame, alphabet: Sequence[str], dropped: Counter[str]) -> pd.DataFrame:
    """The rows whose name has all its characters in the alphabet; no name may be empty."""
    if table.empty:
        return table
    names = table["name"].to_list()
    starts = np.cumsum(lengths_of(names)) - lengths_of(names)
    inside = np.logical_and.reduceat(indices(names, alphabet) >= 0, starts)
    outside = pd.Series(~inside, index=table.index)
    return _drop(table, outside, f"outside the {len(alphabet)} most frequent characters", dropped)


def describe(dropped: Counter[str]) -> str:
    """The drops in words, most first.

    >>> describe(Counter({"given twice": 1200, "without a name": 3}))
    '1,200 given twice, 3 without a name'
    """
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped.most_common()) or "none"


def _drop(table: pd.DataFrame, rows: pd.Series, reason: str, dropped: Counter[str]) -> pd.DataFrame:
    if rows.any():
        dropped[reason] += int(rows.sum())
    return table[~rows]
