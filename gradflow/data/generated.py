"""Chinese names that nobody needs to bear: drawn character by character from a packaged table of counts.

The table counts the characters of three-character names by position (surname, first and second given) and sex.
`build_counts.py` made it; it holds no one's name.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from gradflow.data.cleaning import Dropped, clean

TABLE = Path(__file__).with_name("name_counts.csv.gz")
SEXES = ("女", "男")
MIX = {2: 0.2, 3: 0.7, 4: 0.1}  # share of the draws by number of characters, in each sex
POSITIONS = {  # two characters: a second one without a first; four: the surnames of both parents
    2: ("surname", "given_2"),
    3: ("surname", "given_1", "given_2"),
    4: ("surname", "surname", "given_1", "given_2"),
}
_MAX_DRAWS = 20  # for each name asked for


def generate(
    count: int, vocabulary_size: int, rng: np.random.Generator, dropped: Dropped
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """At least `count` different names, each of one sex, within the most frequent characters.

    The characters are the most frequent ones of the table, so the alphabet is the same for every seed. Half of the
    draws are of each sex. A name drawn twice counts once, one drawn with both sexes not at all; that befalls short
    names most: of 11,000 kept names about 18, 72 and 10 % have 2, 3 and 4 characters instead of the shares of `MIX`.

    Args:
        count: names needed; up to a tenth more are returned.
        vocabulary_size: characters to draw from.
        rng: decides the draws.
        dropped: the draws that are dropped, added to.

    Returns:
        Table of ``name`` and ``label``, and the alphabet, most frequent character first.

    Raises:
        ValueError: so few characters do not make so many names.
    """
    counts = pd.read_csv(TABLE)
    alphabet = _ranked(counts)[:vocabulary_size]
    counts = counts[counts["character"].isin(alphabet)]
    totals = counts.groupby("position")[list(SEXES)].sum()
    drawable = len(totals) == len(set().union(*POSITIONS.values())) and (totals > 0).all(axis=None)
    drawn = kept = pd.DataFrame({"name": [], "label": []}, dtype="str")
    while len(kept) < count:
        if not drawable or len(drawn) > _MAX_DRAWS * count:
            raise ValueError(
                f"data.vocabulary_size: expected enough characters for {count:,} different names, "
                f"got {vocabulary_size}, which gave {len(kept):,}; raise it, or lower data.train_size"
            )
        drawn = pd.concat([drawn, _draw(count - len(kept) + count // 10 + 10, counts, rng)], ignore_index=True)
        reasons: Dropped = {}
        kept = clean(drawn, reasons)
    dropped.update(reasons)
    return kept, alphabet


def frequent_characters(size: int | None = None) -> tuple[str, ...]:
    """The most frequent characters of the packaged table, most frequent first: the alphabet of generated names.

    Args:
        size: how many; None: all.

    Example:
        >>> "".join(frequent_characters(5))
        '王张李陈刘'
    """
    return _ranked(pd.read_csv(TABLE))[:size]


def _ranked(counts: pd.DataFrame) -> tuple[str, ...]:
    totals = counts.groupby("character")[list(SEXES)].sum().sum(axis=1)
    return tuple(totals.sort_values(ascending=False, kind="stable").index)


def _draw(count: int, counts: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """`count` names, of any length and sex, duplicates included."""
    groups = [(length, sex) for length in MIX for sex in SEXES]
    numbers = rng.multinomial(count, [MIX[length] / len(SEXES) for length, _ in groups])
    tables = []
    for (length, sex), number in zip(groups, numbers, strict=True):
        characters = [_draw_characters(number, counts[counts["position"] == p], sex, rng) for p in POSITIONS[length]]
        tables.append(pd.DataFrame({"name": np.sum(characters, axis=0), "label": sex}))
    return pd.concat(tables, ignore_index=True)


def _draw_characters(number: int, counts: pd.DataFrame, sex: str, rng: np.random.Generator) -> np.ndarray:
    weights = counts[sex].to_numpy()
    return rng.choice(counts["character"].to_numpy(object), size=number, p=weights / weights.sum())
