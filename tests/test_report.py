"""The report: one file that says everything, of any log, in two languages, and needs nothing else."""

import base64
import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import altair as alt
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from markupsafe import Markup
from strange_logs import LOGS
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow.figures.catalogue import texts
from gradflow.figures.gallery import GALLERY, tried
from gradflow.report import charts, figures, formulas, page, rows, words, write_report, writing
from gradflow.report.curves import NIGHT, Curve, curves_of
from gradflow.report.diagnosis import diagnoses
from gradflow.report.writing import content_of

ALONE = {"area", "base", "br", "img", "input", "link", "meta", "hr"}

FEW = Planted(steps=9, iterations=21, residual=1e-7)


class Page(HTMLParser):
    """Every element of a page with its attributes and the text below it; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ALONE:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style") and data.strip():
            self.words.setdefault(self._open[-1], []).append(data.strip())

    def all(self, *tags: str) -> Iterator[dict[str, str]]:
        return (attributes for tag, attributes in self.elements if tag in tags)

    @property
    def text(self) -> str:
        return "\n".join(word for words in self.words.values() for word in words)


@pytest.fixture(autouse=True)
def _quick():
    """Pictures and the charts' library are made by others, slowly."""
    with (
        mock.patch.object(page, "chart_library", return_value=Markup("/* Vega-Embed */")),
        mock.patch.object(figures, "_picture", return_value=b"picture"),
    ):
        yield


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_run(folder / "rnn", config_of("rnn"), FEW)
    write_run(folder / "rnn-clipped", config_of("rnn", clip="norm"), FEW)
    write_run(folder / "lstm", config_of("lstm", init="remember"), dataclasses.replace(FEW, factor=0.98))
    write_run(folder / "lost", config_of("lstm"), dataclasses.replace(FEW, state="diverged", residual=0.1))
    return folder


@pytest.fixture(scope="module")
def written(sweep: Path) -> str:
    with (
        mock.patch.object(page, "chart_library", return_value=Markup("/* Vega-Embed */")),
        mock.patch.object(figures, "_picture", return_value=b"picture"),
    ):
        file = write_report(sweep)
    assert file == sweep / "report.html"
    return file.read_text(encoding="utf-8")


def facts_of(text: str) -> dict:
    return json.loads(re.search(r'<script id="facts"[^>]*>(.*?)</script>', text, re.S)[1])


def test_a_report_is_one_file_without_addresses(written: str):
    read = Page(written)
    addresses = [value for _, own in read.elements for name, value in own.items() if name in ("src", "href", "srcset")]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "@import" not in written
    assert "url(" not in written


def test_a_page_can_be_walked_by_its_headings_labels_and_tables(written: str):
    read = Page(written)
    ids = [own["id"] for _, own in read.elements if "id" in own]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(own.get("scope") in ("col", "row") for own in read.all("th"))
    assert all(own.get("alt") for own in read.all("img"))
    named = {own[name] for _, own in read.elements for name in ("aria-labelledby",) if name in own}
    assert named <= set(ids)
    anchors = {own["href"][1:] for own in read.all("a") if own["href"].startswith("#")}
    assert anchors <= set(ids)
    assert {tag for tag, _ in read.elements} >= {"header", "nav", "main", "caption", "fieldset", "legend", "noscript"}


def test_charts_with_a_slider_open_at_the_end_of_training(written: str):
    sliders = list(Page(written).all("input"))
    sliders = [own for own in sliders if own["type"] == "range"]
    assert sliders
    assert all(own["value"] == own["max"] for own in sliders)
    assert "at iteration 20" in written
    assert "at iteration 0" not in written


def test_both_languages_say_the_same(written: str):
    assert set(words.own_texts("en")) == set(words.own_texts("zh"))
    for key, text in words.own_texts("en").items():
        fields = [sorted(re.findall(r"\{(\w+)\}", words.own_texts(lang)[key])) for lang in ("en", "zh")]
        assert fields[0] == fields[1], (key, text)
    spans = Counter(own.get("class") for own in Page(written).all("span", "img"))
    assert spans["en"] == spans["zh"] > 50
    assert all(set(chart["specs"]) == {"en", "zh"} for chart in facts_of(written)["charts"])


def test_what_one_run_came_to_is_told_in_the_singular(tmp_path: Path):
    write_run(tmp_path, config_of("rnn"), FEW)
    with mock.patch.object(writing, "sections_of", return_value=([], [])):
        read = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "The run: finished, 21 iterations." in read.text
    assert "The recorded gradients are proved to be those of the training." in read.text
    assert re.search(r"Diagnosis: \d+ ill, \d+ unknown, \d+ healthy\.", read.text)


def test_what_runs_came_to_is_told(written: str):
    read = Page(written)
    assert "4 runs: 1 diverged, 3 finished." in read.text
    assert "Best test accuracy: 0.93" in read.text
    assert "The proof of the record failed in 1: its gradients may be wrong." in read.text
    assert "cell.name" in read.text  # varies
    assert "train.batch_size" in read.text  # is common
    assert "schema_version" in read.text


