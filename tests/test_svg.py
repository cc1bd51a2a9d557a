"""SVG with text: its words are found, in English and Chinese, in formulas; a browser shows what the PNG shows."""

import re
import shutil
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from exact_tables import table
from matplotlib.figure import Figure
from PIL import Image

from gradflow import figures
from gradflow.figures.output import picture
from gradflow.figures.svg import ELSEWHERE
from gradflow.figures.theme import new_figure, style


def said(svg: bytes) -> list[str]:
    """The text of every text element."""
    inside = re.findall(r"<text\b[^>]*>(.*?)</text>", svg.decode(), re.DOTALL)
    return [unescape(re.sub(r"<[^>]*>", "", text)).replace("\xa0", " ") for text in inside]


@pytest.fixture
def figure() -> Figure:
    with style("zh"):
        figure = new_figure()
        figure.text(0.1, 0.8, "梯度消失 & <0.57>")
        figure.text(0.1, 0.5, r"每步 $\tanh'(a)^2 \times 2.0{\times}10^{-5}$")
        figure.text(0.1, 0.2, "plain")
    return figure


def test_words_are_found_in_chinese_and_in_formulas(figure):
    svg = picture(figure, "svg", svg_text=True)
    assert said(svg) == ["梯度消失 & <0.57>", "每步 tanh′(a)2×2.0×10−5", "plain"]
    assert svg == picture(figure, "svg", svg_text=True), "equal figures are equal files"
    assert said(picture(figure, "svg")) == [], "paths, unless asked for"


def test_fonts_are_inside_and_named_for_where_they_are_not_read(figure):
    svg = picture(figure, "svg", svg_text=True).decode()
    faces = set(re.findall(r"@font-face{font-family:'([^']*)';font-style:(\w+);", svg))
    upright = {"DejaVu Sans", "Gradflow Formulas", "Gradflow Sans SC"}
    assert faces == {("DejaVu Sans", "oblique"), *((family, "normal") for family in upright)}
    families = re.findall(r'font-family: ([^;"]*)', svg)
    assert families
    assert all(family.endswith(ELSEWHERE) for family in families)
    assert "cmsy10" not in svg, "in TeX's code the prime is a 0"


def test_a_figure_is_saved_with_text_as_it_is_asked_for(tmp_path: Path):
    made = figures.make(figures.EXACT["tanh_derivative"], table("tanh_derivative"), lang="zh", context="paper")
    for options, texts in (({}, False), ({"svg_text": True}, True)):
        svg = next(file for file in made.save(tmp_path / "a", **options) if file.suffix == ".svg").read_bytes()
        assert any("tanh′" in text for text in said(svg)) == texts
    with pytest.raises(TypeError, match="svg_text: expected True or False, got 'text'"):
        made.save(tmp_path / "b", svg_text="text")


def test_the_last_digit_of_a_clipping_changes_no_file():
    drawn = []
    for width in (0.5, np.nextafter(0.5, 1)):
        figure = Figure(figsize=(2, 1))
        figure.add_axes((0.1, 0.1, width, 0.8)).plot([0, 1])
        drawn.append(picture(figure, "svg"))
    name = re.findall(rb'clipPath id="(\w+)"', drawn[0])[0]
    assert drawn[0] == drawn[1]
    assert b"url(#%b)" % name in drawn[0]


@pytest.mark.browser
@pytest.mark.parametrize(("name", "lang"), [("unrolled_graph", "zh"), ("activation_saturation", "en")])
def test_in_a_browser_text_looks_as_if_drawn(name, lang, tmp_path: Path):
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    drawn, shown = figures.EXACT[name].plot(table(name), lang=lang), []
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"needs Chromium ({error.message[:80]})")
        page = browser.new_page(viewport={"width": 960, "height": 540}, device_scale_factor=2)
        for svg_text in (False, True):
            (tmp_path / "a.svg").write_bytes(picture(drawn, "svg", svg_text=svg_text))
            page.goto((tmp_path / "a.svg").as_uri())
            page.evaluate("document.fonts.ready")
            with Image.open(BytesIO(page.screenshot())) as screen:
                shown.append(np.asarray(screen.convert("L").reduce(12), float))
        browser.close()
    apart = np.abs(shown[0] - shown[1])
    assert apart.max() < 60, "a word is elsewhere or missing"
    assert apart.mean() < 0.5
