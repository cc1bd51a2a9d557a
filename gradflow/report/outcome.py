"""How the runs ended, what they were set to, and where they come from."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gradflow.analysis.ends import MEASURED, Ending, ending
from gradflow.analysis.results import judged_by
from gradflow.analysis.tasks import flatten
from gradflow.report.words import Text, alike, known, number, word

NOT_SETTINGS = ("run", "path", "status", "iteration", "proof", "error")
LONGEST = 300  # characters of a value


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
        run: Where it lies below the sweep.
        settings: Those that vary.
        end: How it ended.
    """

    run: str
    settings: dict[str, Any]
    end: Ending


def outcomes(table: pd.DataFrame, members: Sequence[Any]) -> list[Outcome]:
    """A row per run.

    Args:
        table: `runs` of the sweep.
        members: Its runs, in the same order.
    """
    return [_outcome(row, run) for (_, row), run in zip(table.iterrows(), members, strict=True)]


def _outcome(row: pd.Series, run: Any) -> Outcome:
    settings = {str(name): row[name] for name in row.index if name not in NOT_SETTINGS}
    return Outcome(row["run"], settings, ending(run))


def measured_of(ends: Sequence[Outcome]) -> list[str]:
    """Which of MEASURED the table shows: those that some run has; the training loss where nothing was tested."""
    there = [name for name in MEASURED if any(not math.isnan(one.end.last[name]) for one in ends)]
    return [name for name in there if name != "loss" or not {"test_loss", "test_accuracy"} & {*there}]


def summary(ends: Sequence[Outcome], readable: Sequence[Any]) -> list[Text]:
    """What came out, in a few sentences: how many ended how, the best result, how many solved it, the proofs."""
    if len(ends) == 1:
        end = ends[0].end
        said = [word("summary.run", status=known(f"status.{end.status}", end.status), count=end.iterations)]
    else:
        counts = Counter(one.end.status for one in ends)
        parts = [word("summary.count", count=n, status=known(f"status.{name}", name)) for name, n in counts.items()]
        said = [word("summary.runs", count=len(ends), statuses=_joined(parts))]
    said += _best(ends, max((judged_by(run) for run in readable), default="test_accuracy"))
    asked = any(run.meta.get("success") for run in readable)
    solved = sum(one.end.solved is not None for one in ends)
    if asked and len(ends) > 1:
        said.append(word("summary.solved", count=solved, total=len(ends)))
    elif asked:
        said.append(word("summary.solved_at", iteration=ends[0].end.solved) if solved else word("summary.not_solved"))
    if len(ends) == 1:
        return [*said, word(f"summary.{ends[0].end.proof}_run")]
    proofs = Counter(one.end.proof for one in ends)
    said.append(word("summary.failed", count=proofs["failed"]) if proofs["failed"] else
                word("summary.proved", count=proofs["proved"], total=len(ends)))  # fmt: skip
    return said


def _best(ends: Sequence[Outcome], quantity: str) -> list[Text]:
    results = [one for one in ends if math.isfinite(one.end.last[quantity])]
    if not results:
        return []
    best = (min if quantity == "test_loss" else max)(results, key=lambda one: one.end.last[quantity])
    value = number(best.end.last[quantity])
    if len(ends) == 1:
        return [word(f"summary.{quantity}", value=value)]
    named = ", ".join(f"{name}={value}" for name, value in best.settings.items()) or best.run
    return [word(f"summary.best_{quantity}", value=value, run=alike(named))]


def _joined(parts: Sequence[Text]) -> dict[str, str]:
    return {lang: word("list.separator")[lang].join(part[lang] for part in parts) for lang in parts[0]}


def settings_of(members: Sequence[Any]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Settings that all the runs share, and the values of those that vary, by dotted names."""
    flat = [{str(key): value for key, value in flatten(run.config or {}).items()} for run in members]
    flat = [own for own in flat if own]
    keys = dict.fromkeys(key for own in flat for key in own)
    values = {key: list(dict.fromkeys(_shown(own.get(key)) for own in flat)) for key in keys}
    common = {key: found[0] for key, found in values.items() if len(found) == 1}
    return common, {key: found for key, found in values.items() if len(found) > 1}


def provenance_of(members: Sequence[Any]) -> dict[str, list[str]]:
    """Where the runs come from: what their logs say beside settings and columns, every value that occurs."""
    seen: dict[str, dict[str, None]] = {}
    for run in members:
        for key, value in flatten({str(key): value for key, value in run.meta.items()}).items():
            seen.setdefault(key, {})[_shown(value)] = None
    return {key: _few(list(values)) for key, values in sorted(seen.items(), key=lambda entry: _rank(entry[0]))}


FIRST = ("versions.", "git_commit", "seed", "schema_version", "created", "host", "device", "dtype", "threads")


def _rank(key: str) -> int:
    return next((i for i, start in enumerate(FIRST) if key.startswith(start)), len(FIRST))


def _few(values: list[str], most: int = 8) -> list[str]:
    return values if len(values) <= most else [*values[: most - 1], "…", values[-1]]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and not value:
        return "–"
    return alike(str(value)[:LONGEST])["en"]