def test_claims_stand_with_their_verdicts_and_numbers(written: str, sweep: Path):
    run = gf.open_sweep(sweep)
    [claim] = gf.analysis.gradient_by_lag_claims(gf.analysis.gradient_by_lag(run))
    assert f"<code>{claim['claim']}</code>" in written
    assert words.number(claim["value"]) in written
    read = Page(written)
    assert {"holds", "does not hold", "成立", "不成立"} <= set(read.text.split("\n"))


def test_charts_draw_the_numbers_of_the_gallery(sweep: Path, written: str):
    facts = facts_of(written)
    lag = next(name for name in facts["rows"] if name.endswith("-lag"))
    drawn = pd.read_csv(pd.io.common.StringIO(facts["rows"][lag]))
    table = gf.analysis.gradient_heatmap(gf.open_sweep(sweep))
    table = table[table["quantity"] == "gradient"]
    assert len(drawn) == len(table)
    np.testing.assert_allclose(np.sort(drawn["value"]), np.sort(table["value"]), rtol=1e-3, atol=1e-6)
    chart = next(chart for chart in facts["charts"] if chart["rows"] == lag)
    assert chart["iterations"] == sorted(table["iteration"].unique())


def test_specifications_are_those_of_vega_lite(written: str):
    charts = facts_of(written)["charts"]
    assert len(charts) >= 8
    for chart in charts:
        for spec in chart["specs"].values():
            alt.Chart.from_dict(spec, validate=True)


def test_texts_from_outside_do_nothing(tmp_path: Path):
    bad = "</script><script>alert(1)</script>\x1b[2J"
    config = dataclasses.asdict(config_of("rnn"))
    config["data"]["source"] = bad
    config[bad] = bad
    write_run(tmp_path / "a&b" / "run", config_of("rnn"), FEW)
    run = json.loads((tmp_path / "a&b" / "run" / "run.json").read_text())
    (tmp_path / "a&b" / "run" / "run.json").write_text(json.dumps(run | {"config": config, "host": bad}))
    text = write_report(tmp_path / "a&b", tmp_path / "out" / "page.html").read_text()
    assert "alert(1)</script>" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert(1)" in text
    Page(text)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("two_modules_without_loss",) else pytest.mark.slow)
     for name in LOGS],
)  # fmt: skip
def test_a_strange_log_gives_a_report_that_claims_nothing_unknown(name: str, tmp_path: Path):
    torch.manual_seed(0)
    LOGS[name](tmp_path)
    read = Page(write_report(tmp_path).read_text())
    assert "{" not in read.text
    assert not re.search(r"Error:|Traceback", read.text)


def test_a_run_that_recorded_nothing_and_one_that_is_damaged_are_told(tmp_path: Path):
    gf.runlog.write_status(tmp_path / "empty", "failed", error="no data")
    read = Page(write_report(tmp_path / "empty").read_text())
    assert "No run has recorded anything" in read.text
    assert "no data" in read.text
    write_run(tmp_path / "good", config_of("rnn"), FEW)
    (tmp_path / "empty" / "run.json").write_text("{")
    read = Page(write_report(tmp_path).read_text())
    assert "unreadable" in read.text
    assert "Gradient by lag" in read.text


def test_figures_just_drawn_are_not_made_again_and_in_which_language_they_are_is_said(sweep: Path, tmp_path: Path):
    [run] = gf.open_sweep(sweep / "rnn")
    first = next(tried([run], {"jacobian_norm_over_training": GALLERY["jacobian_norm_over_training"]}))
    drawing = tmp_path / "图 of=this" / "a.png"
    drawing.parent.mkdir()
    PIL.Image.new("RGB", (4, 3), "red").save(drawing)
    own = [first._replace(files=[drawing], lang="zh")]
    with mock.patch.object(writing, "tried", side_effect=AssertionError("made again")):
        text = write_report(gf.open_sweep(sweep / "rnn"), tmp_path / "page.html", figures=own).read_text()
    [picture] = re.findall(r'<img lang="zh-CN" src="data:image/webp;base64,([^"]+)"', text)
    with PIL.Image.open(BytesIO(base64.b64decode(picture))) as shown:
        assert shown.size == (4, 3)
        assert shown.getpixel((0, 0)) == (255, 0, 0)
    assert '<p class="note en" lang="en">The pictures are in Chinese' in text
    assert "Norm of each step" in text
    assert '<a href="%E5%9B%BE%20of%3Dthis/a.png">PNG</a>' in text  # from where the page is


def test_of_very_many_runs_one_seed_of_each_setting_is_diagnosed_and_it_is_said(sweep: Path):
    with mock.patch.object(writing, "MOST_EXAMINED", 2):
        content = content_of(gf.open_sweep(sweep), figures=[])
    assert len(content.diagnoses) == 2
    assert {"en": "Diagnosed: 2 of 4 runs, one seed of each setting."}.items() <= content.summary[-1].items()
    assert '<td data-value="nan">–</td>' in page.rendered(content, sweep)


