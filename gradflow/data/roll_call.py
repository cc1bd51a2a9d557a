"""Roll calls: several names in a row, labelled by the first, so that the lag to what matters is a dial."""

from collections.abc import Sequence

import numpy as np

from gradflow.data.encoding import SEPARATOR


def roll_call(names: Sequence[str], names_per_sequence: int, rng: np.random.Generator) -> list[str]:
    """One sequence per name: that name first, then others drawn at random, with the separator between.

    >>> roll_call(["ab", "c"], 1, np.random.default_rng(0))
    ['ab', 'c']
    >>> [text.split("|")[0] for text in roll_call(["ab", "c"], 3, np.random.default_rng(0))]
    ['ab', 'c']
    """
    first = np.array(names, dtype=object)[:, None]
    others = first[rng.integers(len(names), size=(len(names), names_per_sequence - 1)), 0]
    return [SEPARATOR.join(row) for row in np.hstack([first, others])]
