"""What is kept of a table of names (columns ``name`` and ``label``): every drop is counted by its reason."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from gradflow.data.encoding import SEPARATOR, code_points, indices, lengths_of
from gradflow.data.tables import LINE

UNKNOWN = "未知"  # the label of names whose sex nobody knows
SAID = 3  # lines that are named for each reason

Dropped = dict[str, pd.Index]
"""Reason -> what the index said of the rows that were dropped for it: of a file the numbers of their lines."""


def clean(table: pd.DataFrame, dropped: Dropped, keep_ambiguous: bool = False) -> pd.DataFrame:
    """The rows with a name and a known label, each once.

    A name that occurs with several labels is dropped with all its rows: no model can get it right.
    `keep_ambiguous` keeps it once per label, for classes that share names by nature.

    Args:
        table: columns ``name`` and ``label``, text without missing values.
        dropped: what is dropped, added to.
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


def keep_inside(table: pd.DataFrame, alphabet: Sequence[str], dropped: Dropped) -> pd.DataFrame:
    """The rows whose name has all its characters in the alphabet; no name may be empty."""
    if table.empty:
        return table
    names = table["name"].to_list()
    starts = np.cumsum(lengths_of(names)) - lengths_of(names)
    inside = np.logical_and.reduceat(indices(names, alphabet) >= 0, starts)
    outside = pd.Series(~inside, index=table.index)
    return _drop(table, outside, f"outside the {len(alphabet)} most frequent characters", dropped)


def describe(dropped: Mapping[str, pd.Index]) -> str:
    """The drops in words, most first, of a file with the first lines that were dropped.

    >>> describe({"without a name": pd.Index([7], name="line"), "given twice": pd.Index(range(4, 1204), name="line")})
    '1,200 given twice (lines 4, 5, 6, ...), 1 without a name (line 7)'
    """
    most_first = sorted(dropped.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{len(rows):,} {reason}{_lines(rows)}" for reason, rows in most_first) or "none"


def _lines(rows: pd.Index) -> str:
    if rows.name != LINE:
        return ""
    named = ", ".join(map(str, rows[:SAID])) + ", ..." * (len(rows) > SAID)
    return f" (line{'s' * (len(rows) > 1)} {named})"


def _drop(table: pd.DataFrame, rows: pd.Series, reason: str, dropped: Dropped) -> pd.DataFrame:
    if rows.any():
        dropped[reason] = table.index[rows]
    return table[~rows]
