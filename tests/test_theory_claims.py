"""Claims of exact results: all hold on what is computed, none on numbers that are wrong."""

from inspect import unwrap

import numpy as np
import pandas as pd
import pytest
from exact_tables import table

from gradflow import analysis, figures, theory
from gradflow.analysis.verdicts import agreement, at_least, at_most, named
from gradflow.theory import composition, lyapunov, memory, saturation

SPOILT = {
    "radius_sets_the_rate": ("log_rho", {"weights": "gaussian", "cell": "linear", "lag": 0}, lambda v: v + 0.01),
    "exact_slope": ("log_norm", {"weights": "orthogonal", "lag": 40}, lambda v: v + 1e-12),
    "within_singular_bound": ("log_norm", {"cell": "rnn", "lag": 1}, lambda v: v + 1),
    "grows_before_it_vanishes": ("log_norm", {"cell": "linear", "weights": "gaussian", "lag": 1}, lambda v: v + 1e-4),
    "tanh_shrinks_faster": ("log_norm", {"cell": "rnn"}, lambda v: v / 4),
    "mean_field_slope": ("measured", {"quantity": "slope"}, lambda v: v + 0.05),
    "mean_field_derivative": ("measured", {"quantity": "root_mean_square"}, lambda v: v + 0.02),
    "derivative_at_most_one": ("measured", {"quantity": "largest"}, lambda v: v + 1e-9),
    "saturated_yet_exploding": ("measured", {"quantity": "slope", "gain": 3.0}, lambda v: -v),
    "cliff_on_its_line": ("b", {"quantity": "cliff", "w": 5.0}, lambda v: v + 1e-9),
    "gradient_on_the_cliff": ("norm", {"quantity": "ridge"}, lambda v: v * (1 + 1e-6)),
    "thrown_off_the_cliff": ("w", {"quantity": "unclipped", "iteration": 15.0}, lambda v: v + 0.1),
    "clipped_updates_are_small": ("norm_after", {"quantity": "clipped", "iteration": 14.0}, lambda v: v * 1.01),
    "clipped_descent_arrives": ("error", {"quantity": "clipped"}, lambda v: v + 0.01),
    "explodes_where_basins_meet": ("measured", {"quantity": "crossing", "steps": 50.0}, lambda v: v - 0.01),
    "constant_elsewhere": ("measured", {"quantity": "sensitivity", "steps": 200.0}, lambda v: v + 1e-6),
    "folds": ("measured", {"quantity": "fold"}, lambda v: v + 1e-5),
    "attractors": ("measured", {"quantity": "attractors"}, lambda v: 3 - v),
    "chaos_of_mean_field": ("measured", {"quantity": "largest", "system": "autonomous"}, lambda v: v - 0.1),
    "radius_where_linear": ("measured", {"quantity": "largest", "system": "linear"}, lambda v: v + 0.01),
    "eigenvalues_where_linear": ("measured", {"quantity": "spectrum", "gain": 0.8}, lambda v: v + 0.05),
    "all_equal_where_orthogonal": ("measured", {"quantity": "orthogonal", "gain": 1.1}, lambda v: v + 1e-12),
    "sum_is_log_determinant": ("measured", {"quantity": "determinant"}, lambda v: v * 1.001),
    "input_lowers": ("measured", {"quantity": "largest", "system": "driven"}, lambda v: v + 1),
    "tanh_at_most_linear": ("measured", {"quantity": "largest", "system": "autonomous"}, lambda v: v + 2),
    "sensitivity_explodes": ("measured", {"quantity": "sensitivity"}, lambda v: v * 1.1),
    "state_variance": ("measured", {"quantity": "state"}, lambda v: v * 1.1),
    "state_gradient_is_one": ("measured", {"quantity": "state_gradient"}, lambda v: v + 1e-6),
    "twenty_steps_leave": ("measured", {"quantity": "product", "steps": 20.0}, lambda v: v * (1 + 1e-9)),
    "derivative_of_tanh": ("measured", {"quantity": "derivative", "a": 2.0}, lambda v: v + 1e-12),
    "one_at_zero": ("measured", {"quantity": "derivative", "a": 0.0}, lambda v: v - 1e-12),
    "below_one_elsewhere": ("measured", {"quantity": "derivative", "a": 1.0}, lambda v: v + 0.1),
    "slope_grows_by_composition": ("measured", {"quantity": "growth"}, lambda v: v + 0.05),
    "slope_is_product_of_jacobians": ("measured", {"quantity": "slope", "k": 3.0}, lambda v: v + 1e-4),
    "turns_more_often": ("measured", {"quantity": "turning_points", "k": 5.0, "network": 3.0}, lambda v: 0 * v),
    "same_factor_every_step": ("measured", {"quantity": "slope"}, lambda v: v + 0.05),
    "every_lag_as_predicted": ("measured", {"quantity": "gradient", "lag": 19.0}, lambda v: v + 1),
    "fades_at_every_step": ("measured", {"quantity": "gradient", "lag": 7.0}, lambda v: v + 1),
    "product_of_factors": ("measured", {"quantity": "factor", "time": 5.0}, lambda v: v * (1 + 1e-8)),
    "factor_of_tanh_and_weights": ("measured", {"quantity": "factor", "time": 3.0}, lambda v: v + 1e-9),
    "tanh_takes_away": ("measured", {"quantity": "tanh", "time": 11.0}, lambda v: v + 0.1),
    "every_factor_below_one": ("measured", {"quantity": "factor", "time": 2.0}, lambda v: v + 0.5),
    "straight_path_keeps": ("measured", {"path": "whole", "system": "residual", "lag": 19}, lambda v: v - 3),
    "straight_path_remains": ("measured", {"path": "straight", "system": "residual"}, lambda v: v + 1e-9),
    "gates_add_paths": ("measured", {"path": "whole", "system": "lstm", "lag": 9}, lambda v: v - 2),
    "one_path_one_step_back": ("measured", {"path": "whole", "system": "lstm", "lag": 1}, lambda v: v + 1e-9),
}
"""Claim -> the column that is spoilt, in which rows, and how."""


