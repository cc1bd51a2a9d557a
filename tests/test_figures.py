"""Figures: every one in both languages and all formats, with warnings as errors; style, labels, font, saving."""

import io
import itertools
import json
import logging
import re
import string
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from figure_checks import THEME, check_legible, check_written, words
from fontTools.ttLib import TTFont
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from synthetic_runs import Planted, config_of, write_run, write_sweep

import gradflow as gf
from gradflow import analysis, figures
from gradflow.figures.build_font import FAMILY, FONTS, FORMULAS, IN_FORMULAS, NAME_CHARACTERS, stem
from gradflow.figures.catalogue import Labels, number, texts, wrap
from gradflow.figures.gallery import GALLERY
from gradflow.figures.heat import ratio_colours
from gradflow.figures.layout import spread
from gradflow.figures.output import csv_of
from gradflow.figures.theme import CHINESE, CONTEXTS, LANGUAGES, LOOKS

SMALL = Planted(steps=12, iterations=30)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder, inits=("default", "remember"), names=8, steps=12, iterations=30)
    return gf.open_sweep(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    return gf.open_run(write_run(tmp_path_factory.mktemp("run"), config_of(clip="norm"), SMALL))


NEEDS = {
    "lstm_cell_highway": {"cell": "lstm"},
    "gate_timescales": {"cell": "lstm"},
    "cell_diagram": {"cell": "gru"},
    "stacked_lattice": {"layers": 3},
    "bidirectional_profile": {"bidirectional": True},
}
"""What a run must have to support a figure."""


@pytest.fixture(scope="module")
def run_for(tmp_path_factory: pytest.TempPathFactory):
    """A run that supports the figure of this name."""

    @cache
    def find(name: str):
        config = config_of(clip="norm", **NEEDS.get(name, {}))
        return gf.open_run(write_run(tmp_path_factory.mktemp("run"), config, SMALL))

    return find


def draw(name: str, source, **options) -> Figure:
    data = GALLERY[name].analyse(source)
    return GALLERY[name].plot(data, claims=GALLERY[name].check(data), **options)


# --- every figure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", GALLERY)
def test_every_figure_is_written_in_both_languages_and_all_formats(name, lang, run_for, tmp_path: Path):
    data, before = GALLERY[name].analyse(run_for(name)), dict(mpl.rcParams)
    copy, claims = data.copy(deep=True), GALLERY[name].check(data)
    figure = GALLERY[name].plot(data, claims=claims, lang=lang, context="paper", theme=THEME[lang])
    pd.testing.assert_frame_equal(data, copy)
    assert dict(mpl.rcParams) == before
    check_written(figure, tmp_path / "new" / name, data, claims, lang)


CROWD = [
    *({"cell": "lstm", "forget_bias": bias} for bias in (0.0, 1.0, 3.0)),
    *({"cell": cell} for cell in ("rnn", "linear", "gru", "gru_before")),
    *({"cell": cell, "init": "remember"} for cell in ("rnn", "rnn_relu", "lstm", "gru_before")),
]
"""More networks than fit side by side, some with long names."""


@pytest.fixture(scope="module")
def crowd_for(tmp_path_factory: pytest.TempPathFactory):
    """Runs of CROWD that support the figure of this name, with clipping if it shows several kinds."""

    @cache
    def written(networks: int, clips: tuple[str, ...], **needs):
        folder = tmp_path_factory.mktemp("crowd")
        planted = replace(SMALL, accuracy=0.7)
        for i, (network, clip) in enumerate(itertools.product(CROWD[:networks], clips)):
            write_run(folder / str(i), config_of(**network, **needs, clip=clip, names=8), planted)
        return gf.open_sweep(folder).kept()

    def find(name: str):
        needs = {key: value for key, value in NEEDS.get(name, {}).items() if key != "cell"}
        one = "clip" in GALLERY[name].apart[:1] or name in NEEDS
        networks = 1 if "cell" in GALLERY[name].apart else len(CROWD)  # a figure of one network
        return written(networks, ("none",) if one else ("none", "norm"), **needs)

    return find


@pytest.mark.parametrize("lang", ["en", pytest.param("zh", marks=pytest.mark.slow)])  # words need more room
@pytest.mark.parametrize("name", GALLERY)
def test_a_crowd_is_legible(name, lang, crowd_for):
    check_legible(draw(name, crowd_for(name), lang=lang))


@pytest.mark.parametrize("name", ["gradient_by_lag", "comparison"])
def test_sixteen_runs_are_spread_over_panels(name, sweep):
    figure = draw(name, sweep, context="paper")
    curves = [len([line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) > 9]) for axes in figure.axes]
    assert max(curves) <= 8
    assert "default initialisation" in words(figure)
    assert "b_f=3" in words(figure)


