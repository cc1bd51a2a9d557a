"""The page: its template, style and script, with all that they need inside."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
import vl_convert
from markupsafe import Markup

from gradflow.figures.drawing import Share
from gradflow.report import words
from gradflow.report.charts import Chart
from gradflow.report.curves import NIGHT
from gradflow.report.diagnosis import VERDICTS
from gradflow.report.outcome import measured_of

if TYPE_CHECKING:
    from gradflow.report.writing import Content

_EMBED = "window.vegaEmbed = vegaEmbed;"


def rendered(content: "Content", folder: Path) -> str:
    """The page of a report, from whose folder links lead to files of figures."""
    charts = list(_charts(content))
    environment = environment_of("gradflow.report", words.word)
    environment.globals.update(
        say_or=lambda key, otherwise: words.spans(words.known(key, otherwise)),
        word=words.word,
        number=words.number,
        safe=lambda text: words.alike(text)["en"],
        address=lambda file: quote(Path(os.path.relpath(file, folder)).as_posix()),
        picture=lambda content: "data:image/webp;base64," + base64.b64encode(content).decode("ascii"),
    )
    return environment.get_template("page.html").render(
        content=content,
        place_of=lambda chart: next(i for i, other in enumerate(charts) if other is chart),
        languages=words.HTML_LANG,
        style=template("gradflow.report", "base.css", "page.css"),
        script=template("gradflow.report", "base.js", "page.js"),
        library=chart_library() if charts else "",
        facts=as_json(_facts(charts)),
        title=words.word("page.title", name=content.name),
        night=NIGHT,
        verdicts=VERDICTS,
        measured=measured_of(content.outcomes),
    )


def environment_of(package: str, word: Callable[..., words.Text]) -> jinja2.Environment:
    """What renders a package's templates, whose texts `word` gives in both languages by id and values."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        say=lambda key, **values: words.spans(word(key, **values)),
        both=words.spans,
        attributes=words.data,
        attribute_of=lambda key, **values: words.data(word(key, **values)),
    )
    return environment


_BEGUN: list[Callable[[], str]] = []


def begin_chart_library(share: Share) -> None:
    """Has a second process make the script of Vega-Lite, while other things are done here."""
    if not chart_library.cache_info().currsize:
        _BEGUN.append(share.ahead(vl_convert.javascript_bundle, _EMBED))


@cache
def chart_library() -> Markup:
    """The script of Vega-Lite, without a network."""
    return Markup(_BEGUN.pop()() if _BEGUN else vl_convert.javascript_bundle(_EMBED))


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


def as_json(value: Any) -> Markup:
    """JSON that ends no script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def template(package: str, *names: str) -> Markup:
    """Styles or scripts of a package, one after the other."""
    return Markup("".join((files(package) / "templates" / name).read_text(encoding="utf-8") for name in names))
