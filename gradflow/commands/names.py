"""The names that commands show and ask: those of the lecture, or others of the source that was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradflow.config import DataConfig
from gradflow.data import SEPARATOR, all_names, names_corpus, one_hot

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

LECTURE = ("王晓丽", "李建国", "张伟", "刘芳")
"""What is shown and asked unless others are chosen."""


class Source:
    """Names of one source, and the characters that networks of them know.

    Args:
        config: The source.

    Attributes:
        config: The same.
    """

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    @cached_property
    def table(self) -> pd.DataFrame:
        """All names, before any is left out for its characters."""
        return self._read[0]

    @cached_property
    def alphabet(self) -> tuple[str, ...]:
        """The characters that are kept, most frequent first."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, tuple[str, ...]]:
        return all_names(self.config)

    def corpus(self) -> pd.DataFrame:
        """The table of their characters and lengths."""
        return names_corpus(self.table, self.alphabet)

    def one_hot(self, name: str) -> pd.DataFrame:
        """A name as one-hot vectors; without one, the first that is shown."""
        return one_hot(name or self.shown()[0], self.alphabet)

    def shown(self) -> list[str]:
        """Four names in known characters: those of the lecture, or else the first of the source, each label in turn."""
        if set("".join(LECTURE)) <= set(self.alphabet):
            return list(LECTURE)
        known = set(self.alphabet)
        inside = self.table[[set(name) <= known for name in self.table["name"]]]
        return list(_in_turn(inside))[: len(LECTURE)]


def _in_turn(table: pd.DataFrame) -> Iterator[str]:
    """The first names of a table, one of each label after the other."""
    first = table.groupby("label", sort=True).head(len(LECTURE))
    first = first.assign(turn=first.groupby("label").cumcount())
    yield from first.sort_values(["turn", "label"], kind="stable")["name"]


def chosen(settings: Sequence[str]) -> Source:
    """The source that the settings `data=` and `data.*` choose.

    Raises:
        ValueError: They are wrong, or of no source of names.
    """
    from gradflow.commands.sweeping.asked import data_of  # here, as it loads Hydra

    config = data_of(settings) if settings else DataConfig()
    if not config.source.of_names:
        raise ValueError(f"data: expected names, such as data=generated or data=corpus, got {config.source}")
    return Source(config)


def asked_of(run: Path, *, together: bool) -> list[str]:
    """The names that the model of a run is asked where none are given.

    Args:
        run: Its folder.
        together: As one sequence, where it reads several names; else each alone.
    """
    import json

    from gradflow import open_run

    data: Mapping[str, Any] = open_run(run).config["data"]
    vocabulary = json.loads((run / "vocabulary.json").read_text(encoding="utf-8"))
    source = Source(DataConfig(**data))
    source.__dict__["alphabet"] = tuple(vocabulary["alphabet"])
    names = source.shown()
    several = data["names_per_sequence"] > 1
    return ([SEPARATOR.join(names)] if several else names[:1]) if together else names