@pytest.mark.parametrize("first_broken", [0.5, 0.0])
@pytest.mark.parametrize("name", GALLERY)
def test_figures_survive_values_that_are_not_finite(name, first_broken, run_for):
    data = GALLERY[name].analyse(run_for(name))
    values = ["value", "before", "after", "loss", "median", "low", "high", "factor", "share", "within_90", "whole"]
    values += ["log_low", "log_median", "log_high", "singular_value", "eigenvalue_re", "eigenvalue_im", "per_layer"]
    values = [c for c in values if c in data]
    broken = data.index >= first_broken * len(data)
    data.loc[broken, values] = np.nan
    data.loc[broken & (data.index % 5 == 0), values] = np.inf
    GALLERY[name].plot(data, claims=GALLERY[name].check(data), context="paper")


def test_gradient_by_lag_prints_factor_and_counts(tmp_path: Path):
    run = gf.open_run(write_run(tmp_path / "run", config_of(), Planted(steps=4, iterations=1)))
    data = analysis.gradient_by_lag(run).assign(zeros=2, non_finite=1)
    said = words(figures.plot_gradient_by_lag(data, context="paper"))
    for text in ("RNN\n×0.57 / step", "8 gradients exactly zero", "4 NaN or infinite"):
        assert text in said


@pytest.mark.parametrize(("broad", "told"), [(2.0, True), (1.02, False)])
def test_a_band_that_hides_behind_its_line_is_neither_drawn_nor_told_of(broad, told, tmp_path: Path):
    data = analysis.gradient_by_lag(gf.open_run(write_run(tmp_path / "run", config_of(), Planted())))
    data = data.assign(low=data["median"] / broad**5, high=data["median"] * broad**5)
    figure = figures.plot_gradient_by_lag(data, context="paper")
    assert ("band: 10–90" in words(figure)) is told
    assert [band.get_visible() for band in figure.axes[0].collections] == [told]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", ["gradient_by_lag", "gradient_heatmap"])
def test_figures_by_lag_say_that_the_loss_is_that_of_single_steps(name, lang, tmp_path: Path):
    """In the label of the axis and in the caption; beside runs of the whole loss they name both."""
    new = gf.open_run(write_run(tmp_path / "new", config_of(), replace(SMALL, factor=1.0, anchored=0.6)))
    old = gf.open_run(write_run(tmp_path / "old", config_of("gru"), SMALL))
    keys = ("axis.anchored_gradient", "axis.relative_gradient", "note.anchored")
    label, whole, note = (texts(lang)[key] for key in keys)
    for source, kinds in ((new, {label}), (old, {whole}), ([new, old], {label, whole})):
        figure = draw(name, source, lang=lang)
        check_legible(figure)
        said = words(figure).replace("\n", "")
        assert {text for text in (label, whole) if text.replace("\n", "") in said} == kinds
        assert (note[:20].replace(" ", "") in said.replace(" ", "")) == (label in kinds)


def test_a_gradient_that_is_relative_to_an_earlier_step_is_named(run):
    data = analysis.gradient_by_lag(run)
    assert texts("en")["note.reached"][-20:] not in words(figures.plot_gradient_by_lag(data, context="paper"))
    data = data.assign(zeros=np.where(data["lag"] == 0, 2, 0))
    assert texts("en")["note.reached"][-20:] in words(figures.plot_gradient_by_lag(data, context="paper"))


