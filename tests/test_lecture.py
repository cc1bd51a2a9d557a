"""The lecture's deck: its order, what is drawn and left out, its page; the whole command on networks of no size."""

import ast
import json
import math
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from io import BytesIO
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest
import yaml
from exact_tables import table
from PIL import Image
from pptx import Presentation
from pypdf import PdfReader, PdfWriter

import gradflow as gf
from gradflow.commands import lecture, notes
from gradflow.commands.arguments import CONF
from gradflow.commands.deck import PARTS, Drawn, Slide, Step, deck
from gradflow.commands.page import write_page
from gradflow.commands.slides import write_slides
from gradflow.figures.catalogue import Labels
from gradflow.report.formulas import plain

CORE = [
    "one_hot",
    "comparison",
    "name_saliency",
    "unrolled_graph",
    "chain_rule",
    "tanh_derivative",
    "jacobian_product_by_lag",
    "error_surface_cliff",
    "cell_diagram-lstm",
    "lstm_cell_highway",
    "residual_analogy",
    "cell_diagram-gru",
    "gradient_by_lag",
    "stacked_lattice",
    "bidirectional_profile",
    "compute_time",
]
"""In the order of the lecture's own slides."""
VECTOR = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 9"/>'


def test_every_figure_is_in_the_lecture_or_its_appendix():
    shown = [slide.figure for slide in deck("王晓丽", ["王晓丽"]) if not slide.moves]
    assert set(shown) == set(gf.figures.gallery.GALLERY) | set(gf.figures.EXACT) | set(gf.figures.PICTURES)


def test_files_of_slides_are_told_apart():
    titles = [slide.title for slide in deck("王晓丽", ["王晓丽"])]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("experiment", PARTS.values())
def test_every_part_is_an_experiment(experiment):
    assert (CONF / "experiment" / f"{experiment}.yaml").is_file()


