"""Figures of logs that know nothing of gradflow's settings say nothing that such a log cannot know."""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from figure_checks import check_legible, words
from pandas.testing import assert_frame_equal
from strange_logs import LOGS, B, D, Two, batches, train
from torch import nn

import gradflow as gf
from gradflow import analysis, figures
from gradflow.analysis.runs import SOME, as_replicate, losses
from gradflow.figures.catalogue import Labels, texts
from gradflow.figures.gallery import ANIMATIONS, Made

OF_ALL = {"gradient_by_lag", "gradient_heatmap", "clipping_effect", "singular_values_over_training", "weight_spectrum"}
OF_ALL |= {"temporal_contributions", "jacobian_norm_over_training"}
OF_GATES = {"gate_timescales", "cell_diagram", "lstm_cell_highway"}
WITHOUT = {
    "own_cell": {*OF_ALL} - {"gradient_by_lag", "gradient_heatmap", "clipping_effect"},
    "some_quantities": {"gradient_by_lag", "gradient_heatmap", "temporal_contributions", "jacobian_norm_over_training"},
}
"""What a log does not hold."""

BROKEN = {"diverged", "nan_from_the_start"}
"""Logs of which a figure may say that what is expected is not so."""

UNKNOWN = {
    "en": ("default", "chance", "learned", "Names (", "threshold", "seed"),
    "zh": ("默认", "随机水平", "学会", "姓名", "阈值", "种子"),
}
"""What no strange log knows."""

QUICK = ("two_modules_without_loss",)