BOTH = ("none", "norm")
LSTMS = [{"cell": "lstm", "forget_bias": bias} for bias in (0.0, 1.0, 3.0)]


def of_lstms(tmp_path: Path, clips=BOTH):
    """Runs of an LSTM from three biases of its forget gate."""
    for i, (network, clip) in enumerate(itertools.product(LSTMS, clips)):
        write_run(tmp_path / str(i), config_of(**network, clip=clip), SMALL)
    return gf.open_sweep(tmp_path)


def test_starts_of_one_cell_have_panels_of_their_own(tmp_path: Path):
    sweep = of_lstms(tmp_path, clips=("none",))
    for name in ("gradient_heatmap", "singular_values_over_training", "weight_spectrum", "clipping_effect"):
        titles = [axes.get_title() for axes in draw(name, sweep, context="paper").axes if axes.get_title()]
        assert [f"b_f={bias}" in title for bias, title in zip("013", titles, strict=True)] == [True] * 3, name


def test_losses_of_one_cell_are_told_apart_by_the_marks_of_their_rows(tmp_path: Path):
    results, *losses = draw("comparison", of_lstms(tmp_path), context="paper").axes
    marks = []
    for axes, networks in zip(losses, (1, 2), strict=True):  # a set gate is no default
        curves = [line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) > 9]
        looks = {(line.get_marker(), line.get_linestyle(), line.get_markerfacecolor()) for line in curves}
        assert len(looks) == len(curves) == 2 * networks
        marks.append({mark for mark, _, _ in looks})
    assert [len(own) for own in marks] == [1, 2]
    rows = {line.get_marker() for line in results.lines if line.get_marker() not in ("None", "")}
    assert rows == set.union(*marks)


def test_tasks_that_ask_for_values_are_compared_by_their_loss(tmp_path: Path):
    data = analysis.comparison(of_lstms(tmp_path, clips=("none",)))
    final = data["quantity"] == "test_accuracy"
    data.loc[final, "quantity"], data["chance_loss"] = "test_loss", 1 / 6
    data.loc[final, "value"], data.loc[final, ["low", "high"]] = [0.01, 0.16, 7.5e9], np.nan
    figure = figures.plot_comparison(data, claims=analysis.comparison_claims(data), context="paper")
    said = words(figure).replace("\n", " ")
    assert "1 of 3 learned better than a constant answer (0.17): LSTM, $b_f=0$" in said
    assert figure.axes[0].get_xlabel() == "test loss"
    assert figure.axes[0].get_xlim() == pytest.approx((0, 1 / 3))
    assert "$7.5{\\times}10^{9}$ →" in said
    assert "%" not in "".join(tick.get_text() for tick in figure.axes[0].get_xticklabels())


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_of_clipping_says_what_there_is(tmp_path: Path):
    for name, clips, spike in (("both", BOTH, 30.0), ("calm", BOTH, 0.0), ("one", ("none",), 0.0)):
        for clip in clips:
            write_run(tmp_path / name / clip, config_of(clip=clip), replace(SMALL, spike=spike, threshold=5.0))
    said = {name: legend(draw("clipping_effect", gf.open_sweep(tmp_path / name))) for name in ("both", "calm", "one")}
    assert said["both"][:3] == ["without clipping", "before clipping", "after clipping"]
    assert said["calm"][:2] == ["without clipping", "with clipping (never acted)"]
    assert said["one"] == ["without clipping"]
    alone = draw("clipping_effect", gf.open_run(tmp_path / "both" / "norm"))
    assert legend(alone)[:2] == ["before clipping", "after clipping"]
    assert "before it" in words(alone)


def test_losses_that_explode_flatten_no_others(run):
    data = analysis.clipping_effect(run)
    others = analysis.clipping_effect(run).assign(clip="none")
    others.loc[others["iteration"] > 5, ["loss", "loss_trend"]] = 1e10
    figure = figures.plot_clipping_effect(pd.concat([data, others]), context="paper")
    assert figure.axes[1].get_ylim()[1] < 2
    assert "up to $1.0{\\times}10^{10}$ ↑" in words(figure)
    small = data.assign(loss_trend=data["loss_trend"] * 0.7 ** data["iteration"])
    assert figures.plot_clipping_effect(small, context="paper").axes[1].get_yscale() == "log"


