"""Animations: what each frame shows, the files, the player, the command; runs of every state, numbers of every kind."""

import base64
import itertools
import json
import re
import subprocess
import sys
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from figure_checks import THEME, check_contrast, words
from PIL import Image
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow import analysis, figures
from gradflow.commands import animate
from gradflow.figures.animation import FRAMES, _indexed, _packed, _palette, frame_iterations
from gradflow.figures.catalogue import texts
from gradflow.figures.theme import LANGUAGES
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter

SMALL = Planted(steps=12, iterations=31)  # recorded at 0, 10, 20, 30; spectra at 0, 20, 30


@pytest.fixture
def run_of(tmp_path: Path):
    def write(name: str = "run", planted: Planted = SMALL, **config):
        return gf.open_run(write_run(tmp_path / name, config_of(**config), planted))

    return write


def animated(name: str, source, **options) -> figures.Animation:
    entry = figures.ANIMATIONS[name]
    data = entry.analyse(source)
    return entry.animate(data, claims=entry.check(data), **({"context": "paper"} | options))


# --- every animation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_every_animation_is_written_in_both_languages(name, lang, run_of, tmp_path: Path):
    entry = figures.ANIMATIONS[name]
    data = entry.analyse(run_of())
    claims = entry.check(data)
    animation = entry.animate(data, claims=claims, lang=lang, context="paper", theme=THEME[lang])
    check_contrast(animation.figure)
    seen: list[int] = []
    files = figures.save_animation(
        animation,
        tmp_path / "new" / name,
        data=data,
        claims=claims,
        progress=lambda n: (seen.append(i) or i for i in n),
    )
    gif, page, csv, checks = files
    assert seen == list(range(len(animation)))
    with Image.open(gif) as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (len(animation), (704, 396), 0)
    text = page.read_text(encoding="utf-8")
    assert text.count('"data:image/png;base64,') == len(animation) + 1
    assert texts(lang)["player.play"] in text
    assert f"color-scheme: {THEME[lang]}" in text
    assert json.loads(re.search(r"const iterations = (.*);", text)[1]) == list(animation.iterations)
    assert len(pd.read_csv(csv)) == len(data)
    assert [c["claim"] for c in json.loads(checks.read_text(encoding="utf-8"))] == [c["claim"] for c in claims]


@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_the_page_needs_no_network_and_equal_animations_are_equal_files(name, run_of, tmp_path: Path):
    run, written = run_of(), []
    for folder in ("a", "b"):
        files = figures.save_animation(animated(name, run, lang="zh"), tmp_path / folder / name)
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
    page = re.sub(rb'"data:image/png;base64,[^"]*"|url[(]data:font/woff;base64,[^)]*[)]', b'""', written[0][1])
    assert not re.search(rb"https?:|//[a-z]|<link|@import|<script src|url[(]", page)


@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_what_stands_still_is_the_same_in_every_frame(name, run_of):
    animation = animated(name, run_of())
    before = dict(mpl.rcParams)
    first, *_, last = [np.asarray(frame) for frame in animation.frames([0, 1, 2])]
    assert dict(mpl.rcParams) == before
    assert (first != last).any(axis=-1).mean() < 0.25
    assert (first[-40:] == last[-40:]).all(), "the caption moves"
    again = [np.asarray(frame) for frame in animation.frames([2, 0])]
    np.testing.assert_array_equal(again, [last, first])


def test_what_moves_has_the_fonts_of_the_figure(run_of, monkeypatch):
    asked, find = set(), mpl.font_manager.fontManager.findfont
    animation = animated("weight_spectrum", run_of(), lang="zh")

    def found(prop, *given, **more):
        asked.add(prop.get_family()[0] if hasattr(prop, "get_family") else str(prop))
        return find(prop, *given, **more)

    monkeypatch.setattr("matplotlib._mathtext.findfont", found)
    mpl.mathtext.MathTextParser._parse_cached.cache_clear()
    list(animation.frames([0, 1]))
    assert asked
    assert "cursive" not in asked


