"""The page: its template, style and script, with all that they need inside."""

import base64
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
import vl_convert
from markupsafe import Markup

from gradflow.report import words
from gradflow.report.charts import Chart
from gradflow.report.curves import NIGHT
from gradflow.report.diagnosis import VERDICTS
from gradflow.report.outcome import measured_of

if TYPE_CHECKING:
    from gradflow.report.writing import Content


def rendered(content: "Content") -> str:
    """The page of a report."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gradflow.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        say=lambda key, **values: words.spans(words.word(key, **values)),
        say_or=lambda key, otherwise: words.spans(words.known(key, otherwise)),
        word=words.word,
        both=words.spans,
        attributes=words.data,
        attribute_of=lambda key, **values: words.data(words.word(key, **values)),
        number=words.number,
        safe=lambda text: words.alike(text)["en"],
        picture=lambda content: "data:image/webp;base64," + base64.b64encode(content).decode("ascii"),
    )
    charts = list(_charts(content))
    return environment.get_template("page.html").render(
        content=content,
        place_of=lambda chart: next(i for i, other in enumerate(charts) if other is chart),
        languages=words.HTML_LANG,
        style=Markup(_resource("page.css")),
        script=Markup(_resource("page.js")),
        library=Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")) if charts else "",
        facts=_as_json(_facts(charts)),
        title=words.word("page.title", name=content.name),
        night=NIGHT,
        verdicts=VERDICTS,
        measured=measured_of(content.outcomes),
    )


def _charts(content: "Content") -> Iterator[Chart]:
    for section in content.sections:
        for figure in section.figures:
            yield from figure.charts


def _facts(charts: list[Chart]) -> dict[str, Any]:
    """What the page's script needs: the rows once, and the charts that draw them."""
    return {
        "night": NIGHT,
        "rows": {chart.rows.id: chart.rows.csv for chart in charts},
        "charts": [
            {
                "rows": chart.rows.id,
                "specs": chart.specs,
                "iterations": chart.rows.iterations,
                "curves": len(chart.rows.curves),
                "canvas": chart.canvas,
                "title": chart.title,
            }
            for chart in charts
        ],
    }


def _as_json(value: Any) -> Markup:
    """JSON that ends no script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _resource(name: str) -> str:
    return (files("gradflow.report") / "templates" / name).read_text(encoding="utf-8")