@pytest.mark.parametrize("name", ["gradient_by_lag", "temporal_contributions"])
def test_a_band_is_named_where_it_is_seen(name, run):
    data = GALLERY[name].analyse(run)
    low, middle, high = ("low", "median", "high") if "low" in data else ("log_low", "log_median", "log_high")
    thin = data.assign(**{low: data[middle], high: data[middle]})
    spread = data[middle].abs() / 2
    wide = data.assign(**{low: data[middle] - spread, high: data[middle] + spread})
    for given, there in ((thin, False), (wide, True)):
        assert ("band:" in words(GALLERY[name].plot(given, context="paper"))) == there


def test_heatmap_shows_zero_gradients_grey_and_keeps_the_last_step_on_top(run):
    data = analysis.gradient_heatmap(run)
    data.loc[(data["quantity"] == "gradient") & (data["lag"] == 5), "value"] = -np.inf
    figure = figures.plot_gradient_heatmap(data, context="paper")
    assert "Grey" in words(figure)
    image, grey = figure.axes[0].collections[:2]
    assert np.ma.count(grey.get_array()) == np.ma.count_masked(image.get_array()) == 4
    assert figure.axes[0].get_ylim() == (11.5, -0.5)


def test_clipping_effect_marks_what_is_not_finite_on_the_top_edge(run):
    data = analysis.clipping_effect(run)
    data.loc[data["iteration"] == 7, ["after", "non_finite"]] = [np.nan, 1]
    figure = figures.plot_clipping_effect(data, context="paper")
    triangles = [line for line in figure.axes[0].lines if line.get_marker() == "^"]
    assert [line.get_xdata().tolist() for line in triangles] == [[7]]
    assert "1 NaN or infinite" in words(figure)


def test_clipping_effect_refuses_several_kinds_of_clipping(run):
    data = analysis.clipping_effect(run)
    with pytest.raises(ValueError, match=r"data: expected one kind of clipping beside none, got \['norm', 'value'\]"):
        figures.plot_clipping_effect(pd.concat([data, data.assign(clip="value")]))


def test_comparison_says_which_runs_did_not_finish(run):
    data = analysis.comparison(run)
    data.loc[data["quantity"] == "test_accuracy", "status"] = "diverged"
    assert "diverged" in words(figures.plot_comparison(data, context="paper"))
    assert "发散" in words(figures.plot_comparison(data, context="paper", lang="zh"))


def test_a_headline_that_does_not_hold_says_what_is_so(tmp_path: Path):
    run = gf.open_run(write_run(tmp_path / "run", config_of(), Planted(factor=1.2, iterations=1)))
    said = words(draw("gradient_by_lag", run, context="paper")).replace("\n", " ")
    assert "At default initialisation each step back multiplies the gradient by 1.2" in said
    assert "fades" not in said


def test_a_headline_tells_a_change_apart_and_has_no_full_stop():
    moved = {
        "claim": "spectrum_moves",
        "value": 0.4531,
        "last": 0.4534,
        "sigma": 1.14,
        "last_sigma": 1.31,
        "holds": True,
    }
    assert Labels("en").headline(moved).endswith("from 1.1 to 1.3, the spectral radius from 0.4531 to 0.4534")
    still = {"claim": "no_norm_stands_out", "value": 1.6, "highest": 0.61, "middle": 0.39, "holds": True}
    assert Labels("zh").headline(still).endswith("1.6 倍")
    assert Labels("zh").claim(still).endswith("1.6 倍。")


@pytest.mark.parametrize("name", ["comparison", "gradient_heatmap", "cell_diagram"])
def test_the_layout_is_worked_out_once_whatever_the_formats(name, run_for, tmp_path: Path, monkeypatch):
    figure = draw(name, run_for(name), context="paper")
    drawn = []
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: drawn.append(self.get_layout_engine()))
    figures.save(figure, tmp_path / "figure")
    assert drawn == [None, None, None], "each format is drawn once, without a layout engine"


