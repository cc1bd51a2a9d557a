"""The charts one can ask: values under the pointer, a slider over iterations, runs shown or hidden.

Each is a Vega-Lite specification, made by Altair once per language, of rows that all languages share. What is shown is
in its parameters, which the page's own controls set: `shown` (numbers of curves), `record` (place among the
iterations), `chosen` (a curve, or a kind of value).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.utils.schemapi import debug_mode

from gradflow.figures.heat import FAINTEST
from gradflow.figures.theme import GREY, LANGUAGES, NOTHING
from gradflow.report.rows import KINDS, Numbers, Rows, pivoted
from gradflow.report.words import Text, word

HEIGHT = 300  # pixels
SIDE = 300  # of a square


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: What it shows.
        rows: The rows it draws.
        specs: Vega-Lite by language, without the rows.
        numbers: A table for those who cannot see it.
        slider: Iterations that it can be seen at; empty if it shows all.
        choices: What one of is seen at a time; empty if all.
        toggles: Whether curves can be hidden.
        canvas: Whether it has too many marks for SVG.
        lost: How many values it does not draw, as they are NaN, infinite, or on a logarithmic axis zero.
    """

    title: Text
    rows: Rows
    specs: Mapping[str, dict[str, Any]]
    numbers: Numbers
    slider: list[int] = field(default_factory=list)
    choices: list[Text] = field(default_factory=list)
    toggles: bool = True
    canvas: bool = False
    lost: int = 0

    @property
    def notes(self) -> list[Text]:
        """What a reader must know of it."""
        return [*self.rows.notes, *([word("note.lost", count=self.lost)] if self.lost else [])]


def loss_chart(rows: Rows) -> Chart:
    """Training loss over iterations."""
    loss = _finite(rows, "loss")
    start = rows.data.loc[rows.data["iteration"] == rows.data["iteration"].min(), "loss"].median()
    top = np.nanmin([loss.max() * 1.05, max(1.7 * start, 1e-3)])  # one that explodes does not flatten the others
    scale = alt.Scale(domain=[min(0.0, loss.min()), top])
    return _over_iterations(rows, "chart.loss", "loss", scale)


def norm_charts(rows: Rows) -> list[Chart]:
    """Norm of all gradients over iterations, before and after clipping where that did something."""
    if np.allclose(rows.data["before"], rows.data["after"], equal_nan=True):
        return [_over_iterations(rows, "chart.norm", "after", alt.Scale(type="log"))]
    return [_over_iterations(rows, f"chart.norm_{when}", when, alt.Scale(type="log")) for when in ("before", "after")]


def _over_iterations(rows: Rows, title: str, y: str, scale: alt.Scale) -> Chart:
    def draw(lang: str) -> alt.LayerChart:
        across = _across(rows, "iteration", "axis.iteration", lang)
        return _lines(rows, lang, across, alt.Y(f"{y}:Q", title=word(title)[lang], scale=scale))

    numbers = pivoted(rows.data, "iteration", y, rows.curves, word(title), word("axis.iteration"))
    values = _finite(rows, y)
    drawn = values[values > 0] if scale["type"] == "log" else values
    return Chart(word(title), rows, _both(draw), numbers, lost=len(rows.data) - int(drawn.count()))


def lag_chart(rows: Rows) -> Chart:
    """Gradient relative to lag 0 against lag, at the iteration of the slider."""
    low, high = _ends(rows, least=-690.0)  # what exp makes a number
    scale = alt.Scale(type="log", domain=[float(np.exp(low)), float(np.exp(min(high, 690.0)))], nice=True)

    def draw(lang: str) -> alt.LayerChart:
        across = _across(rows, "lag", "axis.lag", lang)
        up = alt.Y("ratio:Q", title=word("axis.relative_gradient")[lang], scale=scale, axis=alt.Axis(format=".0e"))
        return _lines(rows, lang, across, up, ratio="exp(datum.value)")

    last = rows.at_the_end
    caption = word("numbers.lag", iteration=rows.iterations[-1])
    numbers = pivoted(last.assign(value=np.exp(last["value"])), "lag", "value", rows.curves, caption, word("axis.lag"))
    lost = len(rows.data) - int(_finite(rows, "value").count())
    return Chart(word("chart.lag"), rows, _both(draw), numbers, slider=rows.iterations, lost=lost)