@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_nothing_is_cut_off_in_any_frame(name, run_of):
    runs = [
        run_of(f"{cell}{init}", cell=cell, init=init) for cell in ("rnn", "gru") for init in ("default", "remember")
    ]
    for lang in LANGUAGES:
        animation = animated(name, runs, lang=lang)
        for frame in animation.frames(range(len(animation))):
            pixels = np.asarray(frame)
            for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
                assert (edge == 255).all()


@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_values_that_are_not_finite_are_gaps(name, run_of):
    data = figures.ANIMATIONS[name].analyse(run_of())
    columns = [c for c in ("value", "singular_value", "eigenvalue_re", "eigenvalue_im", "loss") if c in data]
    for first_broken in (0.5, 0.0):
        broken = data.copy()
        rows = data.index >= first_broken * len(data)
        broken.loc[rows, columns] = np.nan
        broken.loc[rows & (data.index % 5 == 0), columns] = np.inf
        animation = figures.ANIMATIONS[name].animate(broken, context="paper")
        assert len(list(animation.frames(range(len(animation))))) == len(animation)


@pytest.mark.parametrize(
    ("state", "name"),
    [*zip(["running", "diverged", "interrupted", "failed"], itertools.cycle(figures.ANIMATIONS), strict=False)],
)
def test_runs_in_every_state_move(name, state, run_of):
    assert list(animated(name, run_of(state, Planted(steps=6, iterations=25, state=state))).iterations)[-1] == 24


@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_one_record_does_not_move(name, run_of):
    message = (
        "iteration: expected at least two recorded iterations, got 1; record more often: make record.every smaller, or "
        "for weight_spectrum record.spectrum_every"
    )
    with pytest.raises(ValueError, match=message):
        animated(name, run_of(planted=Planted(steps=4, iterations=1)))


@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_what_does_not_fit_is_an_error(name, run_of):
    starts = ("default", "remember", "identity", "sparse", "normal")
    five = [run_of(init, init=init) for init in starts]
    with pytest.raises(ValueError, match=r"at most 4 panels side by side, got 5 \(RNN, RNN, .*\); choose a run, or up"):
        animated(name, five)
    alike = [run_of(f"names{n}", names=n) for n in (4, 8)]
    with pytest.raises(ValueError, match="one network per cell, start and clipping, got some that differ in names_per"):
        figures.ANIMATIONS[name].animate(figures.ANIMATIONS[name].analyse(alike))


@pytest.mark.parametrize("name", figures.ANIMATIONS)
def test_clippings_stand_side_by_side(name, run_of):
    said = words(animated(name, [run_of(clip, clip=clip) for clip in ("none", "norm")]).figure)
    assert "no clipping" in said
    assert "norm clipped" in said


def test_the_page_puts_together_the_frames(run_of, tmp_path: Path):
    animation = animated("weight_spectrum", run_of())
    gif, page = figures.save_animation(animation, tmp_path / "spectrum")
    encoded = re.findall(r'"data:image/png;base64,([^"]*)"', page.read_text(encoding="utf-8"))
    still, *over = [Image.open(BytesIO(base64.b64decode(text))).convert("RGBA") for text in encoded]
    with Image.open(gif) as image:
        for number, layer in enumerate(over):
            image.seek(number)
            np.testing.assert_array_equal(Image.alpha_composite(still, layer), image.convert("RGBA"))


def test_a_notebook_shows_a_player(run_of):
    shown = animated("gradient_heatmap", run_of())._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert shown.count("data:image/png") == 1 + 4


# --- frames and colours ----------------------------------------------------------------------------------------------


def test_frames_are_spread_evenly_with_both_ends():
    assert frame_iterations(pd.Series([0, 10, 20, 20])) == [0, 10, 20]
    chosen = frame_iterations(pd.Series(range(0, 5001, 10)))
    assert (len(chosen), chosen[0], chosen[-1]) == (FRAMES, 0, 5000)
    assert set(np.diff(chosen)) <= {100, 110}


