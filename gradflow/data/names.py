"""Every source of names: read or draw, clean, keep the frequent characters, split, encode."""

import logging
from dataclasses import replace
from math import log
from os.path import expanduser
from pathlib import Path

import numpy as np
import pandas as pd

from gradflow.checks import check_kind, shown, whole_number
from gradflow.config import DataConfig, Source
from gradflow.data.cleaning import Dropped, clean, describe, keep_inside, most_frequent_characters
from gradflow.data.corpus import download_corpus, read_corpus
from gradflow.data.dataset import Names
from gradflow.data.encoding import SEPARATOR, encode
from gradflow.data.generated import frequent_characters, generate
from gradflow.data.languages import read_languages
from gradflow.data.roll_call import roll_call
from gradflow.data.tables import read_csv
from gradflow.tasks import Sequences, Success, Task

_log = logging.getLogger(__name__)
_READERS = {Source.corpus: read_corpus, Source.csv: read_csv, Source.languages: read_languages}


LEARNED = Success("test_accuracy", 0.85, "the lecture's classifier of single names scores 0.93 to 0.98")


def load_names(config: DataConfig, rng: np.random.Generator) -> Names:
    """Names of a source as training and test sequences.

    As in the lecture, the frequent characters are counted over all names of the source, before the split, and
    names with any other character are left out. Train and test share no name. Of a file, one seed gives the same
    test names whatever the size of the training set and the number of names per sequence.

    A name with several labels is dropped, except from `languages`, where it is kept once with each: of the 100
    Scottish surnames 99 belong to another language, too. Train and test share no such name either.

    Args:
        config: the source and what to keep of it.
        rng: decides the names drawn and the split.

    Raises:
        FileNotFoundError: nothing at ``config.path``.
        OSError: what is there cannot be read.
        ConnectionError: the corpus could not be downloaded.
        ValueError: a file that is not as its source should be, or too few names left; it says what to change.
    """
    dropped: Dropped = {}
    if config.source == Source.generated:
        table, alphabet = _generated(config, rng, dropped)
    else:
        table, alphabet = _read(config, dropped)
    _log.info("data=%s: %s names kept, dropped: %s", config.source, f"{len(table):,}", describe(dropped))
    classes = tuple(sorted(set(table["label"])))
    _require_enough(table, classes, config, dropped)
    if config.names_per_sequence > 1:
        alphabet = (*alphabet, SEPARATOR)
    train, test = (_sequences(part, alphabet, classes, config, rng) for part in split(table, config, rng))
    chance = float(np.bincount(test.targets).max() / len(test))
    return Names(
        task=Task(len(alphabet), len(classes), LEARNED, log(len(classes)), chance, ragged=True),
        test=test,
        train=train,
        alphabet=alphabet,
        classes=classes,
        names_per_sequence=config.names_per_sequence,
        dropped={reason: len(rows) for reason, rows in dropped.items()},
    )


def all_names(config: DataConfig, seed: int = 0) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The names of a source before any is left out for its characters, and the characters that a model of them keeps.

    Generated names, which else hold kept characters alone, are here drawn from all of the packaged table.

    Args:
        config: the source, and how many characters to keep.
        seed: of names that are drawn, as many as would be for training and test.

    Returns:
        Table of ``name``, ``label`` and ``source``, and the alphabet, most frequent character first.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as :func:`load_names`; for a source that is not of names.
    """
    check_kind("config", config, DataConfig, "a gradflow.config.DataConfig")
    seed = whole_number("seed", seed, 0)
    if not config.source.of_names:
        raise ValueError(f"data.source: expected names, such as generated or corpus, got {config.source}")
    if config.source != Source.generated:
        table, alphabet = _cleaned(config, {})
        return table.assign(source=str(config.source)), alphabet
    everything = replace(config, vocabulary_size=len(frequent_characters()))
    table, _ = _generated(everything, np.random.default_rng(seed), {})
    return table.assign(source=str(config.source)), frequent_characters(config.vocabulary_size)


def split(table: pd.DataFrame, config: DataConfig, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows at random, without a name in common; the table must have enough different names."""
    shuffled = table.iloc[rng.permutation(len(table))]
    test, rest = shuffled.iloc[: config.test_size], shuffled.iloc[config.test_size :]
    train = rest[~rest["name"].isin(test["name"])].iloc[: config.train_size]
    return train, test


def _generated(config: DataConfig, rng: np.random.Generator, dropped: Dropped) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if config.path:
        raise ValueError(
            f"data.path: expected none, as data=generated reads no file, got {config.path}; "
            f"read it by data=csv, data=corpus or data=languages"
        )
    return generate(config.train_size + config.test_size, config.vocabulary_size, rng, dropped)


def _read(config: DataConfig, dropped: Dropped) -> tuple[pd.DataFrame, tuple[str, ...]]:
    table, alphabet = _cleaned(config, dropped)
    return keep_inside(table, alphabet, dropped), alphabet


def _cleaned(config: DataConfig, dropped: Dropped) -> tuple[pd.DataFrame, tuple[str, ...]]:
    keep_ambiguous = config.source == Source.languages
    table = clean(_rows(config), dropped, keep_ambiguous)
    return table, most_frequent_characters(table["name"], config.vocabulary_size)


def _rows(config: DataConfig) -> pd.DataFrame:
    try:
        path = Path(expanduser(config.path)) if config.path else download_corpus()
        return _READERS[config.source](path)
    except OSError as error:
        if error.errno is None:  # ours, which says it
            raise
        raise type(error)(
            f"data.path: expected a file or folder that can be read, got {shown(config.path)} ({error.strerror}); "
            f"check its name and its permissions"
        ) from error


def _require_enough(table: pd.DataFrame, classes: tuple[str, ...], config: DataConfig, dropped: Dropped) -> None:
    left, asked = table["name"].nunique(), config.train_size + config.test_size
    origin = f"data={config.source} {config.path or ''}".strip()
    if len(classes) < 2:
        label = shown(classes[0]) if classes else "none"
        raise ValueError(
            f"{origin}: expected names of two or more labels, got {left:,} names of label {label}, "
            f"dropped: {describe(dropped)}; check the file, or raise data.vocabulary_size"
        )
    if left < asked:
        test_size = max(1, left // 11)
        raise ValueError(
            f"data.train_size, data.test_size: expected at most {left:,} together, the different names that are "
            f"left of {origin} (dropped: {describe(dropped)}), got {asked:,}; set for example "
            f"data.train_size={left - test_size} data.test_size={test_size}, or raise data.vocabulary_size"
        )


def _sequences(
    table: pd.DataFrame,
    alphabet: tuple[str, ...],
    classes: tuple[str, ...],
    config: DataConfig,
    rng: np.random.Generator,
) -> Sequences:
    texts = roll_call(table["name"].to_list(), config.names_per_sequence, rng)
    inputs, lengths = encode(texts, alphabet)
    targets = pd.Categorical(table["label"], categories=list(classes)).codes.astype(np.int64)
    return Sequences(inputs, lengths, targets)