def heat_chart(rows: Rows) -> Chart:
    """The logarithm of the gradient over lag and iteration, of one curve."""
    domain = _ends(rows, least=float(np.log(FAINTEST)))

    def draw(lang: str) -> alt.Chart:
        ticks = alt.Axis(labelOverlap="greedy", labelAngle=0, ticks=False)
        across = alt.X("iteration:O", title=word("axis.iteration")[lang], axis=ticks)
        up = alt.Y("lag:O", title=word("axis.lag")[lang], axis=ticks, sort="descending")
        legend = alt.Legend(title=word("legend.log_gradient")[lang], orient="top", gradientLength=200)
        colour = alt.Color(
            "value:Q", title=None, scale=alt.Scale(scheme="viridis", domain=domain, clamp=True), legend=legend
        )
        told = [*_told(across, lang), *_told(up, lang)]
        told.append(alt.Tooltip("value:Q", title=word("axis.log_gradient")[lang], format=".3f"))
        return (
            _base(rows, lang)
            .transform_filter("datum.curve == chosen")
            .mark_rect(aria=False)
            .encode(across, up, color=alt.condition("isFinite(datum.value)", colour, alt.value(NOTHING)), tooltip=told)
            .properties(width="container", height=HEIGHT)
        )

    caption = word("numbers.heat", iteration=rows.iterations[-1])
    numbers = pivoted(rows.at_the_end, "lag", "value", rows.curves, caption, word("axis.lag"))
    choices = [curve.name for curve in rows.curves]
    return Chart(word("chart.heat"), rows, _both(draw), numbers, choices=choices, toggles=False, canvas=True)


def stretch_chart(rows: Rows) -> Chart:
    """One of the singular values, or the spectral radius, of the recurrent weights over iterations."""

    def draw(lang: str) -> alt.LayerChart:
        across = _across(rows, "iteration", "axis.iteration", lang)
        up = alt.Y("value:Q", title=word("axis.value")[lang], scale=alt.Scale(zero=False))
        return _lines(rows, lang, across, up, where="datum.kind == chosen")

    largest = rows.data[rows.data["kind"] == 0]
    caption, axis = word("numbers.stretch"), word("axis.iteration")
    numbers = pivoted(largest, "iteration", "value", rows.curves, caption, axis)
    choices = [word(f"kind.{name}") for name in (*KINDS, "radius")]
    lost = len(rows.data) - int(_finite(rows, "value").count())
    return Chart(word("chart.stretch"), rows, _both(draw), numbers, choices=choices, lost=lost)


