"""Makes the table of character counts that `generated.py` draws from.

``python -m gradflow.data.build_counts NAMES.csv`` takes labelled Chinese names (``name,女|男``) of three
characters, and writes counts by position and sex, which no longer tell what names there were.
"""

import sys
from pathlib import Path

import pandas as pd

from gradflow.data.cleaning import clean
from gradflow.data.generated import POSITIONS, SEXES, TABLE
from gradflow.data.tables import read_csv

MIN_COUNT = 10  # rarer characters are left out


def count_characters(names: pd.DataFrame) -> pd.DataFrame:
    """Counts of the characters of the three-character names.

    Args:
        names: columns ``name`` and ``label``, the labels those of `SEXES`.

    Returns:
        Columns ``position``, ``character`` and one per sex, sorted by the first two.
    """
    chosen = names[names["name"].str.len() == 3]
    rows = pd.concat(
        pd.DataFrame({"position": position, "character": chosen["name"].str[place], "sex": chosen["label"]})
        for place, position in enumerate(POSITIONS[3])
    )
    rows = rows[rows.groupby("character")["sex"].transform("size") >= MIN_COUNT]
    counts = rows.groupby(["position", "character", "sex"]).size().unstack("sex", fill_value=0)
    return counts[list(SEXES)].reset_index()


if __name__ == "__main__":
    names = clean(read_csv(Path(sys.argv[1])), {})
    count_characters(names).to_csv(TABLE, index=False, compression={"method": "gzip", "mtime": 0})
