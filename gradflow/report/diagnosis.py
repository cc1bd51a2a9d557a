"""The diagnosis of each run, as :mod:`gradflow.diagnosis` gives it."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradflow.figures.theme import LANGUAGES
from gradflow.report.words import Text, alike, number, word

log = logging.getLogger(__name__)
VERDICTS = ("ill", "unknown", "healthy")


@dataclass(frozen=True)
class Told:
    """A finding as the page shows it; a number that is not known is empty."""

    verdict: str
    where: str
    headline: Text
    meaning: Text
    advice: Text
    measured: Text
    threshold: Text
    source: Text
    figure: str
    config: str
    code: str


def diagnoses(members: Mapping[str, Any], diagnose: Callable[[Any], Any]) -> dict[str, list[Told]]:
    """The findings of each run, those first of which most is ill, the worst first; none where none can be made.

    Args:
        members: Runs by name.
        diagnose: :func:`gradflow.diagnose`.
    """
    found = {name: _of(name, run, diagnose) for name, run in members.items()}
    return dict(sorted(found.items(), key=lambda entry: -_ill(entry[1])))


def _ill(own: list[Told]) -> int:
    return sum(told.verdict == "ill" for told in own)


def summary(found: Mapping[str, list[Told]]) -> list[Text]:
    """In how many of the runs something is ill; nothing where no diagnosis was made."""
    if len(found) == 1:
        [own] = found.values()
        counts = {name: sum(told.verdict == name for told in own) for name in VERDICTS}
        return [word("summary.found", **counts)] if own else []
    ill = sum(_ill(own) > 0 for own in found.values())
    return [word("summary.ill", count=ill, total=len(found))] if any(found.values()) else []


def _of(name: str, run: Any, diagnose: Callable[[Any], Any]) -> list[Told]:
    try:
        return [_told(finding) for finding in diagnose(run).findings]
    except Exception as error:  # a run that nobody foresaw costs its own diagnosis, and no report
        log.warning("no diagnosis of %s: %s: %s", name, type(error).__name__, error)
        return []


def _told(finding: Any) -> Told:
    said = (finding.headline, finding.meaning, finding.advice, finding.source)
    headline, meaning, advice, source = ({lang: say(lang) for lang in LANGUAGES} for say in said)
    return Told(
        verdict=finding.verdict,
        where=finding.where,
        headline=headline,
        meaning=meaning,
        advice=advice,
        measured=_with_unit(finding.measured, finding.unit),
        threshold=_with_unit(finding.threshold, finding.unit),
        source=source,
        figure=finding.figure,
        config=finding.config,
        code=finding.code,
    )


def _with_unit(value: float, unit: str) -> Text:
    if math.isnan(value):
        return {}
    told = number(float(value))
    return alike(told) if unit == "1" else word(f"unit.{unit}", value=told)