def claims(name: str, data: pd.DataFrame) -> dict[str, dict]:
    return {claim["claim"]: claim for claim in figures.EXACT[name].check(data)}


@pytest.fixture(scope="module")
def checked() -> dict[str, dict[str, dict]]:
    return {name: claims(name, table(name)) for name in theory.EXACT}


def place(claim: str, checked) -> str:
    return next(name for name, found in checked.items() if claim in found)


def test_theory_analysis_and_figures_have_the_same_names():
    assert list(figures.EXACT) == list(theory.EXACT)
    for name, exact in figures.EXACT.items():
        assert unwrap(exact.check) is unwrap(getattr(analysis, f"{name}_claims"))
        assert unwrap(exact.plot) is unwrap(getattr(figures, f"plot_{name}"))


def test_every_claim_holds_and_has_a_whole_verdict(checked):
    every = [claim for found in checked.values() for claim in found.values()]
    assert [claim["claim"] for claim in every if not claim["holds"]] == []
    assert {claim["claim"] for claim in every} == set(SPOILT)
    for claim in every:
        assert all(claim[key] for key in ("what", "protocol", "expected", "where")), claim["claim"]
        assert all(np.isfinite(claim[key]) for key in ("value", "target", "deviation", "tolerance"))
        assert claim["deviation"] == claim["value"] - claim["target"]


def test_protocols_say_what_was_done(checked):
    """Analysis knows no torch, so it cannot ask the theory for its sizes."""
    said = {name: " ".join(claim["protocol"] for claim in found.values()) for name, found in checked.items()}
    steps = f"{lyapunov.STEPS - lyapunov.BURN_IN} steps after {lyapunov.BURN_IN}"
    assert f"N = {lyapunov.SIZE}, {steps}" in said["lyapunov_spectrum"]
    assert f"mean of {lyapunov.NETWORKS} networks" in said["lyapunov_spectrum"]
    assert f"N = {lyapunov.SPECTRUM_SIZE}" in said["lyapunov_spectrum"]
    assert f"N = {lyapunov.ORTHOGONAL_SIZE}, {lyapunov.STEPS} steps" in said["lyapunov_spectrum"]
    assert f"H = {saturation.SIZE}" in said["activation_saturation"]
    assert f"{saturation.NETWORKS} networks of {saturation.EXAMPLES} examples" in said["activation_saturation"]
    assert f"{memory.EXAMPLES:,} examples" in said["memory_sensitivity"]
    assert f"H = {composition.SIZE}, g = {composition.GAIN:g}" in said["repeated_composition"]
    assert f"mean of {composition.NETWORKS} networks" in said["repeated_composition"]


