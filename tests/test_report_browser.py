"""The report in a real browser, without a network: `make test-browser`."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from synthetic_runs import Planted, config_of, write_run

from gradflow.report import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    few = Planted(steps=12, iterations=41, residual=1e-7)
    write_run(folder / "rnn", config_of("rnn"), few)
    write_run(folder / "lstm", config_of("lstm", init="remember"), few)
    return write_report(folder)


@pytest.fixture
def opened(browser, report: Path, request: pytest.FixtureRequest) -> Iterator:
    """The page with its charts drawn; a test names language, theme and width as it wants them."""
    lang, theme, width = getattr(request, "param", ("en-GB", "light", 1280))
    size = {"width": width, "height": 900}
    context = browser.new_context(locale=lang, color_scheme=theme, viewport=size, offline=True)
    page = context.new_page()
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asks: asked.append(asks.url))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-drawn=true]", timeout=120_000)
    yield page
    assert told == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


LOOKS = [("en-GB", "light", 1280), ("zh-CN", "dark", 390)]


def chart(page, title: str):
    return page.locator("figure.chart", has=page.locator("figcaption", has_text=title)).first


def marks(figure) -> list[str]:
    return figure.locator(".mark-line path, .mark-symbol path").evaluate_all("all => all.map(p => p.outerHTML)")


@pytest.mark.parametrize("opened", LOOKS, indirect=True)
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_page(opened):
    count = opened.locator("figure.chart").count()
    assert count >= 8
    assert opened.locator("figure.chart .plot :is(svg, canvas)").count() == count
    width = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


def test_the_pointer_is_told_a_value(opened):
    plot = chart(opened, "Gradient relative to lag 0").locator("svg")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    opened.mouse.move(box["x"] + box["width"] * 0.52, box["y"] + box["height"] * 0.42)
    told = opened.locator("#vg-tooltip-element.visible")
    told.wait_for(timeout=10_000)
    assert re.search(r"RNN|LSTM", told.inner_text())
    assert re.search(r"lag k.*\d", told.inner_text(), re.S)


def test_the_slider_moves_the_marks_and_says_where_it_is(opened):
    figure = chart(opened, "Eigenvalues")
    before, slider = marks(figure), figure.locator("input[type=range]")
    assert figure.locator("output").inner_text() == "40", "the end of training is what one asks for first"
    slider.focus()
    opened.keyboard.press("Home")
    opened.wait_for_timeout(500)
    assert marks(figure) != before
    assert figure.locator("output").inner_text() == slider.get_attribute("aria-valuetext") == "0"


def test_a_run_that_is_not_wanted_is_hidden(opened):
    figure = chart(opened, "Gradient relative to lag 0")
    before = figure.locator(".mark-line path").count()
    box = opened.locator("fieldset.curves input").first
    box.focus()
    opened.keyboard.press("Space")
    opened.wait_for_timeout(500)
    assert figure.locator(".mark-line path").count() == before - 1
    opened.get_by_role("button", name="All").click()
    opened.wait_for_timeout(500)
    assert figure.locator(".mark-line path").count() == before


def test_language_and_theme_are_switched_and_remembered(opened):
    assert opened.locator("html").get_attribute("lang") == "en"
    opened.locator("#language").click()
    opened.locator("#theme").click()
    for _ in range(2):
        assert opened.locator("html").get_attribute("lang") == "zh-CN"
        assert opened.locator("html").get_attribute("data-theme") == "dark"
        assert opened.title().startswith("报告")
        assert opened.locator("#outcome-title").inner_text() == "结果"
        opened.wait_for_function("document.querySelector('#chart-0 .plot svg')?.textContent.includes('回传步数')")
        opened.reload()
        opened.wait_for_selector("html[data-drawn=true]", timeout=120_000)


def test_a_table_is_sorted_by_its_head(opened):
    button = opened.locator("table.sortable th button").first
    cells = opened.locator("table.sortable tbody th")
    button.focus()
    opened.keyboard.press("Enter")
    assert cells.all_inner_texts() == sorted(cells.all_inner_texts())
    opened.keyboard.press("Enter")
    assert cells.all_inner_texts() == sorted(cells.all_inner_texts(), reverse=True)
    assert opened.locator("th[aria-sort=descending]").count() == 1


def test_the_keyboard_reaches_every_control(opened):
    wanted = opened.evaluate(
        "[...document.querySelectorAll('a[href], button, input, select, summary')]"
        ".filter(e => e.checkVisibility()).map((e, i) => e.dataset.tested = String(i)).length"
    )
    reached = set()
    for _ in range(3 * wanted):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("document.activeElement.dataset.tested ?? ''"))
        if len(reached - {""}) == wanted:
            break
    assert len(reached - {""}) == wanted


@pytest.mark.parametrize("opened", LOOKS, indirect=True)
def test_axe_finds_nothing_that_shuts_anybody_out(opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.Axe().run(opened)
    assert [(wrong["id"], wrong["nodes"][0]["html"][:200]) for wrong in found.response["violations"]] == []


def test_a_print_has_its_text_and_no_controls(opened):
    pypdf = pytest.importorskip("pypdf", reason="needs the extra `browser`")
    opened.locator("#theme").click()  # dark on the screen is light on paper
    read = pypdf.PdfReader(BytesIO(opened.pdf(format="A4")))
    text = "\n".join(sheet.extract_text() for sheet in read.pages)
    for said in ("Outcome", "Gradient by lag", "Provenance", "holds"):
        assert said in text
    assert "Skip to the content" not in text
    assert 3 <= len(read.pages) <= 20