def eigenvalue_chart(rows: Rows) -> Chart:
    """The eigenvalues of the recurrent weights in the complex plane beside the unit circle, at one iteration."""
    reach = 1.08 * np.nanmax([1.0, *(_finite(rows, name).abs().max() for name in ("re", "im"))])
    scale = alt.Scale(domain=[-reach, reach], nice=False)

    def draw(lang: str) -> alt.LayerChart:
        real = alt.X("re:Q", title=word("axis.real")[lang], scale=scale)
        imaginary = alt.Y("im:Q", title=word("axis.imaginary")[lang], scale=scale)
        told = [_run(lang)]
        told += [alt.Tooltip("modulus:Q", title="|λ|", format=".4f"), *_told(real, lang, ".4f")]
        told += _told(imaginary, lang, ".4f")
        points = (
            _shown(rows, lang)
            .transform_filter("datum.record == record")
            .transform_calculate(modulus="sqrt(datum.re * datum.re + datum.im * datum.im)")
            .mark_circle(size=45, opacity=0.75, aria=False)
            .encode(real, imaginary, _colour(rows), tooltip=told)
        )
        angle = alt.sequence(0, 6.2832, 0.0628, as_="angle")
        circle = (
            alt.Chart(angle)
            .transform_calculate(x="cos(datum.angle)", y="sin(datum.angle)")
            .mark_line(color=GREY, strokeDash=[4, 3], aria=False)
            .encode(alt.X("x:Q", scale=scale), alt.Y("y:Q", scale=scale), order="angle:Q")
        )
        return alt.layer(points, circle).properties(width=SIDE, height=SIDE)

    last = rows.at_the_end
    modulus = last.assign(modulus=np.hypot(last["re"], last["im"]))
    caption = word("numbers.eigenvalues", iteration=rows.iterations[-1])
    numbers = pivoted(modulus, "index", "modulus", rows.curves, caption, word("axis.index"))
    lost = len(rows.data) - int((_finite(rows, "re") + _finite(rows, "im")).count())
    return Chart(word("chart.eigenvalues"), rows, _both(draw), numbers, slider=rows.iterations, lost=lost)


def singular_chart(rows: Rows) -> Chart:
    """All singular values of the recurrent weights, at one iteration."""

    def draw(lang: str) -> alt.LayerChart:
        across = _across(rows, "index", "axis.index", lang)
        scale = alt.Scale(domain=[0, np.nanmax([1.0, 1.05 * _finite(rows, "sigma").max()])])
        up = alt.Y("sigma:Q", title=word("axis.singular_value")[lang], scale=scale)
        return _lines(rows, lang, across, up)

    last = rows.at_the_end
    caption = word("numbers.singular", iteration=rows.iterations[-1])
    numbers = pivoted(last, "index", "sigma", rows.curves, caption, word("axis.index"))
    lost = len(rows.data) - int(_finite(rows, "sigma").count())
    return Chart(word("chart.singular"), rows, _both(draw), numbers, slider=rows.iterations, lost=lost)


def gate_chart(rows: Rows) -> Chart:
    """Time scale of the gates that keep along the sequence, at one iteration."""

    def draw(lang: str) -> alt.LayerChart:
        across = _across(rows, "time", "axis.time", lang)
        finite = _finite(rows, "median").replace(0, np.nan)
        domain = [np.nanmin([finite.min(), 1.0]), np.nanmax([finite.max(), 10.0])]
        scale = alt.Scale(type="log", domain=domain)
        up = alt.Y("median:Q", title=word("axis.time_scale")[lang], scale=scale, axis=alt.Axis(format="~g"))
        more = {"low:Q": word("axis.low")[lang], "high:Q": word("axis.high")[lang]}
        return _lines(rows, lang, across, up, more=more)

    last = rows.at_the_end
    caption = word("numbers.gates", iteration=rows.iterations[-1])
    numbers = pivoted(last, "time", "median", rows.curves, caption, word("axis.time"))
    lost = len(rows.data) - int((_finite(rows, "median") > 0).sum())
    return Chart(word("chart.gates"), rows, _both(draw), numbers, slider=rows.iterations, lost=lost)


def _across(rows: Rows, name: str, title: str, lang: str) -> alt.X:
    """The horizontal axis of whole numbers, which stays as it is whatever is hidden."""
    ends = [float(rows.data[name].min()), float(rows.data[name].max())]
    scale = alt.Scale(domain=ends if ends[0] < ends[1] else [ends[0] - 0.5, ends[1] + 0.5], nice=False)
    ticks = alt.Axis(format="d", tickCount=int(min(10, max(1, ends[1] - ends[0]))))
    return alt.X(f"{name}:Q", title=word(title)[lang], axis=ticks, scale=scale)


def _both(draw: Callable[[str], Any]) -> dict[str, dict[str, Any]]:
    with debug_mode(False):  # the schema is a matter of tests: checking each part takes longer than all else
        return {lang: draw(lang).to_dict(validate=False) for lang in LANGUAGES}