def test_verdicts_make_one_table(checked):
    verdicts = analysis.verdict_table({name: list(found.values()) for name, found in checked.items()})
    assert len(verdicts) == len(SPOILT)
    assert verdicts.notna().all(axis=None)
    row = verdicts.set_index("claim").loc["folds"]
    assert (row["result"], row["expected"], row["holds"]) == ("bifurcation_diagram", "-2.65561 ± 5e-06", True)
    assert abs(row["measured"] - row["deviation"] + 2.65561) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_claims_of_the_whole_lyapunov_table_hold(seed):
    found = figures.EXACT["lyapunov_spectrum"].check(theory.lyapunov_gains(seed))
    assert [claim["claim"] for claim in found if not claim["holds"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_claims_of_compositions_hold_for_other_networks(seed):
    found = figures.EXACT["repeated_composition"].check(theory.repeated_composition(seed))
    assert [claim["claim"] for claim in found if not claim["holds"]] == []


@pytest.mark.parametrize("claim", SPOILT)
def test_a_claim_fails_on_wrong_numbers(claim, checked):
    name, (column, chosen, spoil) = place(claim, checked), SPOILT[claim]
    data = table(name)
    there = where(data, chosen)
    data.loc[there, column] = spoil(data.loc[there, column].astype(float))
    assert not claims(name, data)[claim]["holds"]


@pytest.mark.parametrize("claim", sorted(set(SPOILT) - {"clipped_descent_arrives"}))
def test_a_claim_fails_on_a_single_nan(claim, checked):
    name, (column, chosen, _) = place(claim, checked), SPOILT[claim]
    data = table(name)
    data.loc[where(data, chosen)[::-1].idxmax(), column] = np.nan
    assert not claims(name, data)[claim]["holds"]


def where(data: pd.DataFrame, chosen: dict) -> pd.Series:
    rows = np.logical_and.reduce([data[key] == value for key, value in chosen.items()])
    assert rows.any()
    return pd.Series(rows, index=data.index)


@pytest.mark.parametrize("name", theory.EXACT)
def test_a_part_of_a_table_is_refused_by_name(name):
    with pytest.raises(ValueError, match=r"data: expected rows .*, got none; pass a whole table of gradflow\.theory"):
        figures.EXACT[name].check(table(name).iloc[:0])


def test_the_worst_row_is_told_and_nan_is_the_worst_of_all():
    rows = pd.DataFrame({"measured": [1.0, 2.0, 4.0], "expected": 2.0, "tolerance": [1.0, 1.0, 0.5], "where": [*"abc"]})
    found = agreement("demo", rows, what="w", protocol="p", more=1)
    assert (found["where"], found["holds"], found["deviation"], found["more"]) == ("c", False, 2.0, 1)
    assert found["expected"] == "2 ± 0.5"
    assert (
        at_most("demo", rows, what="w", protocol="p")["where"],
        at_most("d", rows[:2], what="", protocol="")["holds"],
    ) == (
        "c",
        True,
    )
    lowest = at_least("demo", rows.assign(tolerance=0.0), what="w", protocol="p")
    assert (lowest["where"], lowest["holds"], lowest["expected"]) == ("a", False, ">= 2")
    rows.loc[1, "measured"] = np.nan
    for check in (agreement, at_most, at_least):
        found = check("demo", rows, what="w", protocol="p")
        assert (found["where"], found["holds"]) == ("b", False)
    with pytest.raises(ValueError, match="data: expected rows for the claim demo, got none"):
        agreement("demo", rows[:0], what="w", protocol="p")


def test_settings_are_named_in_symbols():
    rows = pd.DataFrame({"gain": [0.5, np.nan], "lag": [1, 20]}, index=[7, 3])
    assert named(rows, gain="g", lag="k").to_dict() == {7: "g = 0.5, k = 1", 3: "k = 20"}
