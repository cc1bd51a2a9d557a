"""The diagnosis of each run, as :mod:`gradflow.diagnosis` gives it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradflow.figures.theme import LANGUAGES
from gradflow.report.words import Text, number

log = logging.getLogger(__name__)
VERDICTS = ("ill", "unknown", "healthy")


@dataclass(frozen=True)
class Told:
    """A finding as the page shows it."""

    verdict: str
    where: str
    headline: Text
    meaning: Text
    advice: Text
    measured: str
    threshold: str
    unit: str
    source: str
    figure: str
    config: str
    code: str


def diagnoses(members: Mapping[str, Any], diagnose: Callable[[Any], Any]) -> dict[str, list[Told]]:
    """The findings of each run, the worst first; none for a run of which none can be made.

    Args:
        members: Runs by name.
        diagnose: :func:`gradflow.diagnose`.
    """
    return {name: _of(name, run, diagnose) for name, run in members.items()}


def _of(name: str, run: Any, diagnose: Callable[[Any], Any]) -> list[Told]:
    try:
        return [_told(finding) for finding in diagnose(run).findings]
    except Exception as error:  # a run that nobody foresaw costs its own diagnosis, and no report
        log.warning("no diagnosis of %s: %s: %s", name, type(error).__name__, error)
        return []


def _told(finding: Any) -> Told:
    headline, meaning, advice = (
        {lang: say(lang) for lang in LANGUAGES} for say in (finding.headline, finding.meaning, finding.advice)
    )
    return Told(
        verdict=finding.verdict,
        where=finding.where,
        headline=headline,
        meaning=meaning,
        advice=advice,
        measured=number(float(finding.measured)),
        threshold=number(float(finding.threshold)),
        unit=finding.unit,
        source=finding.source,
        figure=finding.figure,
        config=finding.config,
        code=finding.code,
    )
