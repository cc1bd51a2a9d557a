"""The live page in a real browser, from a server and from a file: `make test-browser`."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from gradflow.live import write_live
from gradflow.live.settings import NAMES, Space

pytestmark = pytest.mark.browser
SMALL = Space(
    starts={"rnn": (0.6, 1.0), "linear": (1.0,), "lstm": (0.0, 3.0), "gru": (0.0,)},
    steps=(10, 20),
    clips=(0.5, None),
    trained={"rnn": (1.0,), "linear": (1.0,), "lstm": (3.0,), "gru": (0.0,)},
    trained_clips=(None,),
    length=2,
    names=NAMES[:2],
)


@pytest.fixture(scope="module")
def address():
    app = pytest.importorskip("gradflow.live.app", reason="needs the extra `live`", exc_type=ImportError)
    listening, server = app.listen(0), app.server("auto")
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_live(tmp_path_factory.mktemp("static") / "live.html", space=SMALL)


@pytest.fixture
def opened(browser, request: pytest.FixtureRequest) -> Iterator:
    """The page with its charts drawn; a test names where from, language, theme and size as it wants them."""
    where, lang, theme, size = getattr(request, "param", ("live", "en-GB", "light", (1280, 720)))
    url = request.getfixturevalue("address") if where == "live" else request.getfixturevalue("file").as_uri()
    context = browser.new_context(
        locale=lang, color_scheme=theme, viewport={"width": size[0], "height": size[1]}, offline=where == "file"
    )
    page = context.new_page()
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asks: asked.append(asks.url))
    page.set_default_timeout(60_000)
    page.goto(url)
    page.wait_for_selector("html[data-drawn=true]", timeout=120_000)
    yield page
    assert [text for text in told if "ERR_FAILED" not in text] == []
    assert [other for other in asked if not other.startswith((url, "data:", "blob:"))] == []
    context.close()


BOTH = [("live", "en-GB", "light", (1280, 720)), ("file", "zh-CN", "dark", (1920, 1080))]
SIZES = [(1280, 720), (1920, 1080), (390, 844)]


def headline(page, chart: str = "gradient") -> str:
    return page.locator(f"#{chart}-headline").inner_text()


def changes(page, chart: str, act) -> str:
    """The headline after something that changes it."""
    before = headline(page, chart)
    act()
    page.wait_for_function(f"document.getElementById('{chart}-headline').textContent.trim() !== {before.strip()!r}")
    return headline(page, chart)


def step(page, count: int) -> None:
    for number in range(1, count + 1):
        page.locator("#step").click()
        page.wait_for_function(f"document.documentElement.dataset.steps === '{number}'")


@pytest.mark.parametrize("opened", BOTH, indirect=True)
def test_a_slider_changes_the_numbers_and_the_marks(opened):
    line = opened.locator("#gradient-plot .mark-line path").first
    before, slider = line.get_attribute("d"), opened.locator("#start")
    said = changes(opened, "gradient", lambda: slider.press("ArrowRight"))
    drawn = "document.querySelector('#gradient-plot .mark-line path').getAttribute('d')"
    opened.wait_for_function(f"{drawn} !== '{before}'")
    assert opened.locator("#start-value").inner_text() == slider.get_attribute("aria-valuetext")
    opened.wait_for_function(f"document.getElementById('told').textContent.includes({said!r})")
    assert "20" not in changes(opened, "gradient", lambda: opened.locator("#steps").press("ArrowLeft")).split()
    changes(opened, "surface", lambda: opened.locator("#clip").press("Home"))
    opened.wait_for_function("getComputedStyle(document.getElementById('busy')).opacity === '0'")


@pytest.mark.parametrize("opened", BOTH, indirect=True)
def test_keys_choose_a_cell_and_keep_its_curve(opened):
    opened.keyboard.press("k")
    changes(opened, "gradient", lambda: opened.keyboard.press("3"))
    assert opened.locator("[name=cell][value=lstm]").is_checked()
    assert opened.locator("#gradient-curves li").all_inner_texts() == ["RNN g=0.6", "LSTM b_f=0"]
    assert opened.locator("#gradient-plot .mark-line path").count() >= 2
    assert opened.locator("#start-name").inner_text() in ("Forget bias b_f", "遗忘门偏置 b_f")
    opened.locator("#forget").click()
    opened.wait_for_function("document.querySelectorAll('#gradient-curves li').length === 1")


@pytest.mark.parametrize("opened", BOTH, indirect=True)
def test_a_run_is_stepped_and_a_name_is_asked(opened):
    opened.keyboard.press("t")
    opened.locator("#training-plot canvas").wait_for()
    step(opened, 2)
    assert "20" in headline(opened, "training")
    opened.wait_for_function("document.querySelectorAll('#answer-plot .mark-rect path').length === 9")
    name = opened.locator("#name")
    if name.evaluate("field => field.tagName") == "SELECT":
        said = changes(opened, "answer", lambda: name.select_option(index=1))
    else:
        said = changes(opened, "answer", lambda: name.fill("李建国"))
        assert "does not know Q" in changes(opened, "answer", lambda: name.fill("Q"))
        assert "Type a name" in changes(opened, "answer", lambda: name.fill(""))
    assert "%" in said
    opened.locator("#quantity").select_option("state")
    opened.locator("#restart").click()
    opened.wait_for_function("/Nothing|还没有/.test(document.getElementById('training-headline').textContent)")


def test_it_plays_until_it_is_stopped(opened):
    opened.keyboard.press("t")
    opened.locator("#training-plot canvas").wait_for()
    opened.keyboard.press("p")
    opened.wait_for_function("Number(document.documentElement.dataset.steps) >= 2")
    assert opened.locator("#play").get_attribute("aria-pressed") == "true"
    opened.keyboard.press("p")
    assert opened.locator("#play").get_attribute("aria-pressed") == "false"


def test_clipping_acts_on_the_run_at_once(opened):
    opened.keyboard.press("t")
    opened.locator("#training-plot canvas").wait_for()
    step(opened, 1)
    assert "clipped" not in headline(opened, "training")
    opened.locator("#clip").press("Home")
    opened.locator("#step").click()
    opened.wait_for_function("document.documentElement.dataset.steps === '2'")
    assert "100% of the updates clipped" in headline(opened, "training")


def test_language_and_theme_are_switched_and_remembered(opened):
    opened.keyboard.press("l")
    opened.keyboard.press("d")
    for _ in range(2):
        assert opened.locator("html").get_attribute("lang") == "zh-CN"
        assert opened.locator("html").get_attribute("data-theme") == "dark"
        opened.wait_for_function("document.querySelector('#gradient-plot svg')?.textContent.includes('回传步数')")
        assert headline(opened).startswith("每回传一步")
        opened.reload()
        opened.wait_for_selector("html[data-drawn=true]")


HEADLINES = "[...document.querySelectorAll('.headline, .curves')].map(e => e.textContent)"


@pytest.mark.parametrize("opened", BOTH, indirect=True)
def test_a_reload_a_link_and_the_way_back_give_the_same_page(opened):
    opened.keyboard.press("k")
    changes(opened, "gradient", lambda: opened.keyboard.press("3"))
    changes(opened, "gradient", lambda: opened.locator("#steps").press("ArrowLeft"))
    opened.wait_for_function("document.querySelectorAll('#gradient-curves li').length === 2")
    opened.keyboard.press("d")
    opened.keyboard.press("t")
    opened.locator("#training-plot canvas").wait_for()
    step(opened, 2)
    opened.wait_for_function("document.getElementById('answer-headline').textContent.includes('%')")
    opened.wait_for_function("location.hash.includes('run=off*2')")
    seen, address, theme = opened.evaluate(HEADLINES), opened.url, opened.locator("html").get_attribute("data-theme")
    again = opened.context.new_page()
    for act in (opened.reload, lambda: (opened.goto("about:blank"), opened.go_back()), lambda: again.goto(address)):
        act()
        page = again if again.url == address else opened
        page.wait_for_function("document.documentElement.dataset.steps === '2'")
        page.wait_for_function("document.getElementById('answer-headline').textContent.includes('%')")
        assert page.url == address
        page.keyboard.press("g")
        page.wait_for_function(f"JSON.stringify({HEADLINES}) === JSON.stringify({seen!r})")
        page.keyboard.press("t")
        assert page.locator("html").get_attribute("data-theme") == theme
        page.wait_for_function(f"location.href === {address!r}")


@pytest.mark.parametrize(
    ("fragment", "told"),
    [
        ("cell=gru&update_bias=2&steps=10", None),
        ("cell=elman&gain=7&cell=gru", "cell=elman, gain=7."),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>."),
        ("%E0%A4%A&__proto__=1&run=off*999&keep=rnn,0.6,20,1", "�%A, __proto__=1, run=off*999, …."),
        ("name=" + "王" * 99, "name=" + "王" * 35 + "…."),
    ],
)
def test_an_address_that_is_damaged_is_said_in_words(opened, fragment, told):
    opened.evaluate("fragment => location.hash = fragment", fragment)
    notice = opened.locator("#notice")
    if told:
        expected = f"The address asks for what this page does not offer: {told} That is left at its default."
        opened.wait_for_function(f"document.getElementById('notice').textContent === {expected!r}")
    opened.wait_for_function("document.getElementById('gradient-headline').textContent")
    assert opened.locator("[name=cell]:checked").get_attribute("value") == ("gru" if "gru" in fragment else "rnn")
    assert opened.locator("img").count() == 0
    changes(opened, "gradient", lambda: opened.locator("#start").press("ArrowRight"))
    notice.wait_for(state="hidden")


MEASURED = """() => {
    const texts = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && e.innerText?.trim());
    const seen = texts.filter((e) => !e.closest(".unseen, .skip"));
    const sizes = seen.map((e) => parseFloat(getComputedStyle(e).fontSize));
    const root = document.documentElement;
    return [root.scrollWidth, innerWidth, root.scrollHeight, innerHeight, Math.min(...sizes)];
}"""


@pytest.mark.parametrize(
    "opened", [("live", "en-GB", "light", size) for size in SIZES], indirect=True, ids=["hd", "full-hd", "phone"]
)
def test_all_is_on_the_screen_and_read_from_the_back_row(opened):
    for key in "gt":
        opened.keyboard.press(key)
        opened.wait_for_timeout(1500)
        wide, width, high, height, smallest = opened.evaluate(MEASURED)
        assert wide <= width
        if width > 900:
            assert high <= height
            assert smallest >= width / 80 - 0.1  # 24 pixels of 1920
            assert opened.evaluate(
                "[...document.querySelectorAll('.plot')].filter(e => e.checkVisibility()).every(e => "
                "[...e.querySelectorAll('svg, canvas')].every(c => c.getBoundingClientRect().bottom <= "
                "e.getBoundingClientRect().bottom + 2))"
            )


def test_the_keyboard_reaches_every_control(opened):
    for key in "gt":
        opened.keyboard.press(key)
        opened.wait_for_timeout(1000)
        wanted = set(
            opened.evaluate(
                "[...document.querySelectorAll('a[href], button, input, select')].filter(e => e.checkVisibility("
                "{visibilityProperty: true}) && (e.type !== 'radio' || e.checked))"
                ".map((e, i) => e.dataset.tested = String(i))"
            )
        )
        reached = set()
        for _ in range(3 * len(wanted)):
            opened.keyboard.press("Tab")
            reached.add(opened.evaluate("document.activeElement.dataset.tested ?? ''"))
        assert wanted <= reached


@pytest.mark.parametrize("opened", BOTH, indirect=True)
def test_axe_finds_nothing_that_shuts_anybody_out(opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
    for key in "gt":
        opened.keyboard.press(key)
        opened.wait_for_timeout(1500)
        found = axe.Axe().run(opened)
        wrong = [(part["id"], part["nodes"][0]["html"][:200]) for part in found.response["violations"]]
        assert wrong == []


def test_a_server_that_is_gone_is_said(opened):
    opened.route("**/numbers", lambda route: route.abort())
    changes(opened, "gradient", lambda: opened.keyboard.press("2"))
    assert "does not answer" in headline(opened)
    assert headline(opened, "surface") == ""
    assert opened.locator(".lost").count() == 3  # what is there is of the settings before
    opened.unroute("**/numbers")  # and that it is back the page finds out by itself
    opened.wait_for_function("!document.getElementById('gradient-headline').textContent.includes('not answer')")
    opened.wait_for_function(
        "!document.querySelector('.lost') && document.getElementById('surface-headline').textContent"
    )


def test_a_run_says_that_it_begins_and_a_name_may_have_spaces(opened):
    opened.keyboard.press("t")
    opened.locator("#training-plot canvas").wait_for()
    begins = changes(opened, "training", lambda: opened.locator("#step").click())
    assert "ready" in begins or "updates" in begins
    opened.wait_for_function("document.documentElement.dataset.steps === '1'")
    opened.locator("#name").fill(" 李 建国\u3000")
    opened.wait_for_function("document.getElementById('answer-headline').textContent.includes('%')")


@pytest.mark.parametrize("opened", [BOTH[1]], indirect=True)
def test_a_file_says_where_its_runs_end(opened):
    opened.keyboard.press("t")
    opened.locator("#training-plot canvas").wait_for()
    opened.locator("#clip").press("Home")
    step(opened, SMALL.length)
    assert opened.locator("#clip-value").inner_text() == "不截断"  # where the slider stops, the file has runs
    assert "训练到此为止" in changes(opened, "training", lambda: opened.locator("#step").click())


def test_a_file_that_is_damaged_says_so(browser, file, tmp_path):
    before, found, after = file.read_text("utf-8").partition('<script id="grid" type="text/plain">')
    damaged = tmp_path / "damaged.html"
    damaged.write_text(before + found + after[:100] + "#" + after[101:], "utf-8")
    page = browser.new_page()
    page.goto(damaged.as_uri())
    page.wait_for_selector("html[data-drawn=true]")
    assert headline(page).startswith("The numbers in this file cannot be read; it is damaged, or the browser")
    page.close()