def test_frequent_colours_are_exact_and_rare_ones_near():
    shades = np.arange(256, dtype=np.uint8)
    rare = np.stack([shades, 255 - shades, shades // 2], axis=-1)
    pixels = np.full((64, 256, 3), 255, np.uint8)
    pixels[0] = rare
    image = Image.fromarray(pixels)
    palette = _palette([image, image, image])
    assert len(palette) <= 255
    shown = np.asarray(_indexed(image, palette).convert("RGB")).astype(int)
    assert (shown[1:] == 255).all()
    assert np.abs(shown[0] - rare).max() <= 4
    assert _packed(image)[1, 1] == 0xFFFFFF


# --- the heat map ----------------------------------------------------------------------------------------------------


def test_the_heat_map_is_uncovered_column_by_column(run_of):
    run = run_of()
    animation = animated("gradient_heatmap", run)
    image, profile, loss = animation.figure.axes[:3]
    (cover,) = [patch for patch in image.patches if patch.get_facecolor()[:3] == (1, 1, 1)]
    now, said = next(line for line in loss.lines if line.get_marker() == "o"), loss.get_title(loc="right")
    for number, (iteration, edge) in enumerate([(0, 5), (10, 15), (20, 25), (30, image.get_xlim()[1])]):
        animation.show(number)
        assert f"Training iteration {iteration}" in words(animation.figure)
        assert cover.get_x() == edge
        np.testing.assert_allclose(profile.lines[1].get_ydata(), 0.57 ** np.arange(12), rtol=1e-5)
        assert now.get_xdata().tolist() == [iteration]
        assert now.get_ydata()[0] == pytest.approx(run.scalars["loss"][iteration])
    assert said != loss.get_title(loc="right") == f"loss {run.scalars['loss'][30]:.3g}"
    assert profile.get_ylim()[0] < 0.57**11


def test_zeros_and_nan_are_grey_and_named(run_of):
    data = analysis.gradient_heatmap(run_of())
    lost = (data["quantity"] == "gradient") & (data["lag"] == 5)
    data.loc[lost, "value"] = -np.inf
    assert "Grey: gradient exactly zero." in words(figures.animate_gradient_heatmap(data).figure)
    data.loc[lost & (data["iteration"] == 10), "value"] = np.nan
    animation = figures.animate_gradient_heatmap(data)
    assert "Grey: zero, NaN or infinite." in words(animation.figure)
    assert np.ma.count(animation.figure.axes[0].collections[1].get_array()) == 4
    assert np.isnan(animation.figure.axes[1].lines[1].get_ydata()[5])


def test_a_run_that_ended_before_the_others_says_so(run_of):
    runs = [run_of("long"), run_of("short", Planted(steps=12, iterations=15, state="diverged"), cell="lstm")]
    animation = animated("gradient_heatmap", runs)
    animation.show(len(animation) - 1)
    assert "recorded until iteration 14" in words(animation.figure)
    animation.show(1)
    assert "recorded until" not in words(animation.figure)


def test_a_log_without_losses_moves_too(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, config=asdict(config_of()), quantities=labels(["log_relative_gradient"]))
    for iteration in (0, 1):
        rows = {f"log_relative_gradient_{s}": -np.arange(3.0) for s in ("mean", "q10", "q50", "q90")}
        rows |= {"log_relative_gradient_zeros": 0, "log_relative_gradient_non_finite": 0, "valid": 8}
        rows |= {"module": "recurrent", "call": 0, "layer": 0, "direction": 0, "lag": np.arange(3)}
        writer.append("lag", iteration, rows)
        eigen = {"index": np.arange(2), "singular_value": [1.0, 0.5], "eigenvalue_re": [0.5, 0.1], "eigenvalue_im": 0.0}
        writer.append("spectrum", iteration, eigen | {"module": "recurrent", "layer": 0, "direction": 0, "gate": "h"})
    writer.close()
    for name in figures.ANIMATIONS:
        animation = animated(name, gf.open_run(tmp_path))
        animation.show(1)
        assert "NaN" not in words(animation.figure)


# --- the spectrum ----------------------------------------------------------------------------------------------------


def test_the_spectrum_over_training_has_every_record_and_the_loss(run_of):
    run = run_of()
    data = analysis.weight_spectrum_over_training(run)
    ends = analysis.weight_spectrum(run)
    assert data.groupby("when", sort=False)["iteration"].unique().map(list).to_dict() == {
        "before": [0],
        "during": [20],
        "after": [30],
    }
    pd.testing.assert_frame_equal(data[data["when"] != "during"][ends.columns].reset_index(drop=True), ends)
    assert data["loss"].iloc[-1] == pytest.approx(run.scalars["loss"][30])
    assert analysis.weight_spectrum_over_training_claims(data) == analysis.weight_spectrum_claims(ends)


def test_one_run_has_all_gates_and_several_the_candidate(run_of):
    lstm = [run_of(init, cell="lstm", init=init) for init in ("default", "remember")]
    assert set(analysis.weight_spectrum_over_training(lstm[0])["gate"]) == set("ifgo")
    assert set(analysis.weight_spectrum_over_training(lstm)["gate"]) == {"g"}


def test_eigenvalues_and_singular_values_follow_the_records(run_of):
    data = analysis.weight_spectrum_over_training(run_of())
    animation = figures.animate_weight_spectrum(data, context="paper")
    values, plane = animation.figure.axes
    for number, iteration in enumerate([0, 20, 30]):
        animation.show(number)
        own = data[data["iteration"] == iteration]
        np.testing.assert_allclose(values.lines[-1].get_ydata(), own["singular_value"])
        np.testing.assert_allclose(plane.lines[1].get_xdata(), own["eigenvalue_re"])
        said = words(animation.figure)
        for text in (
            rf"$\sigma_1$ = {1.1 * (1 + iteration / 100):.3g}",
            rf"$\rho$ = {0.66 * (1 + iteration / 100):.3g}",
        ):
            assert text in said
    np.testing.assert_allclose(plane.lines[0].get_xdata(), data.loc[data["iteration"] == 0, "eigenvalue_re"])


def test_eigenvalues_far_out_are_squares_at_the_edge(run_of):
    data = analysis.weight_spectrum_over_training(run_of())
    data.loc[(data["iteration"] == 20) & (data["index"] == 0), ["eigenvalue_re", "eigenvalue_im"]] = [-8.0, 4.0]
    animation = figures.animate_weight_spectrum(data, context="paper")
    (squares,) = [line for line in animation.figure.axes[1].lines if line.get_marker() == "s"]
    found = []
    for number in range(3):
        animation.show(number)
        found.append(squares.get_xydata().tolist())
    assert found == [[], [[-2, 1]], []]
    assert "Squares at the edge" in words(animation.figure)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_draws_runs_that_a_pattern_finds(run_of, tmp_path: Path, monkeypatch, capsys):
    for cell in ("rnn", "lstm"):
        for clip in ("none", "norm"):
            run_of(f"cell={cell},clip={clip}", Planted(steps=6, iterations=12), cell=cell, clip=clip)
    monkeypatch.setattr(
        sys,
        "argv",
        ["animate.py", f"run={tmp_path}/*clip=norm*", "figures=weight_spectrum", "lang=zh", "context=paper"],
    )
    animate.main()
    path = tmp_path / "figures" / "zh" / "animated_weight_spectrum-clip=norm"
    assert capsys.readouterr().out == f"{path} (gif, html, csv, json)\n"
    assert set(pd.read_csv(f"{path}.csv")["cell"]) == {"rnn", "lstm"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figures=heatmap"], "figures: expected names out of gradient_heatmap, weight_spectrum, got heatmap"),
        (["lang=de"], "lang: expected one of en, zh, got de"),
        (["run=nowhere"], "expected a folder with runs below it"),
        (["run=no*where"], r"run: expected a pattern that folders match, got no\*where; none below \. does"),
        (["figures=weight_spectrum"], "iteration: expected at least two recorded iterations, got 1"),
        (
            ["run=."],
            r"expected runs of one task and size, got 2 kinds \(names_per_sequence=[18]; names_per_sequence=[18]\)",
        ),
        (["run=empty"], "lag: expected recorded rows of the top layer, direction 0, got none in any run"),
    ],
)
def test_the_command_says_what_it_cannot_draw(arguments, message, run_of, tmp_path: Path, monkeypatch):
    run_of("run", Planted(steps=4, iterations=1))
    run_of("empty", Planted(iterations=0, state="failed"), names=8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["animate.py", *([] if arguments[0].startswith("run=") else ["run"]), *arguments])
    with pytest.raises(SystemExit, match=message):
        animate.main()


def test_animating_loads_no_torch():
    code = (
        "import sys, gradflow.commands.animate, gradflow.figures; sys.exit(bool({'torch', 'hydra'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