def test_where_no_run_is_nothing_is_written(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="expected a folder with runs below it"):
        write_report(tmp_path)
    with pytest.raises(TypeError, match="path: expected the folder of a run or of a sweep"):
        write_report(3)
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path: Path):
    gf.runlog.write_status(tmp_path / "run", "failed")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match="cannot be written"):
        write_report(tmp_path / "run", tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run"]


def test_a_figure_that_fails_costs_no_other(sweep: Path):
    with mock.patch.object(figures.charts, "lag_chart", side_effect=ZeroDivisionError("planted")):
        content = content_of(gf.open_sweep(sweep / "rnn"))
    assert [left.reason for left in content.left_out] == ["ZeroDivisionError: planted"]
    assert "gradient_by_lag" in {figure.name for section in content.sections for figure in section.figures}


def test_long_recordings_are_thinned_out_and_it_is_said():
    run = SimpleNamespace(name="a")
    data = pd.DataFrame({"curve": 0, "iteration": np.repeat(np.arange(101), 10), "value": 0.0})
    thin = rows._thinned(rows.Rows("x", data, [run]), most=300)
    assert sorted(thin.data["iteration"].unique()) == [*range(0, 100, 4), 100]
    assert thin.notes[0]["en"] == "Thinned out: one in 4 of the recorded iterations, and the last."
    assert rows._thinned(rows.Rows("x", data, [run]), most=1010).notes == []


def test_what_is_not_finite_goes_to_the_page_as_it_is():
    text = rows.Rows("x", pd.DataFrame({"value": [0.5, np.nan, -np.inf, np.inf]}), []).csv
    assert text.split() == ["value", "0.5", "NaN", "-Infinity", "Infinity"]


def test_what_a_chart_does_not_draw_is_counted():
    curve = Curve(("rnn", "default", "none"), {"en": "RNN", "zh": "RNN"}, "#D55E00", [1, 0])
    data = pd.DataFrame({"curve": 0, "lag": range(4), "value": [0.0, -1.0, -np.inf, np.nan], "record": 0})
    chart = charts.lag_chart(rows.Rows("x", data, [curve], [0]))
    assert [note["en"].split(" values")[0] for note in chart.notes] == ["Not drawn: 2"]


def test_curves_of_one_cell_differ_in_their_dashes(sweep: Path):
    curves = curves_of(gf.open_sweep(sweep).members)
    looks = [(curve.colour, tuple(curve.dash)) for curve in curves]
    assert len(set(looks)) == len(looks) == 4
    assert all(curve.colour in NIGHT for curve in curves)
    assert [curve.name["en"] for curve in curves][:2] == ["RNN; no clipping", "RNN; norm clipped"]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_formula_of_the_figures_becomes_html(lang: str):
    for key, text in texts(lang).items():
        if key.startswith(("claim.", "note.", "curve.", "init.", "cell.")):
            for made in (formulas.html(text), formulas.plain(text)):
                assert not re.search(r"[\\$]", made), (key, made)


def test_colours_of_text_stand_out():
    style = page.template("gradflow.report", "base.css")
    for block in (style.split("}")[0], style.split('html[data-theme="dark"] {')[1].split("}")[0]):
        found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for name in ("ink", "soft", "accent", "good", "bad", "open"):
            for ground in ("ground", "raised"):
                assert contrast(found[name], found[ground]) >= 4.5, (name, ground)
    dark = re.findall(r"--ground: (#[0-9a-f]{6})", style)[1]
    for day, night in NIGHT.items():
        assert contrast(night, dark) >= (2 if day == "#BBBBBB" else 3), night


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_a_diagnosis_is_told_in_both_languages_and_its_failure_costs_nothing(sweep: Path):
    say = {"en": "It fades.", "zh": "它消失。"}
    finding = SimpleNamespace(
        name="gradient_vanishes", verdict="ill", where="recurrent", measured=1e-9, unit="1", threshold=float("nan"),
        source=lambda lang: f"Pascanu et al. 2013, eq. 5 ({lang})", figure="gradient_by_lag", config="init=remember",
        code="gf.initialise_(m)",
        headline=say.get, meaning=say.get, advice=say.get,
    )  # fmt: skip
    nothing = mock.patch.object(writing, "sections_of", return_value=([], []))
    with nothing, mock.patch.object(writing, "diagnose", return_value=SimpleNamespace(findings=[finding])):
        read = Page(write_report(sweep / "rnn").read_text())
    for said in ("It fades.", "它消失。", "init=remember", "eq. 5 (en)", "eq. 5 (zh)", "ill", "recurrent"):
        assert said in read.text
    assert diagnoses({"a": None}, lambda run: 1 / 0) == {"a": []}


def test_the_table_of_outcomes_shows_the_training_loss_where_nothing_was_tested(tmp_path: Path):
    writer = gf.runlog.RunWriter(tmp_path / "own", meta={}, config={})
    for i, loss in enumerate((0.7, 0.25)):
        writer.append("scalars", i, {"loss": loss})
    writer.close("finished")
    read = write_report(tmp_path / "own").read_text()
    assert "training loss" in read
    assert ">0.25<" in read
    assert "test accuracy</" not in read
