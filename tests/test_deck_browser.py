"""The page of a deck and the players in a real browser, without a network and without a Chinese font of its own."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from exact_tables import table
from pypdf import PdfReader
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow.commands import lecture
from gradflow.commands.deck import Drawn, Slide
from gradflow.commands.page import write_page

pytestmark = pytest.mark.browser
WINDOWS = [("light", 1280, 720), ("dark", 1920, 1080), ("light", 390, 844)]


def _exact(folder: Path):
    return table("memory_sensitivity")


def _moving(folder: Path):
    return gf.figures.ANIMATIONS["weight_spectrum"].analyse(gf.open_run(folder / "run"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deck in Chinese: a figure twice, once after a step, and an animation in the appendix."""
    home = tmp_path_factory.mktemp("deck")
    write_run(home / "run", config_of("rnn"), Planted(steps=12, iterations=31))
    slides = [
        Slide("further", "memory_sensitivity", _exact, core=True),
        Slide("further", "memory_sensitivity", _exact, "again", core=True),
        Slide("further", "weight_spectrum", _moving, "animated", moves=True),
    ]
    drawn, left_out = lecture.draw(slides, home, home, "zh")
    assert left_out == []
    drawn[slides[1]] = _with_step(drawn[slides[1]], drawn[slides[0]])
    write_page(home, drawn, "zh")
    return home


def _with_step(made: Drawn, first: Drawn) -> Drawn:
    from gradflow.commands.deck import Step

    step = first.picture.with_name("02-step-1.png")
    step.write_bytes(first.picture.read_bytes())
    return made._replace(steps=[Step("First of all", step, made.top)])


@pytest.fixture
def opened(browser, folder: Path, request: pytest.FixtureRequest) -> Iterator:
    """A page; a test names the window as it wants it."""
    theme, width, height = getattr(request, "param", WINDOWS[0])
    size = {"width": width, "height": height}
    context = browser.new_context(locale="zh-CN", color_scheme=theme, viewport=size, offline=True)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto((folder / "index.html").as_uri())
    yield page
    assert told == []
    context.close()


def player_of(folder: Path) -> str:
    [player] = folder.glob("*animated.html")
    return player.as_uri()


def overflow(page) -> list[int]:
    return page.evaluate(
        "[document.documentElement.scrollWidth - innerWidth, document.documentElement.scrollHeight - innerHeight]"
    )


def has_chinese_of_its_own(page) -> bool:
    return page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px \"Gradflow Sans SC\"', '梯'))")


@pytest.mark.parametrize("opened", WINDOWS, indirect=True)
def test_a_player_fills_its_window_and_no_more(opened, folder: Path):
    opened.goto(player_of(folder))
    opened.keyboard.press("End")
    opened.wait_for_function("document.querySelector('output').textContent.includes('30')")
    assert overflow(opened) == [0, 0]
    assert has_chinese_of_its_own(opened)
    screen = opened.locator("#screen").bounding_box()
    assert screen["height"] > 0.8 * opened.viewport_size["height"] - 60
    opened.locator("#screen").click()
    assert opened.locator("#play").inner_text() == "暂停"


@pytest.mark.parametrize("opened", WINDOWS, indirect=True)
def test_a_figure_with_its_caption_fits_the_window(opened):
    assert overflow(opened)[0] == 0
    assert has_chinese_of_its_own(opened)
    figure = opened.locator("figure:not(.step)").first
    opened.keyboard.press("ArrowRight")
    figure.locator("img").wait_for()
    box = figure.bounding_box()
    assert box["y"] >= 0
    assert figure.locator("img").bounding_box()["y"] + box["height"] <= opened.viewport_size["height"] + box["y"] + 1
    assert opened.locator("#where").inner_text() == "1 / 3"


def test_captions_and_pictures_say_claims(opened):
    for place in range(3):
        figure = opened.locator("figure:not(.step)").nth(place)
        said = figure.locator("figcaption p").first.inner_text()
        assert "_" not in said
        assert said.endswith("。")
        assert len(figure.locator(":is(img, iframe)").first.evaluate("e => e.alt ?? e.title")) > 20


def shown(page) -> str:
    return page.locator("figure.now").get_attribute("id")


def test_it_is_presented_with_every_step_by_keys_alone(opened):
    opened.keyboard.press("f")
    seen = [shown(opened)]
    for key in ("ArrowRight", "PageDown", " ", " "):
        opened.keyboard.press(key)
        seen.append(shown(opened))
    assert [name.partition("-")[0] for name in seen] == ["01", "02", "02", "03", "03"]
    assert seen[1] == "02-step-1"
    assert overflow(opened) == [0, 0]
    opened.frame_locator("iframe").locator("#screen").click()  # from inside the player, too
    opened.keyboard.press("PageUp")
    opened.wait_for_function("document.querySelector('figure.now').id.startsWith('02')")
    opened.keyboard.press("Escape")
    assert opened.locator("figure.now").count() == 0
    assert opened.locator("#where").inner_text() == "2 / 3"


def test_a_print_has_every_figure_and_no_controls(opened):
    book = PdfReader(BytesIO(opened.pdf(format="A4", landscape=True)))
    text = "".join(sheet.extract_text() for sheet in book.pages)
    assert "放映" not in text
    assert sum(len(sheet.images) for sheet in book.pages) == 3


@pytest.mark.parametrize("opened", WINDOWS, indirect=True)
def test_axe_finds_nothing_that_shuts_anybody_out(opened, folder: Path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
    for address in ((folder / "index.html").as_uri(), player_of(folder)):
        opened.goto(address)
        found = axe.Axe().run(opened, options={"iframes": False})
        assert [(wrong["id"], wrong["nodes"][0]["html"][:200]) for wrong in found.response["violations"]] == []