# --- all at once -----------------------------------------------------------------------------------------------------


def test_draw_all_draws_what_the_log_supports_and_says_what_it_leaves_out(tmp_path: Path, monkeypatch, caplog):
    some = ("comparison", "gradient_by_lag", "stacked_lattice")
    monkeypatch.setattr("gradflow.figures.gallery.GALLERY", {name: GALLERY[name] for name in some})
    write_run(tmp_path / "runs" / "names", config_of(), Planted(steps=4, iterations=3))
    for clip in ("none", "norm"):
        write_run(tmp_path / "runs" / clip, config_of(names=8, clip=clip), Planted(iterations=0, state="failed"))
    with caplog.at_level(logging.INFO, "gradflow"):
        files = figures.draw_all(tmp_path / "runs", tmp_path / "out", context="paper")
    names, roll = "names_per_sequence=1", "names_per_sequence=8"
    assert [file.stem for file in files if file.suffix == ".png"] == [f"comparison-{names}", f"gradient_by_lag-{names}"]
    assert caplog.messages == [f"left out {roll}: no run has recorded anything (2 failed)"]
    assert len(files) == 5 * 2
    assert all(file.is_file() for file in files)


def test_figures_of_other_networks_are_missed_only_by_those_who_ask_for_them(run, tmp_path: Path, monkeypatch, caplog):
    wanted = ["stacked_lattice", "bidirectional_profile", "gate_timescales", "lstm_cell_highway"]
    monkeypatch.setattr("gradflow.figures.gallery.GALLERY", {name: GALLERY[name] for name in wanted})
    with caplog.at_level(logging.INFO, "gradflow"):
        assert figures.draw_all(run.path, tmp_path) == []
        assert caplog.messages == []
        assert figures.draw_all(run.path, tmp_path, only=wanted) == []
    for line, name, reason in zip(caplog.messages, wanted, ("layer", "direction", "gates", "cell"), strict=True):
        assert line.startswith(f"left out {name}: {reason}: expected")


def test_draw_all_takes_a_single_run_and_keeps_clippings_apart(sweep, tmp_path: Path, monkeypatch):
    quick = {name: entry._replace(plot=lambda data, **_: Figure()) for name, entry in GALLERY.items()}
    monkeypatch.setattr("gradflow.figures.gallery.GALLERY", quick)
    monkeypatch.setattr("gradflow.figures.gallery.save", lambda figure, path, **_: [path])
    lacks = ("stacked_lattice", "bidirectional_profile")  # one layer, one direction
    one_task = [name for name, entry in GALLERY.items() if not entry.across and name not in lacks]
    assert [file.name for file in figures.draw_all(sweep.members[0].path, tmp_path)] == one_task
    assert [file.name for file in figures.draw_all(sweep.path, tmp_path)] == [
        "comparison",
        "gradient_by_lag",
        "gradient_heatmap-clip=none",
        "gradient_heatmap-clip=norm",
        "clipping_effect-init=default",
        "clipping_effect-init=remember",
        "singular_values_over_training-init=default",
        "singular_values_over_training-init=remember",
        "jacobian_norm_over_training-clip=none",
        "jacobian_norm_over_training-clip=norm",
        "weight_spectrum-init=default",
        "weight_spectrum-init=remember",
        "temporal_contributions-init=default",
        "temporal_contributions-init=remember",
        "lstm_cell_highway",
        "gate_timescales-clip=none",
        "gate_timescales-clip=norm",
        *(
            f"cell_diagram-cell={cell},start={start}"
            for cell, bias in (("gru", "b_z"), ("lstm", "b_f"))
            for start in ("default", f"{bias}=3")
        ),
    ]


