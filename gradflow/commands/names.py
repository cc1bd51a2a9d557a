"""The names that commands show and ask: those of the lecture, or others of the source that was chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from gradflow.checks import shown
from gradflow.commands.arguments import named, quoted, split_list
from gradflow.commands.words import Told
from gradflow.config import DataConfig
from gradflow.data import SEPARATOR, all_names, load, names_corpus, one_hot

if TYPE_CHECKING:
    import pandas as pd

LECTURE = ("王晓丽", "李建国", "张伟", "刘芳")
"""What is shown and asked unless others are chosen."""
SIZES = ("vocabulary_size", "train_size", "test_size")


class Source:
    """Names of one source, and the characters that networks of them know.

    Args:
        config: The source.
        settings: By which networks learn from it, whatever they do with the names.
        alphabet: The characters that they know; None: as the source says.

    Attributes:
        config, settings: The same.
    """

    def __init__(
        self, config: DataConfig, settings: Sequence[str] = (), alphabet: tuple[str, ...] | None = None
    ) -> None:
        self.config, self.settings, self._alphabet = config, settings, alphabet

    @property
    def table(self) -> pd.DataFrame:
        """All names, before any is left out for its characters."""
        return self._read[0]

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The characters that are kept, most frequent first."""
        return self._read[1] if self._alphabet is None else self._alphabet

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
    given = {word.partition("=")[0] for word in settings}
    words = [f"data.source={config.source}"] if given & {"data", "data.source"} else []
    words += [f"data.{key}={getattr(config, key)}" for key in SIZES if f"data.{key}" in given]
    if config.path:
        words.append(f"data.path={quoted(str(Path(config.path).expanduser().absolute()))}")
    return Source(config, words)


def learnt_from(folder: Path) -> Source:
    """The source that the networks below a folder learnt from; the one by default where there is none.

    Raises:
        ValueError: Its file holds other names than they learnt from.
    """
    return _found(folder) or Source(DataConfig())


def _found(folder: Path) -> Source | None:
    from gradflow import open_sweep

    try:
        runs = [run for run in open_sweep(folder) if run.config]
    except FileNotFoundError:
        return None
    if not runs:
        return None
    run = next((run for run in runs if (run.path / "vocabulary.json").is_file()), runs[0])
    overrides = run.path / ".hydra" / "overrides.yaml"
    words = yaml.safe_load(overrides.read_text(encoding="utf-8")) if overrides.is_file() else []
    known = {f"data.{key}" for key in ("source", "path", *SIZES)}
    source = Source(DataConfig(**run.config["data"]), [word for word in words if word.partition("=")[0] in known])
    file = run.path / "vocabulary.json"
    if file.is_file() and set(_characters(file)) - {SEPARATOR} != set(source.alphabet):
        raise ValueError(
            f"data.path: expected the names that the networks in {folder} learnt from, got others in "
            f"{source.config.path}; put the file back, or leave path= out to train anew"
        )
    return source


def _characters(vocabulary: Path) -> tuple[str, ...]:
    return tuple(json.loads(vocabulary.read_text(encoding="utf-8"))["alphabet"])


def check_same(before: Source, asked: Source, folder: Path) -> None:
    """Raise a ValueError unless networks that are there learnt from what is asked for."""
    for key in ("source", "path", *SIZES):
        there, now = getattr(before.config, key), getattr(asked.config, key)
        if key == "path":
            there, now = (str(Path(path).expanduser().absolute()) if path else None for path in (there, now))
        if there != now:
            raise ValueError(
                f"data.{key}: expected {there}, from which the networks in path={folder} learnt, got {now}; leave the "
                f"names out to go on there, or path= to train others"
            )


def names_of(parts: Sequence[Path], words: Sequence[str]) -> Source:
    """The source of a lecture's names: as the words say, else that of the networks that are there, else the default.

    Args:
        parts: The folders of networks that learn from names.
        words: Settings `data=` and `data.*`.

    Raises:
        UsageError: A word is no setting of names, or says another source than that of the networks that are there.
    """
    for word in words:
        key = word.partition("=")[0]
        if key.partition(".")[0] != "data" or key in ("data.names_per_sequence", "data.length"):
            options = ", ".join(("path", "lang", "name", "names", "launcher", "data", "data.path"))
            raise click.UsageError(f"{named(key)}: expected one of {options}, got {shown(word)}")
    try:
        before = {folder: source for folder in parts if folder.is_dir() and (source := _found(folder))}
        if not words:
            return next(iter(before.values()), chosen([]))
        asked = chosen(words)
        for folder, source in before.items():
            check_same(source, asked, folder.parent)
        load(asked.config, seed=0)  # says what is wrong with the names before anything is trained
        return asked
    except (ValueError, OSError) as error:
        raise Told(str(error)) from None


def asked_names(source: Source, name: str, names: str) -> tuple[str, list[str]]:
    """The name that is shown and those that are asked: as given, else, where the source lacks them, some of its own.

    Raises:
        UsageError: One is not in the characters that networks of the source know.
    """
    given = {"name": [name], "names": split_list(names)}
    for argument, own in given.items():
        if not own:
            raise Told(f"{argument}: expected names with commas between them, got nothing")
        if set(own) <= set(LECTURE):
            given[argument] = source.shown()[: len(own)] if set(own) - set(source.shown()) else own
        try:
            for each in given[argument]:
                one_hot(each, source.alphabet)
        except ValueError as error:
            raise Told(f"{argument}: {str(error).partition(': ')[2]}") from None
    return given["name"][0], given["names"]


def asked_of(run: Path, *, together: bool) -> list[str]:
    """The names that the model of a run is asked where none are given.

    Args:
        run: Its folder.
        together: As one sequence, where it reads several names; else each alone.
    """
    from gradflow import open_run

    data: Mapping[str, Any] = open_run(run).config["data"]
    names = Source(DataConfig(**data), alphabet=_characters(run / "vocabulary.json")).shown()
    several = data["names_per_sequence"] > 1
    return ([SEPARATOR.join(names)] if several else names[:1]) if together else names
