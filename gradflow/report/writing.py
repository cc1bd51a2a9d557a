"""Writes the report of what lies at a path."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gradflow.analysis.runs import one_seed
from gradflow.analysis.tasks import by_task
from gradflow.checks import check_kind, check_path, listed, real_number
from gradflow.diagnosis import diagnose
from gradflow.figures.gallery import GALLERY, Tried, tried
from gradflow.figures.theme import LANGUAGES
from gradflow.files import write_files
from gradflow.report import diagnosis
from gradflow.report.diagnosis import Told
from gradflow.report.figures import LeftOut, Section, sections_of
from gradflow.report.outcome import Outcome, outcomes, provenance_of, settings_of, summary
from gradflow.report.page import rendered
from gradflow.report.words import Text, word
from gradflow.runlog import Sweep, Unreadable, open_sweep

log = logging.getLogger(__name__)
NAME = "report.html"
MOST_EXAMINED = 64  # runs, each of which takes a tenth of a second and half a screen


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
    def foreign(self) -> str:
        """The language in which pictures are not; empty if they are in all."""
        parts = (part for section in self.sections for figure in section.figures for part in figure.parts)
        return next((lang for part in parts if part.pictures for lang in LANGUAGES if lang not in part.pictures), "")

    @property
    def shown(self) -> set[str]:
        """The names of the first task's figures, to which findings can point."""
        return {figure.name for section in self.sections[:1] for figure in section.figures}


def write_report(
    path: str | Path | Sweep,
    out: str | Path | None = None,
    *,
    length: float | None = None,
    figures: Iterable[Tried] | None = None,
) -> Path:
    """Write one HTML file about the runs below a path: outcome, diagnosis, settings, figures with claims, provenance.

    It needs no network and no other file. Texts are in English and Chinese, by a switch. The numbers are those of the
    gallery; where there are more recorded iterations than the page has room for, it says which it shows.

    Args:
        path: The folder of a run or of a sweep, or what :func:`gradflow.open_sweep` returned.
        out: The file; None is `report.html` in that folder. Its folder is made; what was there is replaced.
        length: Steps that the dependency spans, as of :func:`gradflow.diagnose`; None: what gradflow's own tasks say.
        figures: What :func:`gradflow.figures.gallery.draw_each` returned for that sweep, which saves the time of making
            them again: pictures are then those files, in one language, and the page links to all of them. None makes
            them in both.

    Returns:
        The file.

    Raises:
        FileNotFoundError: There is no run below the path.
        OSError: It cannot be written; what was there is as before.
        ValueError: The length is below 1 or no number.
    """
    if not isinstance(path, Sweep):
        check_path("path", path, "the folder of a run or of a sweep")
    folder = path.path if isinstance(path, Sweep) else Path(path)
    file = _place(folder, out)
    if length is not None:
        real_number("length", length, least=1)
    if figures is not None:
        figures = listed("figures", figures, "what gradflow.figures.gallery.draw_each returned")
        for figure in figures:
            check_kind("figures", figure, Tried, "what gradflow.figures.gallery.draw_each returned")
    content = content_of(path if isinstance(path, Sweep) else open_sweep(folder), length, figures)
    page = rendered(content, file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_files({file: page.encode(errors="backslashreplace")})
    return file


def content_of(sweep: Sweep, length: float | None = None, figures: Iterable[Tried] | None = None) -> Content:
    """Everything that a report says of runs; what cannot be read or made is said, and left out.

    Args:
        sweep: The runs.
        length: As of :func:`write_report`.
        figures: Those that were made of them before; None makes them.
    """
    sweep = sweep.kept()
    table = sweep.runs
    ends = outcomes(table, sweep.members)
    try:
        readable = sweep.readable.members
    except Unreadable:  # none: the table says which file, and why
        readable = ()
    names = dict(zip(table["path"], table["run"], strict=True))
    sections, left_out = sections_of(tried(readable, GALLERY) if figures is None else figures)
    common, varying = settings_of(readable)
    examined = _examined(readable)
    found = diagnosis.diagnoses({names[str(run.path)]: run for run in examined}, partial(diagnose, length=length))
    some = [word("diagnosis.some", count=len(examined), total=len(readable))] if len(examined) < len(readable) else []
    return Content(
        name=sweep.path.resolve().name,
        summary=[*summary(ends, readable), *diagnosis.summary(found), *some],
        outcomes=ends,
        varying=varying,
        common=common,
        provenance=provenance_of(readable),
        diagnoses=found,
        sections=sections,
        left_out=left_out,
    )


def _examined(runs: Sequence[Any]) -> list[Any]:
    """Those that are diagnosed: all, or of very many one seed of each setting, as a page can hold no more."""
    if len(runs) <= MOST_EXAMINED:
        return list(runs)
    return [run for alike in by_task(runs).values() for run in one_seed(alike)][:MOST_EXAMINED]


def _place(path: Path, out: Any) -> Path:
    if out is None:
        return path / NAME
    check_path("out", out, "the file of the report")
    return Path(out)
