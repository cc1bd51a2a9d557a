"""`diagnose`: every condition asked of one run."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from gradflow.analysis.ends import Ending, ending
from gradflow.checks import real_number, shown
from gradflow.diagnosis.case import Case, Place
from gradflow.diagnosis.condition import Condition, Measurement, Unknown
from gradflow.diagnosis.conditions import CONDITIONS
from gradflow.diagnosis.finding import Finding, Verdict
from gradflow.diagnosis.words import sentence
from gradflow.foreign import printable
from gradflow.runlog import open_run

_ORDER: tuple[Verdict, ...] = ("ill", "unknown", "healthy")


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a run.

    Attributes:
        findings: One per condition that the network can have, what is ill first, then what is unknown; within each the
            ones without which the others cannot be believed come first.
        end: How the run ended, or that it goes on: what is found of it so far may change.
    """

    findings: tuple[Finding, ...]
    end: Ending

    @property
    def ill(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return self._of("ill")

    @property
    def unknown(self) -> tuple[Finding, ...]:
        """What the log does not tell."""
        return self._of("unknown")

    @property
    def healthy(self) -> tuple[Finding, ...]:
        """What was looked at and found well."""
        return self._of("healthy")

    def table(self) -> pd.DataFrame:
        """A row per finding.

        Returns:
            The columns name, verdict, where, measured, unit, threshold, source, figure, config, code, in the order of
            `findings`; see :class:`Finding`.
        """
        rows = [asdict(finding) | {"source": finding.source()} for finding in self.findings]
        columns = ["name", "verdict", "where", "measured", "unit", "threshold", "source", "figure", "config", "code"]
        return pd.DataFrame(rows, columns=columns)

    def text(self, lang: str = "en") -> str:
        """Plain text for a terminal: what is ill with meaning, source, figure and remedy, the rest in a line each.

        Args:
            lang: "en" or "zh".

        Raises:
            ValueError: An unknown language.
        """
        count: Mapping[str, Any] = {verdict: len(self._of(verdict)) for verdict in _ORDER}
        waiting = sum(finding.reason.startswith("no_lag") for finding in self.unknown)
        blocks = [*self._standing(lang), sentence(lang, "text.summary", count)]
        blocks += [sentence(lang, "text.length_missing", {"waiting": waiting})] if waiting else []
        blocks += ["\n".join(_in_full(finding, lang)) for finding in self.ill]
        for verdict in _ORDER[1:]:
            if there := self._of(verdict):
                blocks.append("\n".join([sentence(lang, f"text.{verdict}", {}), *(_in_short(f, lang) for f in there)]))
        return "\n\n".join(blocks)

    def _standing(self, lang: str) -> list[str]:
        """That the run goes on, if it does."""
        if self.end.status != "running":
            return []
        known = self.end.wanted is not None
        key = "text.running" if known else "text.running_open"
        return [sentence(lang, key, {"measured": self.end.iterations, "wanted": self.end.wanted if known else 0})]

    def _of(self, verdict: Verdict) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.verdict == verdict)


def _in_full(finding: Finding, lang: str) -> list[str]:
    lines = [f"✗ {finding.headline(lang)}", f"  {finding.meaning(lang)}", f"  {finding.advice(lang)}"]
    told = {"where": finding.where, "config": finding.config, "code": finding.code}
    told |= {"source": finding.source(lang), "figure": finding.figure}
    return lines + [f"  {sentence(lang, f'text.{key}', {})}{printable(text)}" for key, text in told.items() if text]


def _in_short(finding: Finding, lang: str) -> str:
    if finding.verdict == "healthy":
        return f"✓ {finding.headline(lang)}"
    return f"? {finding.headline(lang)} {finding.meaning(lang)} {finding.advice(lang)}"


def diagnose(run: Any, *, length: float | None = None) -> Diagnosis:
    """What is wrong with the gradients of a run, by which number, and what to do.

    Args:
        run: A run, or its folder, in any state: running, diverged, empty, of a script of one's own.
        length: How many steps the dependency spans that the network is to learn, from where it enters to where it is
            asked for; None: the whole sequences of gradflow's own tasks. Of any other training nothing says it, and
            what hangs on it is unknown unless nothing vanishes anywhere.

    Returns:
        The findings. A file that is damaged makes unknown what needs it.

    Raises:
        FileNotFoundError: There is no run at this path.
        TypeError: It is neither a run nor a path; of a sweep, diagnose each of its `members`.
        ValueError: The length is below 1 or no number.

    Example:
        `print(gradflow.diagnose("outputs/my-run", length=100).text())`
    """
    if isinstance(run, (str, os.PathLike)):
        run = open_run(run)
    if hasattr(run, "members") or not hasattr(type(run), "frame"):
        raise TypeError(
            f"run: expected a run or its folder, such as gradflow.open_run(PATH), got {shown(run)}; of a sweep, "
            f"diagnose each of its members"
        )
    case = Case(run, None if length is None else real_number("length", length, least=1))
    found = [finding for condition in CONDITIONS if (finding := _finding(condition, case)) is not None]
    return Diagnosis(tuple(sorted(found, key=lambda finding: _ORDER.index(finding.verdict))), ending(case.run))


def _finding(condition: Condition, case: Case) -> Finding | None:
    """Of the place that is worst: ill before unknown before healthy."""
    try:
        places: list[Place] | list[None] = [None] if condition.whole else case.places
    except (ValueError, OSError) as error:
        return _unknown(condition, None, Unknown("unreadable", error=str(error)))
    if not places:
        return _unknown(condition, None, Unknown("nothing_recorded"))
    found = [_in_place(condition, case, place) for place in places]
    known = [entry for entry in found if entry is not None]
    return min(known, key=lambda entry: (_ORDER.index(entry[0].verdict), -entry[1]))[0] if known else None


def _in_place(condition: Condition, case: Case, place: Place | None) -> tuple[Finding, float] | None:
    """The finding in one place, and how bad it is there; None where the condition cannot occur."""
    try:
        measured = condition.examined(case, place)
    except Unknown as unknown:
        return _unknown(condition, place, unknown), 0.0
    except (ValueError, OSError) as error:
        return _unknown(condition, place, Unknown("unreadable", error=str(error))), 0.0
    return None if measured is None else (_known(condition, case, place, measured), measured.badness)


def _known(condition: Condition, case: Case, place: Place | None, found: Measurement) -> Finding:
    about = (condition.unit, float(found.threshold), condition.figure)
    remedy = found.remedy if found.ill else type(found.remedy)()
    config = remedy.config if case.of_gradflow else ""
    verdict: Verdict = "ill" if found.ill else "healthy"
    where = place.where if place else ""
    return Finding(condition.name, verdict, where, float(found.value), *about, config, remedy.code, found.values)


def _unknown(condition: Condition, place: Place | None, why: Unknown) -> Finding:
    about = (condition.unit, float(why.threshold), condition.figure)
    where = place.where if place else ""
    return Finding(condition.name, "unknown", where, float(why.value), *about, values=why.values, reason=why.reason)
