"""The charts of the live page as Vega-Lite specifications, by language; the page's script gives them their rows."""

from collections.abc import Callable
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode

from gradflow.figures.theme import GREY, LANGUAGES, NOTHING, VERMILLION
from gradflow.live.words import word

ROWS = alt.NamedData(name="rows")
PATH = alt.NamedData(name="path")
CANVAS = ("surface", "training")
"""Those with too many marks for SVG."""


def specs() -> dict[str, dict[str, dict[str, Any]]]:
    """Chart -> language -> its specification without rows."""
    draw: dict[str, Callable[[str], Any]] = {
        "gradient": _gradient,
        "spectrum": _spectrum,
        "surface": _surface,
        "training": _training,
        "answer": _answer,
    }
    with debug_mode(False):
        return {name: {lang: _filling(make(lang)) for lang in LANGUAGES} for name, make in draw.items()}


def _filling(chart: Any) -> dict[str, Any]:
    """As wide and as high as its place."""
    spec = chart.properties(width="container", height="container").to_dict(validate=False)
    return spec | {"autosize": {"type": "fit", "contains": "padding", "resize": True}}


def _scale(low: str, high: str, **more: Any) -> alt.Scale:
    """From and to a parameter that the page sets."""
    return alt.Scale(domainMin=alt.ExprRef(expr=low), domainMax=alt.ExprRef(expr=high), nice=False, **more)


def _gradient(lang: str) -> alt.LayerChart:
    title, whole = word("gradient.axis")[lang], alt.Axis(tickMinStep=1, tickCount=8)
    across = alt.X("lag:Q", title=word("gradient.lag")[lang], scale=_scale("0", "last"), axis=whole)
    scale = _scale("low", "high", type="log")
    decades = alt.Axis(values=alt.ExprRef(expr="decades"), labelExpr="power(datum.value)")
    up = alt.Y("median:Q", title=title, scale=scale, axis=decades)
    colour = alt.Color("colour:N", scale=None)
    base = alt.Chart(ROWS).transform_filter("datum.median > 0")
    told = [
        alt.Tooltip("name:N"),
        alt.Tooltip("lag:Q", title=word("gradient.lag")[lang]),
        alt.Tooltip("median:Q", title="‖dL/dh‖", format=".3~g"),
    ]
    band = (
        base.transform_filter("!datum.held")
        .mark_area(opacity=0.22, clip=True, aria=False)
        .encode(
            across,
            alt.Y("lowest:Q", title=title, scale=scale, axis=decades),
            alt.Y2("highest:Q"),
            colour,
        )
    )
    dash = alt.StrokeDash("held:N", scale=alt.Scale(domain=[False, True], range=[[1, 0], [7, 5]]), legend=None)
    line = base.mark_line(strokeWidth=4, clip=True, aria=False).encode(across, up, colour, dash, detail="curve:N")
    points = base.mark_circle(size=90, opacity=0, clip=True, aria=False).encode(across, up, colour, tooltip=told)
    return alt.layer(band, line, points)


def _spectrum(lang: str) -> alt.LayerChart:
    across = alt.X(
        "index:Q", title=word("spectrum.index")[lang], scale=_scale("0", "last"), axis=alt.Axis(tickMinStep=1)
    )
    up = alt.Y("value:Q", title=word("spectrum.axis")[lang], scale=_scale("0", "high"), axis=alt.Axis(tickCount=5))
    colour = alt.Color("colour:N", scale=None)
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=["jacobian", "weight"], range=[[1, 0], [7, 5]]), legend=None)
    base = alt.Chart(ROWS)
    lines = base.mark_line(strokeWidth=4, clip=True, aria=False).encode(across, up, colour, dash)
    points = base.mark_circle(size=90, opacity=0, aria=False).encode(
        across, up, tooltip=["name:N", "index:Q", alt.Tooltip("value:Q", format=".4~g")]
    )
    one = alt.Chart(alt.InlineData(values=[{"one": 1}])).mark_rule(color=GREY, strokeDash=[3, 4]).encode(y="one:Q")
    return alt.layer(one, lines, points)


def _surface(lang: str) -> alt.LayerChart:
    across = alt.X(
        "w:Q", title=word("surface.w")[lang], scale=_scale("wLow", "wHigh"), axis=alt.Axis(tickCount=5, grid=False)
    )
    up = alt.Y(
        "b:Q", title=word("surface.b")[lang], scale=_scale("bLow", "bHigh"), axis=alt.Axis(tickCount=5, grid=False)
    )
    scale = alt.Scale(scheme="viridis", domain=[0, 0.5], clamp=True)
    legend = alt.Legend(title=word("surface.error")[lang], orient="right", tickCount=4)
    heat = (
        alt.Chart(ROWS)
        .mark_rect(clip=True, aria=False)
        .encode(
            across,
            up,
            alt.X2("w2:Q"),
            alt.Y2("b2:Q"),
            alt.Color("error:Q", scale=scale, legend=legend),
        )
    )
    path = alt.Chart(PATH).encode(across, up, order="order:Q")
    halo = path.mark_line(strokeWidth=7, color="#FFFFFF", clip=True, aria=False)
    line = path.mark_line(strokeWidth=4, color=VERMILLION, clip=True, aria=False)
    stops = path.mark_circle(size=70, color=VERMILLION, opacity=1, stroke="#FFFFFF", clip=True, aria=False)
    return alt.layer(heat, halo, line, stops)


def _training(lang: str) -> alt.Chart:
    axis = alt.Axis(grid=False, tickMinStep=1)
    ticks = alt.Axis(grid=False, tickMinStep=1, tickCount=6)
    across = alt.X("iteration:Q", title=word("training.iteration")[lang], scale=_scale("0", "last"), axis=ticks)
    up = alt.Y("lag:Q", title=word("gradient.lag")[lang], scale=_scale("-0.5", "most"), axis=axis)
    legend = alt.Legend(title=None, orient="right", tickCount=5)
    shades = _scale("low", "high", scheme="viridis", clamp=True)
    colour = alt.Color("value:Q", scale=shades, legend=legend)
    return (
        alt.Chart(ROWS)
        .mark_rect(clip=True, aria=False)
        .encode(
            across,
            up,
            alt.X2("iteration2:Q"),
            alt.Y2("lag2:Q"),
            color=alt.condition("isValid(datum.value)", colour, alt.value(NOTHING)),
            tooltip=[
                alt.Tooltip("iteration:Q", title=word("training.iteration")[lang]),
                alt.Tooltip("back:Q", title=word("gradient.lag")[lang]),
                alt.Tooltip("value:Q", title=" ", format=".3~g"),
            ],
        )
    )


def _answer(lang: str) -> alt.LayerChart:
    axis = alt.Axis(
        labelExpr="substring(datum.label, 3, 4)", labelAngle=0, labelFontSize=alt.ExprRef(expr="1.3 * size"), title=None
    )
    across = alt.X("place:N", sort=None, axis=axis)
    up = alt.Y("score:Q", title=word("answer.axis")[lang], axis=alt.Axis(tickCount=5))
    bars = (
        alt.Chart(ROWS)
        .mark_bar(aria=False)
        .encode(
            across,
            up,
            alt.Color("colour:N", scale=None),
            tooltip=["character:N", alt.Tooltip("score:Q", title=word("answer.axis")[lang], format=".3~g")],
        )
    )
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=GREY).encode(y="zero:Q")
    return alt.layer(bars, zero)
