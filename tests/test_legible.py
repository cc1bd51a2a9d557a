"""The lecture is read from the last row: no letter under 24 of 1080 pixels, headlines of two lines at most."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pandas as pd
import pytest
from exact_tables import table
from figure_checks import check_legible, in_pixels, smallest
from matplotlib.figure import Figure
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow.commands.deck import core
from gradflow.data import one_hot
from gradflow.figures.catalogue import Labels
from gradflow.figures.theme import LANGUAGES

LEAST, HEADLINE = 24, 48  # pixels of a slide, 1080 high
SLIDES = {slide.title: slide for slide in core("王晓丽", ["王晓丽", "李建国", "张伟", "刘芳"])}


@cache
def runs() -> dict[str, list[gf.runlog.Run]]:
    """Of every part of the lecture some networks whose numbers are known."""
    folder = Path(mkdtemp())

    def run(cell: str = "rnn", init: str = "default", factor: float = 0.57, length: int = 30, **more) -> gf.runlog.Run:
        planted, number = Planted(factor, length, iterations=21), len(list(folder.iterdir()))
        return gf.open_run(write_run(folder / str(number), config_of(cell, init, **more), planted))

    lstm = [run("lstm", factor=factor, names=8, forget_bias=bias) for bias, factor in ((0, 0.6), (1, 0.9), (3, 1.0))]
    four = [run(names=8), run("rnn", "orthogonal", 0.95, names=8), lstm[2], run("gru", factor=0.64, names=8)]
    return {
        "comparison": [run(cell) for cell in ("linear", "rnn", "lstm", "gru")],
        "gradient_by_lag": [*four, *lstm[:2]],
        "cell_diagram-lstm": lstm[1:2],
        "lstm_cell_highway": lstm,
        "cell_diagram-gru": [run("gru_before", names=8)],
        "stacked_lattice": [run(layers=4)],
        "bidirectional_profile": [run(bidirectional=True)],
        "compute_time": [run(cell, names=count, length=4 * count) for cell in ("rnn", "lstm") for count in (2, 4, 8)],
    }


def table_of(title: str) -> pd.DataFrame:
    slide = SLIDES[title]
    if title == "compute_time":  # the planted updates take no time
        data = gf.analysis.compute_time(runs()[title])
        own = {column: data["steps"] * factor for column, factor in (("low", 0.8), ("value", 1.0), ("high", 1.3))}
        return data.assign(**own, exponent=1.0)
    if title in runs():
        return gf.figures.GALLERY[slide.figure].analyse(runs()[title])
    if slide.figure in gf.figures.EXACT:
        return table(slide.figure)
    return asked() if title == "name_saliency" else one_hot("王晓丽")


def asked() -> pd.DataFrame:
    """Answers of a model about four names."""
    rows = [
        {"example": number, "name": name, "position": place, "character": character, "score": 0.1 + place}
        for number, name in enumerate(("王晓丽", "李建国", "张伟", "刘芳"))
        for place, character in enumerate(name)
    ]
    same = {"cell": "rnn", "num_layers": 1, "bidirectional": False, "source": "generated", "names_per_sequence": 1}
    told = {"length": 0, "norm": 9.0, "typical": 0.4, "logit": 3.0, "rest": 0.0, "predicted": "女", "probability": 0.97}
    return pd.DataFrame(rows).assign(**same, **told)


def headline(figure: Figure, claims: Sequence[dict], lang: str):
    words = Labels(lang).headline(claims[0])[:8]
    [found] = [text for text in figure.texts if text.get_text().replace("\n", " ").startswith(words)]
    return found


@pytest.mark.parametrize("title", SLIDES)
def test_a_slide_of_the_lecture_is_read_from_the_last_row(title):
    slide, data = SLIDES[title], table_of(title)
    claims = slide.how.check(data)
    for lang in LANGUAGES:
        figure = slide.how.plot(data, claims=claims, lang=lang)
        check_legible(figure)
        pixels, text = smallest(figure)
        assert pixels >= LEAST, f"{lang}: {text!r} has letters of {pixels:.1f} pixels"
        top = headline(figure, claims, lang)
        assert in_pixels(figure, top.get_fontsize()) >= HEADLINE - 1e-6
        assert top.get_text().count("\n") <= 1, top.get_text()