def nothing(folder: Path) -> pd.DataFrame:
    raise ValueError("gates: expected runs, got none")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_cannot_be_drawn_is_said_and_costs_no_other_slide(tmp_path, lang):
    slides = [
        Slide("gates", "gate_timescales", nothing),
        Slide("gates", "cell_diagram", nothing, about="lstm"),
        Slide("further", "memory_sensitivity", lambda folder: table("memory_sensitivity")),
    ]
    drawn, left_out = lecture.draw(slides, tmp_path, tmp_path / "deck", lang)
    assert left_out == [
        "left out gate_timescales: gates: expected runs, got none",
        "left out cell_diagram-lstm: gates: expected runs, got none",
    ]
    assert [made.picture for made in drawn.values()] == [tmp_path / "deck" / "03-memory_sensitivity.png"]
    assert (tmp_path / "deck" / "deck.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((tmp_path / "deck" / "03-memory_sensitivity.json").read_text(encoding="utf-8"))


def flat_times(folder: Path) -> pd.DataFrame:
    """Of a machine that did other things: updates of long sequences take no longer."""
    names = dict.fromkeys(gf.analysis.runs.IDENTITY, "none") | {"cell": "rnn", "start": "any", "init": "any"}
    rows = [names | {"length": steps, "steps": float(steps), "value": 0.01} for steps in (7, 15, 62)]
    return pd.DataFrame(rows).assign(low=0.009, high=0.02, updates=9, device="cpu", threads=1, exponent=0.0)


def test_times_that_do_not_tell_are_left_out_and_no_failure(tmp_path):
    slides = [Slide("architectures", "compute_time", flat_times)]
    drawn, [line] = lecture.draw(slides, tmp_path, tmp_path / "deck", "en")
    assert not drawn
    assert isinstance(line, lecture.NotShown)
    assert line == (
        "left out compute_time: wall_time: expected times that grow with length to the power 0.5 to 1.2 for every "
        "cell, got 0.00 to 0.00; train again on a machine that does nothing else"
    )


def test_a_full_disk_ends_the_deck(tmp_path):
    def full(folder: Path) -> pd.DataFrame:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        lecture.draw([Slide("further", "memory_sensitivity", full)], tmp_path, tmp_path / "deck", "en")


def test_pages_of_a_deck_have_one_shape_and_equal_decks_equal_bytes(tmp_path):
    data = table("memory_sensitivity")
    for name in ("one.pdf", "two.pdf"):
        with gf.figures.deck(tmp_path / name) as add_page:
            for context in ("slide", "paper"):
                add_page(gf.figures.plot_memory_sensitivity(data, context=context))
    content = (tmp_path / "one.pdf").read_bytes()
    sizes = [[float(side) for side in box.split()] for box in re.findall(rb"/MediaBox \[ 0 0 ([\d. ]+) \]", content)]
    assert [width / height for width, height in sizes] == pytest.approx([16 / 9] * 2, rel=1e-3)
    assert content == (tmp_path / "two.pdf").read_bytes()


def test_bookmarks_lead_to_every_slide_and_the_appendix_begins_with_a_page_that_says_so(tmp_path, small):
    for made in small.values():
        for part in made.parts:
            sheets = PdfWriter()
            for _ in range(3 if made.moving else 1):
                sheets.add_blank_page(160, 90)
            sheets.write(part.picture.with_suffix(".pdf"))
    lecture.bind(tmp_path / "deck.pdf", small, "en")
    book = PdfReader(tmp_path / "deck.pdf")
    assert len(book.pages) == 2 + 1 + 1 + 3
    assert "Appendix" in book.pages[2].extract_text()
    flat = [entry for group in book.outline for entry in (group if isinstance(group, list) else [group])]
    places = [book.get_destination_page_number(entry) for entry in flat]
    assert places == [0, 0, 2, 3, 3, 4, 4]


CHECKS = re.compile(r'\b(?:claim|agreement|at_most|at_least)\(\s*"([a-z_]+)"')


def test_notes_of_chinese_slides_name_every_check_in_chinese(small):
    named = yaml.safe_load((Path(notes.__file__).with_name("notes_zh.yaml")).read_text(encoding="utf-8"))["checks"]
    sources = Path(gf.figures.__file__).parent.glob("*/numbers.py")
    known = {name for source in sources for name in CHECKS.findall(source.read_text(encoding="utf-8"))}
    assert len(known) > 50
    assert known <= named.keys()
    slide, made = next(iter(small.items()))
    assert "- 谱半径决定速率：−0.2，期望 -0.2 ± 0.005：成立" in notes.notes(slide, made, "zh")
    assert not re.search(r"[a-z]{3,} [a-z]{3,}", notes.notes(slide, made, "zh"))


def expectations() -> Iterator[str]:
    """The words of the code with which checks say what they expect."""
    folders = [Path(gf.figures.__file__).parent.glob("*/numbers.py"), [Path(gf.analysis.reach.__file__)]]
    for node in (node for source in chain(*folders) for node in ast.walk(ast.parse(source.read_text("utf-8")))):
        given = None
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim" and len(node.args) > 2:
            given = node.args[2]
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "expected":
            given = node.value
        if isinstance(given, ast.Constant | ast.JoinedStr):
            parts = given.values if isinstance(given, ast.JoinedStr) else [given]
            yield "".join(part.value if isinstance(part, ast.Constant) else "1" for part in parts)


def test_notes_of_chinese_slides_say_in_chinese_what_is_expected():
    told = list(expectations())
    assert len(told) > 20
    for expected in told:
        claim = {"claim": "folds", "value": 1, "expected": expected, "holds": True}
        line = notes._check(claim, Labels("zh"), "zh")
        assert not re.search(r"[a-z]{3,}", line), line


def test_notes_and_descriptions_hold_no_markup(small, tmp_path, monkeypatch):
    monkeypatch.setattr(Slide, "reading", lambda slide, lang: r"tanh$^{\prime}$ and $W_{hh}$")
    write_slides(tmp_path / "deck.pptx", small, "en")
    pages = [page for page in Presentation(tmp_path / "deck.pptx").slides if page.has_notes_slide]
    for page in pages:
        assert "tanh′ and Wₕₕ" in page.notes_slide.notes_text_frame.text
        described = [shape._element.nvPicPr.cNvPr.get("descr") for shape in page.shapes if shape.shape_type == 13]
        assert described
        assert all("$" not in text for text in described)


def test_the_page_of_dark_figures_is_dark(small, tmp_path):
    dark = write_page(tmp_path, small, "en", "dark").read_text(encoding="utf-8")
    assert "prefers-color-scheme" not in dark
    assert "@media all {" in dark
    assert "color-scheme: dark;" in dark
    assert "@media (prefers-color-scheme: dark)" in write_page(tmp_path, small, "en").read_text(encoding="utf-8")


def test_a_second_process_can_draw_every_slide():
    for slide in deck("王晓丽", ["王晓丽"]):
        assert pickle.loads(pickle.dumps(slide)).title == slide.title


def test_a_page_of_the_deck_leaves_its_figure_as_it_is(tmp_path):
    figure = gf.figures.plot_memory_sensitivity(table("memory_sensitivity"), title="A headline above the axes")
    before = figure.axes[0].get_position().bounds
    with gf.figures.deck(tmp_path / "deck.pdf") as add_page:
        add_page(figure)
    gf.figures.save(figure, tmp_path / "figure")
    assert figure.axes[0].get_position().bounds == before


def pixels(kind: str) -> bytes:
    content = BytesIO()
    Image.new("L", (16, 9)).save(content, kind)
    return content.getvalue()


@pytest.fixture
def small(tmp_path) -> dict[Slide, Drawn]:
    """A slide of the lecture, built up in two steps, one of the appendix and one that moves, of few pixels each."""
    for name in ("01-a-1.png", "01-a.png", "02-b.png", "03-c.png"):
        (tmp_path / name).write_bytes(pixels("PNG"))
        (tmp_path / name).with_suffix(".svg").write_bytes(VECTOR)
    (tmp_path / "03-c.svg").unlink()
    for name in ("01-a.csv", "03-c.gif", "03-c.html"):
        (tmp_path / name).touch()
    claim = {"claim": "radius_sets_the_rate", "value": -0.2, "expected": "-0.2 ± 0.005", "holds": True}
    claim |= {"sigma": 1.57, "rho": 0.82, "largest": "1.57", "radius": "0.82", "log_rho": -0.2, "tanh": -0.46}
    wrong = {"claim": "exact_slope", "value": math.nan, "expected": "0 ± 1e-14", "holds": False}
    first = Step("First of all", tmp_path / "01-a-1.png", 0.08)
    return {
        Slide("forgetting", "jacobian_product_by_lag", nothing, core=True): Drawn(
            tmp_path / "01-a.png", [claim, wrong], "nowhere", 0.1, [first]
        ),
        Slide("forgetting", "tanh_derivative", nothing): Drawn(tmp_path / "02-b.png", [], "nowhere", 0.0),
        Slide("learning", "gradient_heatmap", nothing, "animated", True): Drawn(
            tmp_path / "03-c.gif", [], "nowhere", 0.1, moving=pixels("GIF")
        ),
    }


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_shows_everything_once_and_links_only_to_files(tmp_path, small, lang):
    page = write_page(tmp_path, small, lang).read_text(encoding="utf-8")
    assert re.findall(r'<img class="[^"]*" src="([^"]+)"', page) == ["01-a-1.png", "01-a.png", "02-b.png", "03-c.png"]
    assert re.findall(r'<figure class="step" id="([^"]+)"', page) == ["01-a-1"]
    assert re.findall(r'<iframe class="[^"]*" src="([^"]+)" title="[^"]+" loading="lazy">', page) == ["03-c.html"]
    links = set(re.findall(r'href="([^"#]+)"', page)) - {"deck.pdf", "deck.pptx"}
    assert links == {path.name for path in tmp_path.iterdir()} - {"index.html", "01-a-1.png", "01-a-1.svg"}
    assert re.findall('<h2 id="([^"]+)"', page) == ["lecture-forgetting", "appendix-forgetting", "appendix-learning"]
    places = ["lecture-forgetting", "01-a", "appendix-forgetting", "02-b", "appendix-learning", "03-c"]
    assert re.findall('href="#([^"]+)"', page) == places
    assert "http" not in page
    assert ("@font-face" in page) == (lang == "zh")
    said = plain(Labels(lang).claim(next(iter(small.values())).claims[0]))
    assert f'alt="{escape(said)}"' in page


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_slides_have_titles_to_edit_and_notes(tmp_path, small, lang):
    write_slides(tmp_path / "deck.pptx", small, lang)
    pages, labels = Presentation(tmp_path / "deck.pptx"), Labels(lang)
    assert pages.slide_width / pages.slide_height == pytest.approx(16 / 9)
    titles = [page.shapes.title.text for page in pages.slides]
    forgetting = labels("section.forgetting")
    assert titles[:3] == [labels("deck.title"), forgetting, "First of all"]
    assert titles[4] == labels("section.of_appendix", section=forgetting)
    assert "σmax" in titles[3]
    assert "$" not in "".join(titles)
    claim, wrong = next(iter(small.values())).claims
    page = pages.slides[3]
    [picture] = [shape for shape in page.shapes if not shape.is_placeholder]
    assert picture.crop_top == pytest.approx(0.1, abs=1e-4)
    assert (picture.width, picture.top + picture.height) == (pages.slide_width, pages.slide_height)
    assert picture.height / picture.width == pytest.approx(0.9 * 9 / 16, abs=1e-4)
    [vector] = picture._element.iter("{http://schemas.microsoft.com/office/drawing/2016/SVG/main}svgBlip")
    [name] = vector.attrib.values()
    assert page.part.related_part(name).blob == VECTOR
    assert page.part.related_part(name).content_type == "image/svg+xml"
    assert picture._element.nvPicPr.cNvPr.get("descr") == plain(labels.claim(claim))
    said = page.notes_slide.notes_text_frame.text
    assert said.startswith(plain(labels.claim(claim)))
    outcomes = [claim["expected"], labels("deck.holds"), wrong["expected"], labels("deck.fails")]
    for words in ("−0.2", "NaN", *outcomes, labels("deck.source", text="nowhere")):
        assert words in said
    assert [page.has_notes_slide for page in pages.slides] == [False, False, True, True, False, True, False, True]


def test_the_lecture_comes_before_its_appendix():
    slides = deck("王晓丽", ["王晓丽"])
    core = [slide.title for slide in slides if slide.core]
    assert core == CORE
    assert all("。" in slide.reading("zh") for slide in slides)
    assert all(slide.core for slide in slides[: len(core)])


def test_words_that_are_wrong_are_said_before_anything_starts(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for argument, words in {
        "lang=fr": "lang: expected one of en, zh, got fr",
        "launcher=cloud": "launcher: expected one of local, processes",
        "lang": "lang: expected lang=VALUE, got nothing",
        "name=龘龖": "name: expected characters of the alphabet",
        "names=王晓丽,龘": "names: expected characters of the alphabet",
        "names=": "names: expected names=VALUE, got nothing",
        "name=": "name: expected name=VALUE, got nothing",
        "speed=high": "speed: expected one of path, lang, name, names, launcher, data, data.path, got 'speed=high'",
    }.items():
        monkeypatch.setattr(sys, "argv", ["lecture.py", argument])
        with pytest.raises(SystemExit, match=re.escape(words)):
            lecture.main()
    assert list(tmp_path.iterdir()) == []


REAL = ["data.vocabulary_size=500", "train.iterations=7", "record.every=2", "record.spectrum_every=2"]
"""What a tiny network lacks: the characters of the names that it is asked, and updates without a record."""


def test_a_deck_that_is_not_finished_leaves_the_one_before(tmp_path):
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "deck.pdf").write_text("before")
    with suppress(KeyboardInterrupt), lecture.replaced(tmp_path / "en") as out:
        out.mkdir()
        (out / "deck.pdf").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "en" / "deck.pdf").read_text() == "before"
    with lecture.replaced(tmp_path / "en") as out:
        out.mkdir()
        (out / "deck.pdf").write_text("whole")
    assert (tmp_path / "en" / "deck.pdf").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["en"]


