"""A figure of a record that failed its proof says so, whichever it is and in either language; no other one does."""

import itertools
import json
import logging
import math
from functools import cache
from pathlib import Path

import pytest
from figure_checks import check_legible, words
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow import analysis, figures
from gradflow.analysis.proofs import RECORD_PROVED
from gradflow.commands import animate, lecture
from gradflow.commands.arguments import Look
from gradflow.commands.deck import animated, logged
from gradflow.figures.gallery import ANIMATIONS, GALLERY
from gradflow.figures.theme import LANGUAGES

GOOD, BAD = 1e-7, 0.3
NEEDS = {
    "lstm_cell_highway": {"cell": "lstm"},
    "gate_timescales": {"cell": "lstm"},
    "cell_diagram": {"cell": "gru"},
    "stacked_lattice": {"layers": 3},
    "bidirectional_profile": {"bidirectional": True},
}
SAID = {"en": "proof of the record failed for 1 of 1 runs", "zh": "1次运行中有1次的记录未通过验证"}


@pytest.fixture(scope="module")
def run_for(tmp_path_factory: pytest.TempPathFactory):
    """A run that supports the figure of this name, with this residual in its proof."""

    @cache
    def find(name: str, residual: float | None):
        planted = Planted(steps=12, iterations=30, residual=residual)
        config = config_of(**{"clip": "norm", **NEEDS.get(name, {})})
        return gf.open_run(write_run(tmp_path_factory.mktemp("run"), config, planted))

    return find


def said(made: figures.gallery.Made) -> str:
    """All that a figure, or what stands still of an animation, says, whatever the lines."""
    figure = made.figure.figure if isinstance(made.figure, figures.Animation) else made.figure
    return words(figure).replace("\n", " ")


@pytest.mark.parametrize(("name", "lang"), [*zip(GALLERY, itertools.cycle(LANGUAGES), strict=False)])
def test_every_figure_says_that_a_proof_failed(name, lang, run_for):
    run = run_for(name, BAD)
    made = figures.make(GALLERY[name], GALLERY[name].analyse(run), runs=[run], lang=lang, context="paper")
    assert SAID[lang].replace(" ", "") in said(made).replace(" ", "")
    assert made.claims[-1] == {
        "claim": RECORD_PROVED,
        "value": 1.0,
        "expected": "0",
        "holds": False,
        "total": 1,
    }
    check_legible(made.figure)


@pytest.mark.parametrize("name", ANIMATIONS)
def test_every_animation_says_that_a_proof_failed(name, run_for):
    run = run_for(name, BAD)
    made = figures.make(ANIMATIONS[name], ANIMATIONS[name].analyse(run), runs=[run], context="paper")
    assert SAID["en"] in said(made)


@pytest.mark.parametrize("residual", [GOOD, math.nan, None])
@pytest.mark.parametrize("name", ["gradient_by_lag", "comparison"])
def test_nothing_is_said_of_a_record_that_is_proved_or_unproved(name, residual, run_for):
    run = run_for(name, residual)
    data = GALLERY[name].analyse(run)
    made = figures.make(GALLERY[name], data, runs=[run], context="paper")
    assert run.proof == ("proved" if residual == GOOD else "unproved")
    assert said(made) == said(figures.make(GALLERY[name], data, context="paper"))
    assert RECORD_PROVED not in [claim["claim"] for claim in made.claims]
    assert "proof" not in said(made)


def test_a_figure_counts_the_runs_of_the_cells_that_it_shows(tmp_path: Path):
    for number, residual in enumerate([GOOD, BAD, BAD, None]):
        write_run(tmp_path / f"lstm{number}", config_of("lstm", seed=number), Planted(residual=residual))
    write_run(tmp_path / "rnn", config_of("rnn"), Planted(residual=BAD))
    sweep = gf.open_sweep(tmp_path)
    (claim,) = analysis.proof_claims(sweep, analysis.lstm_cell_highway(sweep))
    assert (claim["value"], claim["total"]) == (2, 4)
    (claim,) = analysis.proof_claims(sweep, analysis.comparison(sweep))
    assert (claim["value"], claim["total"]) == (3, 5)
    others = [run for run in sweep.members if run.proof != "failed"]
    assert analysis.proof_claims(others, analysis.comparison(others)) == []


def test_a_script_without_settings_is_told_of_too(tmp_path: Path):
    """Its cell goes by torch's name in the diagram of gates, and by none in its log."""
    run = gf.open_run(write_run(tmp_path / "run", config_of("gru"), Planted(residual=BAD)))
    description = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    description |= {"config": {}, "modules": {"recurrent": "GRU(3, 16)"}}
    (run.path / "run.json").write_text(json.dumps(description), encoding="utf-8")
    data = analysis.gate_means(run)
    assert set(data["cell"]) == {"gru"}
    assert len(analysis.proof_claims(run, data)) == 1


@pytest.mark.parametrize("lang", LANGUAGES)
def test_draw_all_warns_on_the_figures_of_failed_records_alone(lang, tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr("gradflow.figures.gallery.GALLERY", {name: GALLERY[name] for name in ("comparison",)})
    for names, residual in ((1, BAD), (8, GOOD)):
        planted = Planted(steps=12, iterations=30, residual=residual)
        write_run(tmp_path / "runs" / str(names), config_of(names=names), planted)
    with caplog.at_level(logging.INFO, "gradflow"):
        files = figures.draw_all(tmp_path / "runs", tmp_path / "out", lang=lang, context="paper")
    assert caplog.messages == []
    told = {file.stem: file.read_text(encoding="utf-8") for file in files if file.suffix == ".json"}
    assert {stem: RECORD_PROVED in text for stem, text in told.items()} == {
        "comparison-names_per_sequence=1": True,
        "comparison-names_per_sequence=8": False,
    }


# --- the commands ----------------------------------------------------------------------------------------------------


def checks_in(files) -> list[str]:
    """The names of the checks beside a figure."""
    (file,) = [file for file in files if file.suffix == ".json"]
    return [claim["claim"] for claim in json.loads(file.read_text(encoding="utf-8"))]


def test_the_command_that_animates_knows_the_proofs(run_for, tmp_path: Path):
    files = animate.animate(
        "weight_spectrum", [run_for("weight_spectrum", BAD)], tmp_path / "moving", Look("en", "paper", "light")
    )
    assert RECORD_PROVED in checks_in(files)


@pytest.mark.parametrize("residual", [BAD, GOOD])
def test_slides_of_the_lecture_know_the_proofs(residual, tmp_path: Path):
    planted = Planted(steps=12, iterations=30, residual=residual)
    write_run(tmp_path / "clipping" / "run", config_of(clip="norm"), planted)
    slides = [logged("exploding", "clipping_effect", "clipping"), animated("learning", "weight_spectrum", "clipping")]
    drawn, left_out = lecture.draw(slides, tmp_path, tmp_path / "deck", "en")
    assert left_out == []
    for made in drawn.values():
        assert (RECORD_PROVED in checks_in([made.picture.with_suffix(".json")])) == (residual == BAD)