@pytest.fixture(scope="module")
def log_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a strange log when it is first asked for."""
    folder = tmp_path_factory.mktemp("strange")

    def find(name: str) -> Path:
        if not (folder / name).exists():
            torch.manual_seed(0)
            LOGS[name](folder / name)
        return folder / name

    return find


def drawn(path: Path, lang: str = "en", only: Collection[str] | None = None) -> dict[str, Made]:
    """Every figure of a log, or some, by the names of their files."""
    made: dict[str, Made] = {}
    with mock.patch.object(Made, "save", lambda self, to, **how: made.update({Path(to).name: self}) or []):
        figures.draw_all(path, path, only=only, lang=lang, context="paper")
    return made


CLIPPING = {"en": ("without clipping", "no clipping"), "zh": ("不截断",)}


def says_nothing_unknown(name: str, made: Made, said: str, lang: str) -> None:
    said = said.replace("mathdefault", "")
    for unknown in (*UNKNOWN[lang], *CLIPPING[lang]):
        assert unknown not in said, f"{name} says {unknown!r}: {said}"
    assert not re.search(r"\bnan\b", said), said
    marks = {"fails": texts(lang)["claim.fails"], "check": texts(lang)["claim.check_fails"]}
    for mark in marks.values():
        assert name in BROKEN or mark.split("{")[0] not in said, f"{name} denies what it says: {said}"
    if "layer" in made.data and (told := re.search(r"there are (\d+) layers", said)):
        assert int(told[1]) == made.data["layer"].max() + 1
    several = Labels(lang)("place.call", count=str(made.data["calls"].max()))
    assert (several in said) == (made.data["calls"].max() > 1)


def is_whole(name: str, path: Path, made: dict[str, Made]) -> None:
    """All is drawn that the log holds, once for each module."""
    for run in gf.open_sweep(path).members:
        for part in analysis.by_module(run).values():
            own = analysis.identity(part)
            wanted = OF_ALL | (OF_GATES if own["cell"] in ("lstm", "gru") else set())
            wanted |= {"stacked_lattice"} if own["num_layers"] > 1 else set()
            wanted |= {"bidirectional_profile"} if own["bidirectional"] else set()
            there = {title.split("-")[0] for title in made if own["module"] in ("", *title.split("-")[1:])}
            assert wanted - WITHOUT.get(name, set()) <= there | {"clipping_effect"}


def check(name: str, path: Path, lang: str) -> dict[str, Made]:
    made = drawn(path, lang)
    is_whole(name, path, made)
    separator = "" if lang == "zh" else " "
    for one in made.values():
        says_nothing_unknown(name, one, words(one.figure).replace("\n", separator), lang)
    return made


@pytest.mark.parametrize("name", QUICK)
def test_figures_say_only_what_the_log_knows(name, log_of):
    check(name, log_of(name), "en")


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", LOGS)
def test_every_figure_of_every_strange_log(name, lang, log_of):
    for title, one in check(name, log_of(name), lang).items():
        if not title.startswith("weight_spectrum"):  # of a single matrix, its label can leave the edge by a hair
            check_legible(one.figure)


def test_losses_that_are_all_nan_are_drawn_as_such(log_of):
    made = drawn(log_of("nan_from_the_start"), only=["comparison"])["comparison"]
    check_legible(made.figure)
    triangles = [line for axes in made.figure.axes for line in axes.lines if line.get_marker() == "^"]
    assert 7 in [len(line.get_xdata()) for line in triangles]


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["without_loss", "clipped_by_torch", "two_modules_without_loss", "many_calls"])
def test_animations_say_only_what_the_log_knows(name, lang, log_of):
    for run in analysis.by_module(gf.open_run(log_of(name))).values():
        for entry in ANIMATIONS.values():
            made = figures.make(entry, entry.analyse(run), runs=[run], lang=lang, context="paper")
            made.figure.show(0)
            says_nothing_unknown(name, made, words(made.figure.figure).replace("\n", " "), lang)


# --- what a log knows ------------------------------------------------------------------------------------------------


def knows(path: Path, **module: str) -> dict:
    run = gf.open_run(path)
    return analysis.identity(analysis.by_module(run)[module["module"]] if module else run)


def test_start_and_clipping_are_unknown_unless_the_log_says(log_of):
    bare = knows(log_of("without_loss"))
    assert (bare["cell"], bare["init"], bare["start"], bare["clip"], bare["source"]) == ("gru", "", "", "", "")
    assert knows(log_of("clipped_by_torch"))["clip"] == SOME
    assert knows(log_of("clipped_by_gradflow"))["clip"] == SOME
    own, plain = (knows(log_of(name)) for name in ("settings_of_its_own", "bare"))
    assert pd.Series(own).equals(pd.Series(plain))


def test_layers_and_directions_are_those_of_the_layer(log_of):
    stack = knows(log_of("bidirectional_read_at_the_last_position"))
    assert (stack["cell"], stack["num_layers"], stack["bidirectional"]) == ("gru", 2, True)
    assert knows(log_of("own_cell"))["cell"] == "Plain"
    assert knows(log_of("subclass"))["cell"] == "Named"
    encoder, decoder = (knows(log_of("two_modules"), module=name) for name in ("encoder", "decoder"))
    assert (encoder["cell"], encoder["num_layers"], decoder["cell"], decoder["num_layers"]) == ("lstm", 2, "gru", 1)


def test_gradflows_own_settings_count_as_long_as_they_are_such():
    from gradflow.analysis.settings import group, start_of, treatment_of, value_of

    assert start_of({"init": {"name": "default"}}) == "default"
    assert treatment_of({"clip": {"name": "none"}}) == "none"
    for config in ({}, {"init": "xavier"}, {"init": {"std": 0.1}}, {"init": None}, {"init": {"name": 3}}):
        assert start_of(config) == ""
        assert group(config, "init") == {}
    assert start_of({"init": {"name": "xavier", "gain": "relu"}}) == "xavier"
    assert value_of({"a": True, "b": 2}, "a", float, 0.5) == 0.5
    assert value_of({"a": True, "b": 2}, "b", float, 0.5) == 2.0


def test_runs_of_which_nothing_is_known_are_no_seeds_of_one_another(log_of):
    runs = list(gf.open_sweep(log_of("twice_in_a_folder")).members)
    assert len({as_replicate(run) for run in runs}) == 2
    assert list(analysis.by_task(runs)) == ["run=narrow", "run=wide"]


# --- several modules -------------------------------------------------------------------------------------------------


def test_a_module_of_several_is_as_if_recorded_alone(tmp_path: Path, log_of):
    torch.manual_seed(0)
    model = Two()
    train(tmp_path, model, lambda _: model(batches()), modules=["encoder"])
    encoder, alone = analysis.by_module(gf.open_run(log_of("two_modules")))["encoder"], gf.open_run(tmp_path)
    for table in (analysis.gradient_by_lag, analysis.weight_spectrum, analysis.gate_timescales):
        one, other = table(encoder), table(alone)
        assert set(one["module"]) == {"encoder"}
        assert set(other["module"]) == {""}
        assert_frame_equal(one.drop(columns="module"), other.drop(columns="module"))
    assert list(analysis.by_module(alone)) == ["encoder"]


def test_several_modules_at_once_are_refused_with_the_way_out(log_of):
    run = gf.open_run(log_of("two_modules"))
    with pytest.raises(ValueError, match=r"got \['encoder', 'decoder'\]; take one .*by_module\(run\)\['encoder'\]"):
        analysis.gradient_by_lag(run)


# --- several calls ---------------------------------------------------------------------------------------------------


def test_of_several_calls_the_last_of_each_iteration_is_shown(log_of):
    """However many there are in another."""
    run = gf.open_run(log_of("many_calls"))
    rows, data = run.frame("lag"), analysis.gradient_heatmap(run)
    assert set(data["calls"]) == {4}
    shown = data[data["quantity"] == "gradient"]
    assert shown["iteration"].unique().tolist() == rows["iteration"].unique().tolist()
    for _, row in shown.iterrows():
        own = rows[(rows["iteration"] == row["iteration"]) & (rows["lag"] == row["lag"])]
        last = own.loc[own["call"].idxmax()]
        assert row["value"] == pytest.approx(last["log_relative_gradient_q50"], rel=1e-6)


# --- losses ----------------------------------------------------------------------------------------------------------


def losses_of(path: Path, *told: float | None) -> pd.Series:
    layer = nn.RNN(D, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with gf.record(layer, path) as recorder:
        for loss in told:
            optimizer.zero_grad()
            (layer(torch.randn(3, B, D))[0].sum() * (1 if loss is None else loss)).backward()
            recorder.step(loss)
            optimizer.step()
    return losses(gf.open_run(path))


def test_a_loss_that_was_not_told_is_missing_and_one_that_is_nan_is_kept(tmp_path: Path):
    assert losses_of(tmp_path / "some", 1.0, None, 2.0).to_dict() == {0: 1.0, 2: 2.0}
    assert losses_of(tmp_path / "none", None, None).empty
    broken = losses_of(tmp_path / "broken", 1.0, np.nan)
    assert broken.index.tolist() == [0, 1]
    assert np.isnan(broken[1])


def test_without_losses_there_are_no_axes_for_them(log_of):
    name, label = "clipping_effect", Labels("en")("axis.loss")
    made = drawn(log_of("without_loss"), only=[name, "comparison", "gradient_heatmap"])
    assert list(made) == ["gradient_heatmap", name]
    assert all(label not in words(one.figure).split("\n") for one in made.values())
    assert label in words(drawn(log_of("bare"), only=[name])[name].figure).split("\n")


# --- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_headline_that_does_not_hold_gives_way_to_what_is_so(lang):
    labels, curve = Labels(lang), {"cell": "lstm", "start": ""}
    claim = {"claim": "largest_grows", "value": 0.9, "expected": "> 1", "curve": curve, "first": 1.0, "last": 0.9}
    claim |= {"grown": 0, "total": 2}
    grown, shrunk = labels.claim(claim | {"holds": True}), labels.claim(claim | {"holds": False})
    assert grown != shrunk
    assert texts(lang)["claim.fails"].split("{")[0] not in shrunk
    other = {"claim": "spectrum_at_last", "value": 2.0, "sigma": 1.0, "curve": curve}
    other |= {"expected": "<= 1", "holds": False}
    assert texts(lang)["claim.fails"].split("{")[0] in labels.claim(other)


def test_sentences_of_what_is_so_instead_use_the_numbers_of_their_claims():
    """They are the words of another sentence on the same claim, so they need no other values."""
    for lang in ("en", "zh"):
        known = texts(lang)
        for key in (key for key in known if key.startswith("claim.") and key.endswith("_otherwise")):
            claim = known[key.removesuffix("_otherwise")]
            fields = [set(re.findall(r"(?<!\{)\{(\w+)\}", text)) for text in (known[key], claim)]
            assert fields[0] <= fields[1] | {"value", "curve", "threshold"}, key


def test_headlines_use_the_numbers_of_their_claims():
    for lang in ("en", "zh"):
        known = texts(lang)
        for key in (key for key in known if key.startswith("headline.")):
            name = key.removeprefix("headline.")
            claim = known.get(f"claim.{name}") or known[f"claim.{name.removesuffix('_all')}"]  # where it is of all
            fields = [set(re.findall(r"(?<!\{)\{(\w+)\}", text)) for text in (known[key], claim)]
            assert fields[0] <= fields[1] | {"value"}, key