def _finite(rows: Rows, name: str) -> pd.Series:
    """A column, NaN where it is not finite."""
    return rows.data[name].where(np.isfinite(rows.data[name])).astype(float)


def _ends(rows: Rows, least: float) -> list[float]:
    """From where to where the logarithms go that are finite."""
    values = _finite(rows, "value")
    low = max(least, np.nanmin([values.min(), 0.0]))
    return [low, max(low + 0.1, np.nanmax([values.max(), 0.0]))]


def _base(rows: Rows, lang: str) -> alt.Chart:
    """The rows with the names of their curves and their iterations."""
    kinds = {str(name): "number" for name in rows.data}
    names = [{"curve": i, "run": curve.name[lang]} for i, curve in enumerate(rows.curves)]
    chart = alt.Chart(alt.NamedData(name="rows", format=alt.CsvDataFormat(type="csv", parse=kinds)))
    chart = chart.transform_lookup("curve", alt.LookupData(alt.InlineData(values=names), "curve", ["run"]))
    return chart.transform_calculate(iteration="iterations[datum.record]") if rows.iterations else chart


def _shown(rows: Rows, lang: str) -> alt.Chart:
    return _base(rows, lang).transform_filter("indexof(shown, datum.curve) >= 0")


def _colour(rows: Rows) -> alt.Color:
    scale = alt.Scale(domain=[*range(len(rows.curves))], range=[curve.colour for curve in rows.curves])
    return alt.Color("curve:N", scale=scale, legend=None)


def _run(lang: str) -> alt.Tooltip:
    """The curve under the pointer; Vega-Lite finds the words of the nearest point only where they have a format."""
    return alt.Tooltip("run:N", title=word("axis.run")[lang], format="", formatType="words")


def _told(channel: Any, lang: str, form: str = "") -> list[alt.Tooltip]:
    """What is told of an axis under the pointer."""
    return [alt.Tooltip(channel["shorthand"], title=channel["title"], **({"format": form} if form else {}))]


def _lines(
    rows: Rows,
    lang: str,
    across: alt.X,
    up: alt.Y,
    *,
    where: str = "",
    more: Mapping[str, str] | None = None,
    **calculated: str,
) -> alt.LayerChart:
    """A line per curve, with points and their values where the pointer is."""
    x, y = (channel["shorthand"].partition(":")[0] for channel in (across, up))
    base = _shown(rows, lang)
    for condition in [*(["datum.record == record"] if rows.iterations else []), *([where] if where else [])]:
        base = base.transform_filter(condition)
    if calculated:
        base = base.transform_calculate(**calculated)
    above = " && datum.{0} > 0" if _is_log(up) else ""
    base = base.transform_filter(f"isValid(datum.{y}) && isFinite(datum.{y})" + above.format(y))
    scale = alt.Scale(domain=[*range(len(rows.curves))], range=[curve.dash for curve in rows.curves])
    look = [_colour(rows), alt.StrokeDash("curve:N", scale=scale, legend=None)]
    hover = alt.selection_point("near", fields=[x], nearest=True, on="pointerover", clear="pointerout", empty=False)
    told = [_run(lang), *_told(across, lang), *_told(up, lang, ".4~g")]
    told += [alt.Tooltip(name, title=title, format=".4~g") for name, title in (more or {}).items()]
    lines = base.mark_line(clip=True, aria=False, strokeWidth=1.8).encode(across, up, *look)
    alone = rows.data[x].nunique() == 1
    seen = alt.condition(hover, alt.value(1), alt.value(0.8 if alone else 0))
    points = (
        base.mark_point(filled=True, size=50, clip=True, aria=False)
        .encode(across, up, look[0], opacity=seen, tooltip=told)
        .add_params(hover)
    )
    return alt.layer(lines, points).properties(width="container", height=HEIGHT)


def _is_log(channel: Any) -> bool:
    scale = channel["scale"]
    return scale is not alt.Undefined and scale["type"] == "log"