def test_a_path_that_cannot_be_a_folder_is_named_before_training(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["lecture.py", f"path={tmp_path / 'file'}"])
    with pytest.raises(SystemExit, match=r"path: expected a folder that can be written, got .*file"):
        lecture.main()


def test_a_path_that_holds_nothing_is_said(monkeypatch, tmp_path, capsys):
    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(lecture, "train", stopped)
    for known in (False, True):
        if known:
            (tmp_path / next(iter(PARTS))).mkdir()
        with pytest.raises(SystemExit):
            lecture.command.main([f"path={tmp_path}"], standalone_mode=True)
        assert ("holds no networks yet" in capsys.readouterr().err) != known


@pytest.mark.slow
def test_the_whole_deck_of_tiny_networks(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lecture.py", "path=here"])
    patiently = lecture.patiently
    monkeypatch.setattr(lecture, "patiently", lambda command: patiently([*command, "debug=tiny", *REAL]))
    lecture.main()
    slides = deck("王晓丽", ["王晓丽"])
    steps = sum(slide.how.steps - 1 for slide in slides if not slide.moves)
    said = capsys.readouterr()
    left_out = "left out compute_time: wall_time" in said.out + said.err  # seven updates on a busy machine
    figures = len(slides) - 2 - left_out
    assert len(list(Path("here/deck/en").glob("*.png"))) == figures + 2 + steps  # animations have a picture, too
    assert [path.name for path in Path("here/deck").iterdir()] == ["en"]
    assert f"{figures} figures and 2 animations: here/deck/en/index.html" in said.out
