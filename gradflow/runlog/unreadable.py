"""What a run folder may hold in place of what gradflow wrote: it is named, and nothing is guessed."""

import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from gradflow.foreign import printable
from gradflow.runlog.schema import KEYS

DEEPEST, MOST = 20, 100_000  # settings within settings, and beside each other
_SMALL, _LARGE = -(2**31), 2**63
_WORDS = {str: "text", int: "a whole number", float: "a number", dict: "an object", list: "a list", NoneType: "null"}

Fields = Mapping[str, tuple[type, ...]]


class Unreadable(ValueError):
    """A file of a run that cannot be read: damaged, not gradflow's, or of a newer gradflow. It says which and why."""

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def file(self) -> Path:
        """The file."""
        return self.args[1]


def unreadable(file: Path, expected: str, got: str, instead: str = "") -> Unreadable:
    """The error that names a file, what it should hold, what it holds, and what to do."""
    instead = instead or "restore the file from a copy, or move its run to another place"
    return Unreadable(f"{printable(str(file), 4096)}: expected {expected}, got {printable(got, 200)}; {instead}", file)


def check_is_file(file: Path) -> None:
    """Raise where a file would not end or not begin, as a pipe or a device; FileNotFoundError where there is none.

    Raises:
        Unreadable: it is no regular file.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise unreadable(file, "a file", "a folder" if file.is_dir() else "a pipe or a device")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file, empty if there is no such file.

    Raises:
        Unreadable: it is none.
    """
    try:
        check_is_file(file)
        text = file.read_bytes()
        content = json.loads(text)
        if b"\\ud" in text.lower():  # half a character, which no other file could hold
            json.dumps(content, ensure_ascii=False).encode()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unreadable(file, "a file that can be read", error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        size = file.stat().st_size
        got = f"{size} bytes of something else ({error})" if size else "an empty file"
        raise unreadable(file, "a JSON document", got) from error
    if not isinstance(content, dict):
        raise unreadable(file, "a JSON object", _shown(content))
    return content


def check_fields(file: Path, content: Mapping[str, Any], fields: Fields, where: str = "") -> None:
    """Compare the types of those entries that are there.

    Raises:
        Unreadable: one is of another type, or a whole number without measure.
    """
    for name, kinds in fields.items():
        value = content.get(name) if NoneType in kinds else content.get(name, kinds[0]())
        if isinstance(value, bool) or not isinstance(value, kinds):
            words = " or ".join(_WORDS[kind] for kind in kinds)
            raise unreadable(file, f"{words} as {where}{name}", _shown(value))
        if isinstance(value, int) and not _SMALL <= value < _LARGE:
            raise unreadable(file, f"a number of iterations, processes or the like as {where}{name}", _shown(value))


def check_columns(file: Path, columns: Mapping[str, Any]) -> None:
    """Compare the columns that `run.json` names: a unit and a long name each, and all keys of their tables.

    Raises:
        Unreadable: they are others.
    """
    for table, labels in columns.items():
        check_fields(file, columns, {table: (dict,)}, "columns.")
        for name, label in labels.items():
            if not _is_label(label):
                check_fields(file, labels, {name: (dict,)}, f"columns.{table}.")
                check_fields(file, label, {"unit": (str,), "long_name": (str,)}, f"columns.{table}.{name}.")
        if missing := [key for key in KEYS.get(table, ()) if labels and key not in labels]:
            raise unreadable(file, f"the column {missing[0]} in columns.{table}", "none")


def _is_label(label: Any) -> bool:
    """Whether this is one, told at once: a sweep has a million of them."""
    return type(label) is dict and type(label.get("unit", "")) is type(label.get("long_name", "")) is str


def check_depth(file: Path, settings: Mapping[str, Any]) -> None:
    """Raise where settings lie so deep within each other, or are so many, that following them would not end well.

    YAML can say a thing once and mean it ten times, and that ten times, and so on.

    Raises:
        Unreadable: they do.
    """
    level: list[Any] = [settings]
    for _ in range(DEEPEST):
        level = [value for part in level for value in _inside(part)]
        if not level:
            return
        if len(level) > MOST:
            break
    raise unreadable(file, f"settings at most {DEEPEST} levels deep and {MOST} in all", "more")


def _inside(part: Any) -> Iterable[Any]:
    return part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()


def _shown(value: Any) -> str:
    return (
        repr(value) if isinstance(value, str | float | bool | NoneType) else _WORDS.get(type(value), "something else")
    )