def test_each_kind_of_clipping_is_drawn_beside_the_runs_without(tmp_path: Path, monkeypatch):
    clipping = {"clipping_effect": GALLERY["clipping_effect"]}
    monkeypatch.setattr("gradflow.figures.gallery.GALLERY", clipping)
    for clip in ("none", "norm", "value"):
        write_run(tmp_path / "runs" / clip, config_of(clip=clip), Planted(steps=4, iterations=3))
    files = figures.draw_all(tmp_path / "runs", tmp_path / "out", only=["clipping_effect"], context="paper")
    tables = {file.stem: set(pd.read_csv(file)["clip"]) for file in files if file.suffix == ".csv"}
    assert tables == {f"clipping_effect-clip={clip}": {"none", clip} for clip in ("norm", "value")}


# --- style, font, labels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("argument", "value"), [("lang", "de"), ("context", "poster")])
def test_unknown_language_or_context(argument, value):
    with (
        pytest.raises(ValueError, match=f"{argument}: expected one of .*, got '{value}'"),
        figures.style(**{argument: value}),
    ):
        pass


def test_contexts_scale_everything_alike(run):
    slide, paper = draw("comparison", run), draw("comparison", run, context="paper")
    np.testing.assert_allclose(paper.get_size_inches(), CONTEXTS["paper"] * slide.get_size_inches())
    sizes = [[text.get_fontsize() for text in f.findobj(mpl.text.Text) if text.get_text()] for f in (slide, paper)]
    np.testing.assert_allclose(np.sort(sizes[1]), CONTEXTS["paper"] * np.sort(sizes[0]))


def test_the_font_has_outlines_that_survive_in_a_pdf_and_the_characters_of_names():
    font = TTFont(FONTS / f"{stem(FAMILY)}.ttf")
    assert font.sfntVersion == "\x00\x01\x00\x00"
    assert "glyf" in font
    gb2312 = {
        bytes((row, cell)).decode("gb2312", errors="ignore") for row in range(0xB0, 0xF8) for cell in range(0xA1, 0xFF)
    }
    assert len(gb2312 - {""}) == 6763
    covered = {chr(code) for code in font.getBestCmap()}
    assert gb2312 - {""} <= covered
    assert set("玥喆×−‖σδ∞▲" + "".join(NAME_CHARACTERS.split())) <= covered
    assert font["name"].getDebugName(1) == CHINESE
    assert "Open Font License" in font["name"].getDebugName(13)
    assert "SIL OPEN FONT LICENSE Version 1.1" in (FONTS / "OFL.txt").read_text(encoding="utf-8")


def test_formulas_in_chinese_text_have_its_digits():
    font = TTFont(FONTS / f"{stem(FORMULAS)}.ttf")
    assert "glyf" in font
    assert set(font.getBestCmap()) == IN_FORMULAS
    assert font["name"].getDebugName(1) == FORMULAS
    with figures.style("zh"):
        assert (mpl.rcParams["mathtext.fontset"], mpl.rcParams["mathtext.rm"]) == ("custom", FORMULAS)


def test_a_chinese_figure_that_is_saved_by_hand_has_the_fonts_of_its_formulas(run, caplog):
    figure = draw("comparison", run, lang="zh", context="paper", title="$x_1 = 3$")
    assert mpl.rcParams["mathtext.rm"] != FORMULAS
    with caplog.at_level(logging.WARNING, "matplotlib"):
        figure.savefig(io.BytesIO(), format="pdf")
    assert caplog.records == []


def test_both_languages_have_the_same_texts_formulas_and_values():
    english, chinese = texts("en"), texts("zh")
    assert list(english) == [key for key in chinese if not key.startswith("reading.")]  # in English a docstring
    for key, text in english.items():
        for pattern in (r"\$[^$]*\$",):
            assert re.findall(pattern, text) == re.findall(pattern, chinese[key]), key
        if "$" not in text:
            fields = [{name for _, name, _, _ in string.Formatter().parse(t) if name} for t in (text, chinese[key])]
            assert fields[0] == fields[1], key


def test_english_never_mixes_chinese_and_formulas():
    chinese = re.compile(r"[\u2e80-\uffef]")
    assert not [key for key, text in texts("en").items() if "$" in text and chinese.search(text)]


def test_every_cell_and_initialisation_has_a_name_and_a_look():
    from gradflow.config import CellName, InitName

    for cell in CellName:
        assert cell in LOOKS
        assert f"cell.{cell}" in texts("en")
    for init in InitName:
        assert {f"init.{init}", f"facet.{init}"} <= texts("en").keys()


