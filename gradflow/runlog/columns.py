"""The columns that `run.json` names: the runs of a sweep mostly name the same, which are then checked and kept once."""

from collections import deque
from functools import cached_property
from pathlib import Path
from typing import Any

from gradflow.runlog.schema import Label
from gradflow.runlog.unreadable import check_columns


class Columns(dict[str, dict[str, Any]]):
    """Table -> column -> unit and long name, as in the file; never changed once it was read."""

    @cached_property
    def labels(self) -> dict[str, dict[str, Label]]:
        """The same, as labels."""
        return {
            table: {name: Label(label.get("unit", ""), label.get("long_name", "")) for name, label in own.items()}
            for table, own in self.items()
        }


_READ: deque[Columns] = deque(maxlen=8)
"""Those that were read last: a sweep has some for each of its cells."""


def checked_columns(file: Path, found: dict[str, Any]) -> Columns:
    """The columns in a file.

    Raises:
        Unreadable: they have no units or names, or a table lacks a key.
    """
    for known in tuple(_READ):
        if known == found and all(list(own) == list(found[table]) for table, own in known.items()):
            return known
    check_columns(file, found)
    _READ.append(columns := Columns(found))
    return columns
