"""The figures of a report: the gallery's own, those that one can ask as charts, the others as pictures."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from gradflow.analysis.runs import DoesNotApply
from gradflow.figures.gallery import Tried
from gradflow.figures.output import strict_glyphs
from gradflow.figures.room import rooms
from gradflow.figures.theme import LANGUAGES, as_drawn
from gradflow.report import charts, rows
from gradflow.report.charts import Chart
from gradflow.report.curves import Curve, curves_of
from gradflow.report.rows import Numbers
from gradflow.report.words import Text, alike, has_text, html_of_figures, known, number, of_figures, word

log = logging.getLogger(__name__)
DOTS = 144  # per inch: a picture is as wide as the page


@dataclass(frozen=True)
class Verdict:
    """A claim of a figure, checked: its sentence (none where the figures have none for it), and its numbers."""

    name: str
    sentence: Text | None
    measured: str
    expected: str
    holds: bool


@dataclass(frozen=True)
class Part:
    """What one table of the gallery says: its settings, its claims, and its picture where there is no chart.

    Its files are those of the figure, where it was drawn for itself, too.
    """

    label: str
    setting: Text
    verdicts: list[Verdict]
    numbers: Numbers
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    files: Sequence[Path] = ()

    @property
    def count(self) -> int:
        """How many claims were checked."""
        return len(self.verdicts)


@dataclass(frozen=True)
class Figure:
    """A figure of the page, of one task and module, with the parts of it that the gallery draws apart."""

    name: str
    title: Text
    parts: list[Part]
    charts: list[Chart] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """The figures of the runs that one figure may show together."""

    title: Text
    curves: list[Curve]
    figures: list[Figure]


@dataclass(frozen=True)
class LeftOut:
    """A figure that could not be made, and why."""

    name: str
    reason: str


@dataclass
class _Found:
    """Figures of the gallery for one task and module, by their names."""

    parts: dict[str, list[Tried]] = field(default_factory=dict)


def sections_of(figures: Iterable[Tried]) -> tuple[list[Section], list[LeftOut]]:
    """Every figure that could be made, task by task, and those that could not.

    Args:
        figures: All that were tried.
    """
    found: dict[tuple[str, str], _Found] = {}
    left_out = list[LeftOut]()
    for tried in figures:
        reason = tried.reason or (tried.not_worth if tried.job.name not in ASKED else None)
        if reason is None:
            place = found.setdefault((tried.job.group, tried.job.module), _Found())
            place.parts.setdefault(tried.job.name, []).append(tried)
        else:
            _leave_out(tried.job.title, reason, left_out)
    sections = [_section(place, own, left_out) for place, own in found.items()]
    return [section for section in sections if section.figures], left_out


def _guarded(title: str, make: Callable[[], Any], left_out: list[LeftOut]) -> Any:
    """What is made, or None where the log does not hold it: a figure that fails costs no other."""
    try:
        return make()
    except Exception as reason:
        _leave_out(title, reason, left_out)
    return None


def _leave_out(title: str, reason: Exception, left_out: list[LeftOut]) -> None:
    if isinstance(reason, DoesNotApply):
        return
    if isinstance(reason, ValueError):
        left_out.append(LeftOut(title, str(reason)))
        return
    log.warning("left out %s: %s: %s", title, type(reason).__name__, reason)  # what nobody foresaw
    log.debug("%s", title, exc_info=reason)
    left_out.append(LeftOut(title, f"{type(reason).__name__}: {reason}"))


def _section(place: tuple[str, str], found: _Found, left_out: list[LeftOut]) -> Section:
    runs = list(dict.fromkeys(run for parts in found.parts.values() for tried in parts for run in tried.job.runs))
    curves = curves_of(runs)
    asked = _charts("-".join(word for word in place if word), found, runs, curves, left_out)
    figures = []
    for name, parts in found.parts.items():
        drawn = asked.get(name, [])
        needed = not drawn and name not in ASKED
        own = [_guarded(tried.job.title, partial(_part, tried, needed), left_out) for tried in parts]
        kept = [part for part in own if part is not None]
        if any(drawn or part.pictures or part.verdicts for part in kept):  # else there is nothing to see
            figures.append(Figure(name, known(f"figure.{name}", name), kept, drawn))
    return Section(_title(place, found), curves, figures)


def _title(place: tuple[str, str], found: _Found) -> Text:
    """The task of the runs, as figures tell it, and what the gallery calls their group."""
    group, module = place
    data = next(iter(found.parts.values()))[0].data
    setting = of_figures(lambda labels: labels.setting(data.assign(layer=-1) if "layer" in data else data))
    words = [setting if setting["en"] else word("section.runs"), *([alike(group)] if group else [])]
    words += [alike(module)] if module and module not in setting["en"] else []
    return {lang: " · ".join(text[lang] for text in words) for lang in LANGUAGES}


def _part(tried: Tried, drawn: bool) -> Part:
    setting = of_figures(lambda labels: labels.setting(tried.data))
    numbers = rows.listed(tried.data, word("numbers.of", count=len(tried.data)))
    pictures = _pictures(tried) if drawn else {}
    verdicts = [_verdict(claim) for claim in tried.claims]
    return Part(tried.job.part, setting, verdicts, numbers, pictures, tried.files)


def _verdict(claim: Mapping[str, Any]) -> Verdict:
    sentence = None
    if has_text(f"claim.{claim['claim']}") or claim["claim"].startswith("learned"):
        sentence = html_of_figures(lambda labels: labels.claim(claim))
    return Verdict(claim["claim"], sentence, number(claim["value"]), str(claim["expected"]), claim["holds"])


def _pictures(tried: Tried) -> Mapping[str, bytes]:
    """By language; of a figure that was drawn before, that picture, in its one language."""
    for file in tried.files:
        if file.suffix == ".png":
            return {tried.lang: _smaller(file.read_bytes())}
    return {lang: _picture(tried, lang) for lang in LANGUAGES}


def _smaller(png: bytes) -> bytes:
    """A picture as WebP, which is a third of a PNG and, of many curves, of an SVG."""
    picture = BytesIO()
    with Image.open(BytesIO(png)) as drawn:
        drawn.convert("RGB").save(picture, format="webp", lossless=True, quality=50, method=2)
    return picture.getvalue()


def _picture(tried: Tried, lang: str) -> bytes:
    """The gallery's figure as WebP, without its headline, which the page has among the claims."""
    figure = tried.job.entry.plot(tried.data, claims=tried.claims, lang=lang, context="notebook", title="")
    picture = BytesIO()
    with as_drawn(figure), strict_glyphs():
        figure.savefig(picture, format="webp", dpi=DOTS, pil_kwargs={"lossless": True})
    return picture.getvalue()


