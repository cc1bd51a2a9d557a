"""The lecture's deck: its order, what is drawn and left out, its page; the whole command on networks of no size."""

import json
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from pathlib import Path

import pandas as pd
import pytest
from exact_tables import table
from pptx import Presentation

import gradflow as gf
from gradflow.commands import lecture
from gradflow.commands.arguments import CONF
from gradflow.commands.deck import PARTS, Drawn, Slide, deck
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
PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")


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


def test_a_page_of_the_deck_leaves_its_figure_as_it_is(tmp_path):
    figure = gf.figures.plot_memory_sensitivity(table("memory_sensitivity"), title="A headline above the axes")
    before = figure.axes[0].get_position().bounds
    with gf.figures.deck(tmp_path / "deck.pdf") as add_page:
        add_page(figure)
    gf.figures.save(figure, tmp_path / "figure")
    assert figure.axes[0].get_position().bounds == before


def made(picture: Path, *claims: Mapping) -> Drawn:
    return Drawn(picture, claims, PIXEL, "nowhere")


@pytest.fixture
def small(tmp_path) -> dict[Slide, Drawn]:
    """A slide of the lecture, one of the appendix and one that moves, with files that hold next to nothing."""
    for name in ("01-a.png", "01-a.csv", "02-b.png", "02-b.svg", "03-c.gif", "03-c.html"):
        (tmp_path / name).touch()
    claim = {"claim": "radius_sets_the_rate", "value": -0.2, "expected": "-0.2 ± 0.005", "holds": True}
    claim |= {"sigma": 1.57, "rho": 0.82, "log_rho": -0.2, "tanh": -0.46}
    wrong = {"claim": "exact_slope", "value": math.nan, "expected": "0 ± 1e-14", "holds": False}
    return {
        Slide("forgetting", "jacobian_product_by_lag", nothing, core=True): made(tmp_path / "01-a.png", claim, wrong),
        Slide("forgetting", "tanh_derivative", nothing): made(tmp_path / "02-b.png"),
        Slide("learning", "gradient_heatmap", nothing, "animated", True): made(tmp_path / "03-c.gif"),
    }


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_shows_everything_once_and_links_only_to_files(tmp_path, small, lang):
    page = write_page(tmp_path, small, lang).read_text(encoding="utf-8")
    assert re.findall(r'<img src="([^"]+)"', page) == ["01-a.png", "02-b.png"]
    assert re.findall(r'<iframe src="([^"]+)" title="[^"]+" loading="lazy">', page) == ["03-c.html"]
    links = set(re.findall(r'href="([^"#]+)"', page)) - {"deck.pdf", "deck.pptx"}
    assert links == {path.name for path in tmp_path.iterdir()} - {"index.html"}
    assert re.findall('<h2 id="([^"]+)"', page) == ["lecture-forgetting", "appendix-forgetting", "appendix-learning"]
    assert re.findall('href="#([^"]+)"', page) == ["lecture-forgetting", "appendix-forgetting", "appendix-learning"]
    assert "http" not in page
    said = plain(Labels(lang).claim(next(iter(small.values())).claims[0]))
    assert f'alt="{escape(said)}"' in page


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_slides_have_titles_to_edit_and_notes(tmp_path, small, lang):
    write_slides(tmp_path / "deck.pptx", small, lang)
    pages, labels = Presentation(tmp_path / "deck.pptx"), Labels(lang)
    assert pages.slide_width / pages.slide_height == pytest.approx(16 / 9)
    titles = [page.shapes.title.text for page in pages.slides]
    forgetting, appendix = labels("section.forgetting"), labels("section.appendix")
    assert titles[:2] == [labels("deck.title"), forgetting]
    assert titles[3] == f"{appendix}\n{forgetting}"
    assert "σmax" in titles[2]
    assert "$" not in "".join(titles)
    claim, wrong = next(iter(small.values())).claims
    page = pages.slides[2]
    [picture] = [shape for shape in page.shapes if not shape.is_placeholder]
    assert picture._element.nvPicPr.cNvPr.get("descr") == plain(labels.claim(claim))
    said = page.notes_slide.notes_text_frame.text
    assert said.startswith(plain(labels.claim(claim)))
    outcomes = [claim["expected"], labels("deck.holds"), wrong["expected"], labels("deck.fails")]
    for words in ("−0.2", "NaN", *outcomes, labels("deck.source", text="nowhere")):
        assert words in said
    assert [page.has_notes_slide for page in pages.slides] == [False, False, True, False, True, False, True]


def test_the_lecture_comes_before_its_appendix():
    slides = deck("王晓丽", ["王晓丽"])
    core = [slide.title for slide in slides if slide.core]
    assert core == CORE
    assert all("axis" not in slide.reading("zh") and "。" in slide.reading("zh") for slide in slides if slide.core)
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
        "speed=high": "speed: expected one of path, lang, name, names, launcher, got 'speed=high'",
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


@pytest.mark.slow
def test_the_whole_deck_of_tiny_networks(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lecture.py", "path=here"])
    patiently = lecture.patiently
    monkeypatch.setattr(lecture, "patiently", lambda command: patiently([*command, "debug=tiny", *REAL]))
    lecture.main()
    slides = deck("王晓丽", ["王晓丽"])
    steps = sum(slide.how.steps - 1 for slide in slides if not slide.moves)
    assert len(list(Path("here/deck/en").glob("*.png"))) == len(slides) - 2 + steps
    assert [path.name for path in Path("here/deck").iterdir()] == ["en"]
    assert f"{len(slides) - 2} figures and 2 animations: here/deck/en/index.html" in capsys.readouterr().out
