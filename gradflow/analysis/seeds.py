"""Runs that differ in the seed alone: their mean with an interval, and what a setting changes on the same seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradflow.analysis.runs import IDENTITY
from gradflow.checks import listed, numbers, share, shown

_FOLLOWS = ("start", "threshold")  # from other settings; they say nothing about which runs belong together


def mean_interval(values: Sequence[float] | np.ndarray | pd.Series, confidence: float = 0.95) -> tuple[float, ...]:
    """Mean of independent measurements, and the interval that covers the true mean with this confidence.

    Student's t (Student 1908, Biometrika 6, 1-25): right for few measurements as long as they are about normal, where
    a bootstrap of three to ten seeds is too narrow.

    Args:
        values: One number per seed. NaN is left out; fewer than two, or an infinite one, leave the interval open.
        confidence: Between 0 and 1.

    Returns:
        Mean, low, high; NaN where nothing can be said.

    Raises:
        ValueError: The confidence is not between 0 and 1.

    Example:
        >>> [round(value, 3) for value in mean_interval([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
    """
    from scipy.special import stdtrit

    share("confidence", confidence)
    known = numbers("values", values)
    known = known[~np.isnan(known)]
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2 or not np.isfinite(known).all():
        return mean, float("nan"), float("nan")
    half = float(stdtrit(len(known) - 1, (1 + confidence) / 2) * known.std(ddof=1) / np.sqrt(len(known)))
    return mean, mean - half, mean + half


def over_seeds(data: pd.DataFrame, value: str, *, by: Sequence[str] = (), confidence: float = 0.95) -> pd.DataFrame:
    """Mean and interval over seeds of one column of any table that analyses return.

    Args:
        data: A row per run, such as :func:`ranking` returns; or per run and `by`.
        value: The column.
        by: What tells the rows of one run apart, such as ["iteration"].
        confidence: Of the interval, see :func:`mean_interval`.

    Returns:
        The columns IDENTITY (`seed` is the number of seeds with a number), `by`, quantity (the name of the column),
        value (mean), low, high (NaN for fewer than two seeds). A row per setting and `by`.

    Raises:
        ValueError: An unknown column, or several rows of one seed.

    Example:
        >>> runs = pd.DataFrame({"cell": "rnn", "seed": [0, 1, 2], "rate": [-0.5, -0.6, -0.7]})
        >>> over_seeds(runs, "rate").round(3).to_dict("records")
        [{'cell': 'rnn', 'seed': 3, 'quantity': 'rate', 'value': -0.6, 'low': -0.848, 'high': -0.352}]
    """
    share("confidence", confidence)
    identity = _identity(data, value=[value], by=by)
    keys = [name for name in identity if name != "seed"] + list(by)
    _one_row_each(data, [*identity, *by])
    rows = []
    for own, group in data.groupby(keys, sort=False, dropna=False):
        mean, low, high = mean_interval(group[value], confidence)
        where = dict(zip(keys, own, strict=True)) | {"seed": int(group[value].notna().sum())}
        rows.append(where | {"quantity": value, "value": mean, "low": low, "high": high})
    return pd.DataFrame(rows, columns=[*identity, *by, "quantity", "value", "low", "high"])


def difference_over_seeds(
    data: pd.DataFrame, value: str, *, across: str, baseline: object, by: Sequence[str] = (), confidence: float = 0.95
) -> pd.DataFrame:
    """By how much a setting changes a number: mean and interval of the differences between runs of the same seed.

    What seeds have in common (data, order of batches) drops out, so the interval is narrower than those of the two
    means suggest; it excludes 0 where Student's paired t-test rejects equality.

    Args:
        data: As in :func:`over_seeds`.
        value: The column.
        across: The setting that is changed, one of IDENTITY, such as `clip`.
        baseline: Its value that the others are compared with.
        by: What tells the rows of one run apart, such as ["iteration"].
        confidence: Of the interval, see :func:`mean_interval`.

    Returns:
        As :func:`over_seeds`, for every other value of `across`; `seed` is the number of pairs with a number.

    Raises:
        ValueError: An unknown column, a baseline that is not there or has several rows per seed, or no pairs.
    """
    share("confidence", confidence)
    identity = _identity(data, value=[value], across=[across], by=by)
    keys = [name for name in identity if name not in (across, *_FOLLOWS)] + list(by)
    reference = data[data[across] == baseline]
    if reference.empty:
        known = shown(sorted(data[across].unique(), key=str))
        raise ValueError(f"baseline: expected one of {known}, got {shown(baseline)}")
    _one_row_each(reference, keys)
    pairs = data[data[across] != baseline].merge(reference[[*keys, value]], on=keys, suffixes=("", "_baseline"))
    if pairs.empty:
        raise ValueError(f"data: expected runs that differ in {across!r} but share a seed, got none; run equal seeds")
    difference = pairs[value] - pairs.pop(f"{value}_baseline")
    return over_seeds(pairs.assign(**{value: difference}), value, by=by, confidence=confidence)


def _identity(data: pd.DataFrame, **needed: Sequence[str]) -> list[str]:
    """The columns of IDENTITY that a table has; argument -> the columns that it names must be there."""
    if not isinstance(data, pd.DataFrame) or "seed" not in data:
        came = shown(list(data) if isinstance(data, pd.DataFrame) else data)
        raise ValueError(f"data: expected a table of gradflow.analysis, with the column 'seed', got {came}")
    for argument, names in needed.items():
        for name in listed(argument, names, "a list of columns"):
            if not isinstance(name, str) or name not in data:
                raise ValueError(f"{argument}: expected a column out of {list(data)}, got {shown(name)}")
    return [name for name in IDENTITY if name in data]


def _one_row_each(data: pd.DataFrame, keys: Sequence[str]) -> None:
    twice = data[data.duplicated(list(keys))]
    if len(twice):
        seed = twice["seed"].iloc[0]
        raise ValueError(
            f"data: expected one row per seed of every setting, got several for seed {seed}; select rows, or name what "
            f"tells them apart: by=['iteration']"
        )
