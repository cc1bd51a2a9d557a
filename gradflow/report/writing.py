"""Writes the report of what lies at a path."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradflow
from gradflow.checks import check_path
from gradflow.files import write_files
from gradflow.report.diagnosis import Told, diagnoses
from gradflow.report.figures import LeftOut, Section, sections_of
from gradflow.report.outcome import Outcome, outcomes, provenance_of, settings_of, summary
from gradflow.report.words import Text
from gradflow.runlog import Run, Unreadable, open_sweep

log = logging.getLogger(__name__)
NAME = "report.html"


@dataclass(frozen=True)
class Content:
    """All that the page says."""

    name: str
    summary: list[Text]
    outcomes: list[Outcome]
    varying: dict[str, list[str]]
    common: dict[str, str]
    provenance: dict[str, list[str]]
    diagnoses: dict[str, list[Told]]
    sections: list[Section]
    left_out: list[LeftOut] = field(default_factory=list)


def write_report(path: str | Path, out: str | Path | None = None) -> Path:
    """Write one HTML file about the runs below a path: outcome, diagnosis, settings, figures with claims, provenance.

    It needs no network and no other file. Texts are in English and Chinese, by a switch. The numbers are those of the
    gallery; where there are more recorded iterations than the page has room for, it says which it shows.

    Args:
        path: The folder of a run or of a sweep.
        out: The file; None is `report.html` in that folder. Its folder is made; what was there is replaced.

    Returns:
        The file.

    Raises:
        FileNotFoundError: There is no run below the path.
        OSError: It cannot be written; what was there is as before.
    """
    check_path("path", path, "the folder of a run or of a sweep")
    file = _place(Path(path), out)
    page = _page(content_of(Path(path)))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_files({file: page.encode(errors="backslashreplace")})
    return file


def content_of(path: Path) -> Content:
    """Everything that a report says of the runs below a path; what cannot be read or made is said, and left out."""
    sweep = open_sweep(path).kept()
    table = sweep.runs
    ends = outcomes(table, sweep.members)
    try:
        readable = sweep.readable.members
    except Unreadable:  # none: the table says which file, and why
        readable = ()
    names = dict(zip(table["path"], table["run"], strict=True))
    sections, left_out = sections_of(readable) if readable else ([], [])
    common, varying = settings_of(readable)
    return Content(
        name=path.resolve().name,
        summary=summary(ends, readable),
        outcomes=ends,
        varying=varying,
        common=common,
        provenance=provenance_of(readable),
        diagnoses=_diagnoses({names[str(run.path)]: run for run in readable}),
        sections=sections,
        left_out=left_out,
    )


def _diagnoses(runs: dict[str, Run]) -> dict[str, list[Told]]:
    diagnose = getattr(gradflow, "diagnose", None)
    return diagnoses(runs, diagnose) if diagnose else {}


def _place(path: Path, out: Any) -> Path:
    if out is None:
        return path / NAME
    check_path("out", out, "the file of the report")
    return Path(out)


def _page(content: Content) -> str:
    from gradflow.report.page import rendered  # the charts' library takes seconds, errors come before it

    return rendered(content)