def test_every_text_is_used():
    code = "".join(path.read_text(encoding="utf-8") for path in FONTS.parent.rglob("*.py"))
    families = (
        "cell.",
        "init.",
        "facet.",
        "curve.",
        "clip.",
        "status.",
        "source.",
        "answer.",
        "task.",
        "place.",
        "claim.",
        "headline.",
    )
    families += ("build.", "diagram.", "deck.", "section.")
    assert [
        key for key in texts("en") if f'"{key}"' not in code and f"'{key}'" not in code and not key.startswith(families)
    ] == []


def test_numbers_and_lines():
    assert (number(0), number(0.1234), number(30854.4)) == ("0", "0.123", "30854")
    assert number(1.5e-6) == r"$1.5{\times}10^{-6}$"
    assert number(-np.inf) == "−∞"
    assert wrap("第一句（很长）。第二句", 10).split("\n") == ["第一句（很", "长）。第二", "句"]
    assert wrap("a formula $x = y$ stays", 10).split("\n") == ["a formula", "$x = y$", "stays"]
    assert wrap("GRU（先重置） 正交 $b_z = 3$", 16, words=True).split("\n") == ["GRU（先重置）", "正交 $b_z = 3$"]
    np.testing.assert_allclose(spread(np.array([0.0, 0.01, 0.9]), np.full(3, 0.1)), [0.05, 0.15, 0.9])


def test_a_chinese_line_is_broken_beside_terms_and_brackets_in_brackets_are_of_two_kinds():
    assert wrap("仍是单元导数，梯度消失", 10).split("\n") == ["仍是单元", "导数，", "梯度消失"]
    assert Labels("zh")("claim.best_accuracy", value=0.9, curve={"cell": "rnn", "start": "orthogonal"}).startswith(
        "最高测试准确率：0.9〔RNN（正交）〕，"
    )


def test_ratios_above_one_have_colours_of_their_own():
    both, below = LogNorm(1e-4, 1e2), LogNorm(1e-4, 1.0)
    viridis, reds = mpl.colormaps["viridis"], ratio_colours(both)
    np.testing.assert_allclose(reds(both(1e-4)), viridis(0.0))
    np.testing.assert_allclose(reds(both(0.98)), viridis(1.0), atol=0.03)
    red, green, _, _ = reds(both(1.2))
    assert red - green > 0.25
    assert ratio_colours(below)(below(0.99)) == viridis(255)
    red, green, _, _ = ratio_colours(below)(below(1.5))
    assert red - green > 0.25


# --- saving ----------------------------------------------------------------------------------------------------------


def test_missing_glyphs_are_errors_in_plain_text_and_beside_formulas(tmp_path: Path):
    for text in ("𓀀", "𓀀 $x$"):
        with figures.style():
            figure = Figure()
            figure.text(0.5, 0.5, text)
        with pytest.raises(ValueError, match="figure: expected characters of the bundled font"):
            figures.save(figure, tmp_path / "hieroglyph")


def test_names_appear_in_english_figures_too(tmp_path: Path):
    with figures.style("en"):
        figure = Figure()
        figure.text(0.5, 0.5, "王晓丽 李玥")
    assert [file.suffix for file in figures.save(figure, tmp_path / "names.v2")] == [".png", ".pdf", ".svg"]
    assert (tmp_path / "names.v2.png").is_file()


def test_equal_figures_are_equal_files(run, tmp_path: Path):
    written = []
    for folder in ("a", "b"):
        figure = draw("gradient_by_lag", run, lang="zh", context="paper")
        written.append([file.read_bytes() for file in figures.save(figure, tmp_path / folder / "figure")])
    assert written[0] == written[1]


def test_claims_that_are_not_finite_are_still_json(tmp_path: Path):
    claims = [{"claim": "c", "value": float("nan"), "expected": "> 0", "holds": False, "details": [float("inf")]}]
    *_, file = figures.save(Figure(), tmp_path / "figure", claims=claims)
    written = json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (written[0]["value"], written[0]["details"]) == ("nan", ["inf"])


