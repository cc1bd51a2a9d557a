"""Runs in groups that a figure may show together, and short names that tell the groups apart."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from gradflow.analysis.runs import Run, as_replicate, once, rank
from gradflow.checks import check_kind, listed, shown

LONGEST = 48  # characters of a group's name, which is part of a file's

_SHOWN_TOGETHER = {"cell.name", "init", "clip", "omega", "flossing", "seed", "name", "threads", "device"}
_FIRST_TOLD = ("data.source", "data.names_per_sequence", "data.length")


def by_task(runs: Sequence[Run], across: Collection[str] = ()) -> dict[str, list[Run]]:
    """Sort runs into groups that one figure may show together: equal but for cell, init, clip, omega and seed.

    A run whose settings or seed the log does not know is alone.

    Args:
        runs: Any runs.
        across: Further settings in which the runs of a group may differ, such as `data.length`.

    Returns:
        Group name to runs; see :func:`names_apart`.
    """
    runs = listed("runs", runs, "a list of runs")
    across = listed("across", across, "a list of settings, such as data.length")
    for setting in across:
        check_kind("across", setting, str, "names of settings, such as data.length")
    settings, together = [], _SHOWN_TOGETHER.union(across)
    for run in runs:
        if not hasattr(run, "frame"):
            raise TypeError(f"runs: expected runs, such as gradflow.open_run(PATH), got {shown(run)}")
        own = {key: value for key, value in once(run, "settings", _settings).items() if not _names(key) & together}
        folder = as_replicate(run)
        settings.append(own | ({"run": folder} if folder else {}))
    keys = sorted({key for own in settings for key in own}, key=lambda key: rank(key, _FIRST_TOLD))
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run, own in zip(runs, settings, strict=True):
        groups.setdefault(tuple(own.get(key, "None") for key in keys), []).append(run)
    names = names_apart([dict(zip(keys, values, strict=True)) for values in groups])
    return dict(zip(names, groups.values(), strict=True))


def _settings(run: Run) -> dict[str, str]:
    return {key: str(value) for key, value in flatten(run.config or {}).items()}


@cache
def _names(key: str) -> frozenset[str]:
    """What a setting is called, and its group."""
    return frozenset((key, key.split(".")[0]))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys.

    Example:
        >>> flatten({"cell": {"name": "rnn"}, "seed": 0})
        {'cell.name': 'rnn', 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def names_apart(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for each of several unlike settings: those of its own that tell it from the others, the first ones first.

    Args:
        settings: All with the same keys.

    Returns:
        Names that are unlike and fit in a file's, of at most LONGEST characters; one that would be longer, or equal
        another, ends in the number of its group. A source goes by its name alone. A single one needs no name.

    Example:
        >>> names_apart([{"data.source": "adding", "data.length": "30"}, {"data.source": "adding", "data.length": "50"},
        ...              {"data.source": "copy_memory", "data.length": "30"}])
        ['adding,length=30', 'adding,length=50', 'copy_memory']
    """
    names: list[str] = []
    for number, own in enumerate(settings, 1):
        words, alike = list[str](), [other for other in settings if other is not own]
        for key, value in own.items():
            if any(other[key] != value for other in alike):
                words.append(("" if key == "data.source" else f"{key.split('.')[-1]}=") + _in_a_file_name(value))
                alike = [other for other in alike if other[key] == value]
        name = ",".join(words)
        fits = len(name) <= LONGEST and name not in names
        names.append(name if fits else ",".join(_that_fit(words, f"group={number}")))
    return names


def _in_a_file_name(value: str) -> str:
    """A value without what a path cannot hold; of a path its last part."""
    return re.sub(r"[^\w.+-]+", "+", value.rstrip("/").rsplit("/")[-1]).strip("+")


def _that_fit(words: Sequence[str], last: str) -> list[str]:
    """The first words, as many as leave room for the last one."""
    kept: list[str] = []
    for word in words:
        if len(",".join([*kept, word, last])) <= LONGEST:
            kept.append(word)
    return [*kept, last]
