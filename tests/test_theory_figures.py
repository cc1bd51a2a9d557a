"""Figures of exact results: both languages, all formats, with warnings as errors; what they say and survive."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from exact_tables import table
from figure_checks import THEME, check_written, words
from matplotlib.figure import Figure

from gradflow import figures, theory
from gradflow.figures.error_surface_cliff.plot import _share_inside
from gradflow.figures.theme import LANGUAGES, as_drawn


def draw(name: str, data: pd.DataFrame, **options) -> Figure:
    return figures.EXACT[name].plot(data, claims=figures.EXACT[name].check(data), **options)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", theory.EXACT)
def test_every_figure_is_written_in_both_languages_and_all_formats(name, lang, tmp_path: Path):
    data, before = table(name), dict(mpl.rcParams)
    claims = figures.EXACT[name].check(data)
    figure = figures.EXACT[name].plot(data, claims=claims, lang=lang, context="paper", theme=THEME[lang])
    pd.testing.assert_frame_equal(data, table(name))
    assert dict(mpl.rcParams) == before
    check_written(figure, tmp_path / name, data, claims, lang)
    with as_drawn(figure):  # elsewhere its formulas have other fonts
        boxes = [axes.get_tightbbox() for axes in figure.axes]
    for box in boxes:
        assert min(box.x0, box.y0) >= -1, "something is written left of the figure or below it"
        assert np.all(box.max <= figure.bbox.max + 1), "something is written right of the figure or above it"


@pytest.mark.parametrize("name", theory.EXACT)
def test_figures_survive_values_that_are_not_finite(name):
    data = table(name)
    values = [column for column in ("measured", "log_norm", "error", "norm", "norm_after") if column in data]
    broken = (data.index % 3 == 0) & data[values].notna().any(axis=1)
    data.loc[broken, values] = np.inf
    figures.EXACT[name].plot(data, context="paper")


def test_a_claim_that_does_not_hold_says_so():
    data = table("memory_sensitivity")
    data.loc[data["quantity"] == "sensitivity", "measured"] *= 2
    assert "not so here" in words(draw("memory_sensitivity", data, context="paper")).replace("\n", " ")


def test_the_cliff_says_where_the_descent_lands():
    said = words(draw("error_surface_cliff", table("error_surface_cliff"), context="paper"))
    for text in (
        "lands at\n(2.55, −6.44),\n$E$ = 0.49",
        "start, $E$ = 0.36",
        "end, $E$ = 0.0039",
        "45.4",
        "threshold 0.5",
        "0.62246",
    ):
        assert text in said


def test_factors_and_realised_values_stand_beside_the_products():
    said = words(draw("jacobian_product_by_lag", table("jacobian_product_by_lag"), context="paper"))
    for text in ("×1.10 / step", "×1.00 / step", "×0.90 / step", "linear RNN\n×0.82", "tanh RNN\n×0.63"):
        assert text in said
    for text in ("$ = 1.57 > 1, and yet", r"sets the rate, $\rho$ = 0.82", r"$\sigma_{max}$ = 1.57", r"$\rho$ = 0.82"):
        assert text in said.replace("\n", " "), "the same digits in the headline and at the lines"


def test_folds_and_explosions_are_named():
    said = words(draw("bifurcation_diagram", table("bifurcation_diagram"), context="paper"))
    for text in ("-2.65561", "-2.34439", "T = 200", "18156"):
        assert text in said


def test_twenty_factors_stand_beside_the_one():
    said = words(draw("tanh_derivative", table("tanh_derivative"), context="paper"))
    for text in ("every step at $|a|$ = 1", "0.42$^{20} =$ $2.9"):
        assert text in said


def test_every_composition_says_how_often_it_turns():
    data = table("repeated_composition")
    said = words(draw("repeated_composition", data, context="paper"))
    turns = data[(data["quantity"] == "turning_points") & (data["network"] == 0)]["measured"]
    for k, count in enumerate(turns):
        assert f"$k$ = {k}: {count:.0f} turning points" in said


def test_a_path_is_cut_where_it_leaves_the_window():
    start, end = np.array([0.5, 0.5]), np.array([2.5, -0.5])
    assert _share_inside(start, end, (0, 0), (1, 1)) == 0.25
    assert _share_inside(start, np.array([0.5, 0.9]), (0, 0), (1, 1)) == 1.0