def test_importing_figures_changes_no_settings_and_loads_no_torch():
    code = """
import matplotlib, sys
before = matplotlib.rcParams.copy()
import gradflow.figures
assert not {"torch", "seaborn", "matplotlib.pyplot"} & sys.modules.keys()
assert all(matplotlib.rcParams[name] == before[name] for name in before if name != "backend")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_analysis_loads_no_plotting():
    code = "import sys, gradflow.analysis; assert not {'torch', 'matplotlib', 'seaborn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("other", "joined"), [("rnn", False), ("gru", True)])
def test_one_curve_has_one_factor(other, joined):
    curve = {"cell": "rnn", "start": "default"}
    claim = {"claim": "default_fades", "value": 0.57, "expected": "< 1", "holds": True, "low": 0.57}
    claim |= {"iteration": "0", "high_curve": curve, "low_curve": curve | {"cell": other}}
    assert "×0.57 " in Labels("en").claim(claim)
    assert (" to ×0.57" in Labels("en").claim(claim)) == joined


def test_seeds_that_nobody_can_tell_apart_are_drawn_as_one_line(run):
    one = gf.analysis.clipping_effect(run)
    many = pd.concat([one.assign(seed=seed, typical=seed == 0) for seed in range(40)], ignore_index=True)
    lines = figures.plot_clipping_effect(many, context="paper").axes[0].lines
    behind, typical = (np.asarray(line.get_ydata(), float) for line in lines if len(line.get_xdata()) > 2)
    assert np.isnan(behind).sum() == 39
    assert np.array_equal(behind[: len(one)], one["after"])
    assert np.array_equal(typical, one["after"])


def test_a_figure_shows_itself_in_a_notebook(run):
    """Without pyplot, which alone would make IPython show a plain figure of matplotlib's."""
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    entry = GALLERY["gradient_by_lag"]
    made = figures.make(entry, entry.analyse(run), context="notebook")
    for shown in (made, made.figure):
        data, metadata = formatter.format(shown)
        assert data["image/png"].startswith(b"\x89PNG")
        assert metadata["image/png"] == {"width": 672, "height": 378}


def test_one_figure_is_drawn_by_its_name(run, tmp_path):
    made = figures.draw("clipping_effect", run, lang="zh", context="paper")
    entry = GALLERY["clipping_effect"]
    pd.testing.assert_frame_equal(made.data, entry.analyse(run))
    assert made.claims == entry.check(made.data) + analysis.proof_claims([run], made.data)
    assert {path.suffix for path in made.save(tmp_path / "figure")} == {".png", ".pdf", ".svg", ".csv", ".json"}


def test_who_asks_for_a_figure_in_another_way_is_told_how(run):
    with pytest.raises(
        ValueError, match="name: expected a known name, got 'gradient_by_lags'; did you mean gradient_by"
    ):
        figures.draw("gradient_by_lags", run)
    with pytest.raises(FileNotFoundError, match="path: expected a folder with runs below it"):
        figures.draw("gradient_by_lag", "outputs/nowhere")
    with pytest.raises(
        ValueError, match=r"expected the table of gradient_by_lag.*figures.draw\('gradient_by_lag', run\)"
    ):
        figures.plot_gradient_by_lag(run)
    with pytest.raises(
        ValueError, match=r"expected the table of tanh_derivative.*theory.EXACT\['tanh_derivative'\]\(\)"
    ):
        figures.plot_tanh_derivative(run)
    with pytest.raises(ValueError, match=r"data: expected the table of clipping_effect, got Run"):
        analysis.clipping_effect_claims(run)


def test_spreadsheets_know_that_chinese_in_a_csv_is_utf_8():
    data = pd.DataFrame({"character": ["王", "=1+1"]})
    assert csv_of(data).startswith(b"\xef\xbb\xbf")
    assert pd.read_csv(io.BytesIO(csv_of(data)))["character"].tolist() == ["王", "'=1+1"]
    assert csv_of(pd.DataFrame({"lag": [1]})) == b"lag\n1\n"
