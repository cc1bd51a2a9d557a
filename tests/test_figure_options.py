"""The options that all figures have: what is none is refused in words that name it, and what is asked for is drawn."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow import analysis
from gradflow.figures.options import Options


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> gf.runlog.Run:
    path = tmp_path_factory.mktemp("options") / "run"
    return gf.open_run(write_run(path, config_of("lstm"), Planted(steps=6, iterations=21)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"title": 3}, TypeError, "title: expected a text, or None for the figure's claim, got 3"),
        ({"title": r"$\frac$"}, ValueError, r"title: expected a text whose formulas between \$ matplotlib can set"),
        ({"caption": 3}, TypeError, "caption: expected True, False or a text, got 3"),
        (
            {"labels": {"axis.lgs": "x"}},
            ValueError,
            "labels: expected ids of texts, got axis.lgs; did you mean axis",
        ),
        ({"labels": {3: "x"}}, ValueError, "labels: expected ids of texts, got 3; gradflow/figures/labels"),
        ({"labels": {"axis.lag": 3}}, TypeError, "labels: expected texts by their ids, such as for 'axis.lag', got 3"),
        ({"labels": {"claim.setting": "{so}"}}, ValueError, r"labels: expected for claim.setting a text .* {setting}"),
        ({"palette": {"lsmt": "red"}}, ValueError, "palette: expected a known name, got 'lsmt'; did you mean lstm"),
        ({"palette": {"lstm": "rot"}}, ValueError, "palette: expected a colour .* for 'lstm', got 'rot'"),
        ({"palette": ["red"]}, TypeError, "palette: expected a mapping of colours by cell"),
        ({"size": ("10", "5")}, ValueError, "size: expected width and height in inches, from 1 to 100"),
        ({"size": (True, 5)}, ValueError, "size: expected width and height in inches, from 1 to 100"),
        ({"size": np.ones((2, 2))}, ValueError, "size: expected width and height in inches, from 1 to 100"),
        ({"size": np.array([10, np.nan])}, ValueError, "size: expected width and height in inches, from 1 to 100"),
        ({"size": {4, 5}}, ValueError, "size: expected width and height in inches, from 1 to 100"),
        ({"title": "a\x1b[1mb"}, ValueError, r"title: expected a text of letters that are seen .* with U\+001B; leave"),
        ({"caption": "a\tb"}, ValueError, r"caption: expected a text of letters that are seen .* with U\+0009; leave"),
        ({"labels": {"axis.lag": "a\u202eb"}}, ValueError, r"labels: expected for 'axis.lag' a text .* with U\+202E"),
        ({"theme": "night"}, ValueError, "theme: expected one of light, dark, got 'night'"),
        ({"step": 1.5}, ValueError, "step: expected a whole number of at least 1, got 1.5"),
        (
            {"step": 2},
            ValueError,
            "step: expected none, as this figure is not built up in steps, got 2",
        ),
        ({"titel": "x"}, TypeError, "unexpected keyword argument 'titel'"),
    ],
)
def test_what_is_no_option_is_refused_by_its_name(run, options, error, message):
    with pytest.raises(error, match=message):
        gf.figures.draw("gradient_by_lag", run, **options)
    with pytest.raises(error, match=message):
        gf.figures.plot_gradient_by_lag(analysis.gradient_by_lag(run), **options)


@pytest.mark.parametrize("size", [(8, 4.5), [8, 4.5], np.array([8, 4.5]), np.array([8, 4.5], dtype="float32")])
def test_a_size_is_a_sequence_or_an_array(size):
    assert Options(size=size) == Options(size=(8.0, 4.5))


def test_a_figure_is_drawn_of_a_path_as_it_is_asked_for(run):
    options = {"title": "One\nand two", "caption": "Mine", "palette": {"lstm": "#123456"}, "size": (6, 4)}
    made = gf.figures.draw("gradient_by_lag", Path(run.path), **options)
    assert tuple(made.figure.get_size_inches()) == (6, 4)
    assert "One\nand two" in [text.get_text() for text in made.figure.texts]
    assert made.figure.get_supxlabel() == "Mine"
    assert "#123456" in {line.get_color() for line in made.figure.axes[0].lines}
    with pytest.raises(FileNotFoundError, match="path: expected a folder with runs below it"):
        gf.figures.draw("gradient_by_lag", "nowhere")
