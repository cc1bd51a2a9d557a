"""Claims about exact and published results: the worst case of a table against what it should be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.runs import claim
from gradflow.checks import check_kind, listed


def agreement(name: str, rows: pd.DataFrame, *, what: str, protocol: str, **details: Any) -> dict[str, Any]:
    """Every measured value is within its tolerance of the expected one; told of the row where it is furthest off.

    Args:
        name: of the claim.
        rows: Columns measured, expected, tolerance, where (the setting, in symbols).
        what: The result, in a few words.
        protocol: How it was measured, in a few words.
        **details: More for captions.

    Returns:
        A :func:`claim` with what, protocol, where, target (the expected number), deviation from it and tolerance
        beside its own keys; NaN anywhere, and it does not hold.

    Raises:
        ValueError: There are no rows.

    Example:
        >>> rows = pd.DataFrame({"measured": [1.0, 2.1], "expected": [1.0, 2.0], "tolerance": 0.2, "where": ["a", "b"]})
        >>> checked = agreement("demo", rows, what="a demonstration", protocol="by hand")
        >>> checked["holds"], checked["where"], checked["value"], checked["expected"]
        (True, 'b', 2.1, '2 ± 0.2')
    """
    error = ((rows["measured"] - rows["expected"]) / rows["tolerance"]).abs()
    worst = _worst(name, rows, error)
    expected = f"{worst['expected']:.6g} ± {worst['tolerance']:.2g}"
    return _checked(name, worst, expected, bool((error <= 1).all()), what=what, protocol=protocol, **details)


def at_most(name: str, rows: pd.DataFrame, *, what: str, protocol: str, **details: Any) -> dict[str, Any]:
    """Every measured value is at most the expected one, within its tolerance; otherwise as :func:`agreement`.

    Example:
        >>> rows = pd.DataFrame({"measured": [1.0, 3.0], "expected": [1.0, 2.0], "tolerance": 0.0, "where": ["a", "b"]})
        >>> checked = at_most("demo", rows, what="a demonstration", protocol="by hand")
        >>> checked["holds"], checked["where"], checked["expected"]
        (False, 'b', '<= 2')
    """
    return _one_sided(name, rows, "<=", what=what, protocol=protocol, **details)


def at_least(name: str, rows: pd.DataFrame, *, what: str, protocol: str, **details: Any) -> dict[str, Any]:
    """Every measured value is at least the expected one; otherwise as :func:`at_most`."""
    return _one_sided(name, rows, ">=", what=what, protocol=protocol, **details)


def _one_sided(name: str, rows: pd.DataFrame, relation: str, **details: Any) -> dict[str, Any]:
    above = rows["measured"] - rows["expected"]
    excess = (above if relation == "<=" else -above) - rows["tolerance"]
    worst = _worst(name, rows, excess)
    return _checked(name, worst, f"{relation} {worst['expected']:.6g}", bool((excess <= 0).all()), **details)


def verdict_table(claims: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """One row per claim about an exact or published result.

    Args:
        claims: Name of the result -> its checked claims.

    Returns:
        Columns result, claim, what, protocol, expected, measured (the worst case, or in words, if the claim is `told`),
        where, deviation, tolerance, holds.
    """
    check_kind("claims", claims, Mapping, "a mapping of the checked claims of each result")
    for own in claims.values():
        for each in listed("claims", own, "a list of checked claims of each result"):
            check_kind("claims", each, Mapping, "checked claims of each result, each with claim, value and holds")
    columns = ["result", "claim", "what", "protocol", "expected", "measured", "where", "deviation", "tolerance"]
    rows = [
        {**claim, "result": name, "measured": claim.get("told", claim["value"])}
        for name, own in claims.items()
        for claim in own
    ]
    return pd.DataFrame(rows, columns=[*columns, "holds"])


def _worst(name: str, rows: pd.DataFrame, error: pd.Series) -> pd.Series:
    if rows.empty:
        raise ValueError(f"data: expected rows for the claim {name}, got none; pass a whole table of gradflow.theory")
    return rows.iloc[int(np.argmax(error.fillna(np.inf)))]


def _checked(name: str, worst: pd.Series, expected: str, holds: bool, **details: Any) -> dict[str, Any]:
    measured, target = float(worst["measured"]), float(worst["expected"])
    place = {"target": target, "deviation": measured - target, "tolerance": worst["tolerance"], "where": worst["where"]}
    return claim(name, measured, expected, holds, **details, **place)


def named(rows: pd.DataFrame, **symbols: str) -> pd.Series:
    """The setting of every row in symbols, for `where`.

    Args:
        rows: The table.
        **symbols: Column -> symbol; columns that are NaN are left out.

    Example:
        >>> named(pd.DataFrame({"gain": [0.5], "lag": [3]}), gain="g", lag="k").tolist()
        ['g = 0.5, k = 3']
    """
    return pd.Series(
        [
            ", ".join(f"{symbol} = {row[column]:g}" for column, symbol in symbols.items() if pd.notna(row[column]))
            for _, row in rows.iterrows()
        ],
        index=rows.index,
        dtype=object,
    )


def only(data: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows whose columns have these values.

    Raises:
        ValueError: There are none.
    """
    chosen = data
    for column, value in values.items():
        chosen = chosen[chosen[column] == value]
    if chosen.empty:
        raise ValueError(f"data: expected rows with {values}, got none; pass a whole table of gradflow.theory")
    return chosen