ASKED: tuple[str, ...] = ("clipping_effect", "gradient_by_lag", "gradient_heatmap", "singular_values_over_training")
ASKED += ("weight_spectrum", "gate_timescales", "comparison")
"""The figures that are charts, and the one whose numbers are the table of outcomes."""


def _charts(
    prefix: str, found: _Found, runs: Sequence[Any], curves: Sequence[Curve], left_out: list[LeftOut]
) -> dict[str, list[Chart]]:
    """The charts of one task and module, by the figures that they stand for."""

    def joined(name: str) -> pd.DataFrame:
        return pd.concat([tried.data for tried in found.parts[name]], ignore_index=True)

    def at_all(name: str, table: str) -> pd.DataFrame:
        own = list(dict.fromkeys(run for tried in found.parts[name] for run in tried.job.runs))
        return getattr(rooms()[name].part("numbers"), table)(own)

    made: dict[str, list[Chart]] = {}

    def add(name: str, make: Callable[[], list[Chart]]) -> None:
        if name in found.parts and (drawn := _guarded(f"{prefix} {name}".strip(), make, left_out)):
            made[name] = drawn

    def training() -> list[Chart]:
        own = rows.training_rows(joined("clipping_effect"), curves, f"{prefix}-training")
        loss = [charts.loss_chart(own)] if np.isfinite(own.data["loss"]).any() else []
        return [*loss, *charts.norm_charts(own)]

    def by_lag() -> list[Chart]:
        return [charts.lag_chart(of_lag())] if "gradient_heatmap" in found.parts else []

    def of_lag() -> rows.Rows:
        return rows.lag_rows(joined("gradient_heatmap"), curves, f"{prefix}-lag")

    def stretch() -> list[Chart]:
        data = joined("singular_values_over_training")
        return [charts.stretch_chart(rows.stretch_rows(data, curves, f"{prefix}-stretch"))]

    def spectrum() -> list[Chart]:
        data = at_all("weight_spectrum", "weight_spectrum_over_training")
        own = rows.spectrum_rows(data, curves, f"{prefix}-spectrum")
        return [charts.eigenvalue_chart(own), charts.singular_chart(own)]

    def gates() -> list[Chart]:
        data = at_all("gate_timescales", "gate_timescales_over_training")
        return [charts.gate_chart(rows.gate_rows(data, curves, f"{prefix}-gates"))]

    add("clipping_effect", training)
    add("gradient_by_lag", by_lag)
    add("gradient_heatmap", lambda: [charts.heat_chart(of_lag())])
    add("singular_values_over_training", stretch)
    add("weight_spectrum", spectrum)
    add("gate_timescales", gates)
    return made
