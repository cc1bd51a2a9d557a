"""Writes the report of what lies at a path."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gradflow.checks import check_path, real_number
from gradflow.diagnosis import diagnose
from gradflow.files import write_files
from gradflow.report import diagnosis
from gradflow.report.diagnosis import Told
from gradflow.report.figures import LeftOut, Section, sections_of
from gradflow.report.outcome import Outcome, outcomes, provenance_of, settings_of, summary
from gradflow.report.page import rendered
from gradflow.report.words import Text
from gradflow.runlog import Unreadable, open_sweep

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
    left_out: list[LeftOut]

    @property
    def shown(self) -> set[str]:
        """The names of the first task's figures, to which findings can point."""
        return {figure.name for section in self.sections[:1] for figure in section.figures}


def write_report(path: str | Path, out: str | Path | None = None, *, length: float | None = None) -> Path:
    """Write one HTML file about the runs below a path: outcome, diagnosis, settings, figures with claims, provenance.

    It needs no network and no other file. Texts are in English and Chinese, by a switch. The numbers are those of the
    gallery; where there are more recorded iterations than the page has room for, it says which it shows.

    Args:
        path: The folder of a run or of a sweep.
        out: The file; None is `report.html` in that folder. Its folder is made; what was there is replaced.
        length: Steps that the dependency spans, as of :func:`gradflow.diagnose`; None: what gradflow's own tasks say.

    Returns:
        The file.

    Raises:
        FileNotFoundError: There is no run below the path.
        OSError: It cannot be written; what was there is as before.
        ValueError: The length is below 1 or no number.
    """
    check_path("path", path, "the folder of a run or of a sweep")
    file = _place(Path(path), out)
    if length is not None:
        real_number("length", length, least=1)
    page = rendered(content_of(Path(path), length))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_files({file: page.encode(errors="backslashreplace")})
    return file


def content_of(path: Path, length: float | None = None) -> Content:
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
    found = diagnosis.diagnoses({names[str(run.path)]: run for run in readable}, partial(diagnose, length=length))
    return Content(
        name=path.resolve().name,
        summary=[*summary(ends, readable), *diagnosis.summary(found)],
        outcomes=ends,
        varying=varying,
        common=common,
        provenance=provenance_of(readable),
        diagnoses=found,
        sections=sections,
        left_out=left_out,
    )


def _place(path: Path, out: Any) -> Path:
    if out is None:
        return path / NAME
    check_path("out", out, "the file of the report")
    return Path(out)
