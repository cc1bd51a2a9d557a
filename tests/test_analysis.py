"""Analyses on runs whose numbers were planted, so that what comes out is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import FACTORS, Planted, config_of, lag_rows, write_run, write_sweep

import gradflow as gf
from gradflow import analysis
from gradflow.analysis.by_lag import read_at_the_end
from gradflow.analysis.results import has_learned
from gradflow.analysis.runs import IDENTITY, binned, identity, start_of
from gradflow.analysis.tasks import LONGEST, by_task, names_apart
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter


@pytest.fixture(scope="module")
def roll_call(tmp_path_factory: pytest.TempPathFactory):
    return gf.open_sweep(write_sweep(tmp_path_factory.mktemp("roll"), inits=("default", "remember"), names=8))


@pytest.fixture
def run_of(tmp_path: Path):
    def write(name: str = "run", planted: Planted = Planted(), **config):  # noqa: B008
        return gf.open_run(write_run(tmp_path / name, config_of(**config), planted))

    return write


# --- which runs, which rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"cell": {"name": "rnn"}, "init": {"name": "remember"}}, "orthogonal"),
        ({"cell": {"name": "gru"}, "init": {"name": "remember"}}, "b_z=3"),
        ({"cell": {"name": "lstm"}, "init": {"name": "remember", "forget_bias": 5.0}}, "b_f=5"),
        ({"cell": {"name": "lstm"}, "init": {"name": "default", "forget_bias": 1}}, "default, b_f=1"),
        ({"cell": {"name": "rnn"}, "init": {"name": "orthogonal", "gain": 1.1}}, "orthogonal, g=1.1"),
        ({}, ""),
    ],
)
def test_start_says_what_an_initialisation_means_for_the_cell(settings, start):
    assert start_of(settings) == start


def test_a_run_without_settings_is_still_named(tmp_path: Path):
    RunWriter(tmp_path / "own", meta={}).close()
    assert identity(gf.open_run(tmp_path / "own"))["cell"] == "model"


def test_runs_come_in_the_order_in_which_they_are_shown(roll_call):
    cells = [identity(run)["cell"] for run in analysis.runs_of(roll_call)]
    assert cells == [cell for cell in ("linear", "rnn", "lstm", "gru") for _ in range(4)]


def test_no_runs_is_an_error():
    with pytest.raises(ValueError, match=r"source: expected at least one run, got none"):
        analysis.runs_of([])


def test_tasks_never_share_a_figure_and_are_told_apart_by_few_words(run_of):
    runs = [run_of(f"{n}-{c}", Planted(iterations=1), names=n, cell=c) for n in (1, 8) for c in ("rnn", "lstm")]
    groups = by_task(runs)
    assert {name: len(members) for name, members in groups.items()} == {
        "names_per_sequence=1": 2,
        "names_per_sequence=8": 2,
    }
    assert list(by_task(runs[:2])) == [""]


def test_names_of_unlike_groups_are_short_unlike_and_fit_for_files():
    common = {"data.source": "copy_memory", "cell.hidden_size": "64", "train.lr": "0.001"}
    names = names_apart([common, *(common | {"cell.hidden_size": s, "train.lr": lr} for s in "12" for lr in "34")])
    assert names == ["hidden_size=64", *(f"hidden_size={s},lr={lr}" for s in "12" for lr in "34")]
    long = [
        {"cell.num_layers": layers, "train.optimizer": "sgd", "data.path": f"/at/my {path}.csv"}
        for layers in "12"
        for path in ("names", "other names, of people I know well")
    ]
    names = names_apart(long)
    assert names == [
        "num_layers=1,path=my+names.csv",
        "num_layers=1,group=2",
        "num_layers=2,path=my+names.csv",
        "num_layers=2,group=4",
    ]
    assert max(map(len, names)) <= LONGEST
    alike = names_apart([{"data.path": "a/names.csv"}, {"data.path": "b/names.csv"}])
    assert alike == ["path=names.csv", "path=names.csv,group=2"]


def test_layers_and_directions_are_never_mixed(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, quantities=labels(["log_relative_gradient"]))
    for layer, direction, factor in ((0, 0, 0.5), (0, 1, 0.6), (1, 0, 0.7), (1, 1, 0.8)):
        rows = lag_rows(config_of(), Planted(factor=factor))
        rows = {name: value for name, value in rows.items() if "state" not in name}
        writer.append("lag", 0, rows | {"layer": layer, "direction": direction})
    writer.close()
    run = gf.open_run(tmp_path)

    def factor(**place):
        return analysis.gradient_by_lag(run, **place)["factor"].iloc[0]

    assert factor() == pytest.approx(0.7)
    assert factor(direction=1) == pytest.approx(0.8)
    assert factor(layer=0) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="lag: expected recorded rows of layer 5, direction 0, got none in any run"):
        factor(layer=5)


def test_several_recorded_modules_are_an_error(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, quantities=labels(["log_relative_gradient", "log_state_gradient"]))
    for module in ("encoder", "decoder"):
        writer.append("lag", 0, lag_rows(config_of(), Planted()) | {"module": module})
    writer.close()
    with pytest.raises(ValueError, match=r"module: expected one recorded module, got \['encoder', 'decoder'\]"):
        analysis.gradient_by_lag(gf.open_run(tmp_path))


def test_bins_count_what_is_not_finite():
    bins = binned(pd.Series([1.0, np.nan, np.inf, np.nan, 5.0]), points=3)
    assert bins["non_finite"].tolist() == [1, 2, 0]
    np.testing.assert_array_equal(bins["value"], [1.0, np.nan, 5.0])


# --- gradient_by_lag -------------------------------------------------------------------------------------------------


def test_planted_factors_are_found(roll_call):
    data = analysis.gradient_by_lag(roll_call)
    assert list(data.columns[: len(IDENTITY)]) == IDENTITY
    found = data.groupby(["cell", "init"])["factor"].first().to_dict()
    assert found == pytest.approx(FACTORS, rel=1e-5)
    assert set(data["clip"]) == {"none"}  # before the first update clipping has not acted
    curve = data[(data["cell"] == "rnn") & (data["init"] == "default")].sort_values("lag")
    assert curve["valid"].tolist() == [32] * 30
    np.testing.assert_allclose(curve["median"], 0.57 ** np.arange(30), rtol=1e-5)
    np.testing.assert_allclose(curve["high"] / curve["median"], [1, *[np.exp(0.5)] * 29], rtol=1e-5)


def test_at_a_later_iteration_clipped_runs_are_curves_of_their_own(roll_call):
    data = analysis.gradient_by_lag(roll_call, iteration=45)
    assert set(data["iteration"]) == {40}
    assert len(data.drop_duplicates(["cell", "start", "clip"])) == 16


def test_seeds_are_one_curve(run_of):
    runs = [run_of(str(seed), Planted(factor=f, iterations=1), seed=seed) for seed, f in enumerate((0.4, 0.5, 0.9))]
    data = analysis.gradient_by_lag(runs)
    assert len(data) == 30
    assert data["factor"].iloc[0] == pytest.approx(0.5)
    assert data["seed"].iloc[0] == 3


def test_zeros_and_non_finite_values_are_counted_and_few_examples_left_out(tmp_path: Path):
    rows = lag_rows(config_of(), Planted(steps=12))
    rows |= {"valid": np.array([32] * 10 + [4, 1]), "log_relative_gradient_zeros": np.array([0] * 8 + [30, 32, 0, 0])}
    rows["log_relative_gradient_non_finite"] = np.array([0, 3] + [0] * 10)
    rows["log_relative_gradient_q50"] = np.where(np.arange(12) == 9, np.nan, rows["log_relative_gradient_q50"])
    writer = RunWriter(tmp_path, meta={}, quantities=labels(["log_relative_gradient", "log_state_gradient"]))
    writer.append("lag", 0, rows)
    writer.close()
    data = analysis.gradient_by_lag(gf.open_run(tmp_path))
    assert data["lag"].max() == 9
    assert (data["zeros"].sum(), data["non_finite"].sum()) == (62, 3)
    assert data["factor"].iloc[0] == pytest.approx(0.57)


EVERY_STEP = Planted(factor=1.0, anchored=0.6)  # a sum over all steps is flat


def test_a_loss_at_every_step_is_drawn_at_single_ones(run_of):
    """At the iterations that have it, with the count of its own; what needs a whole loss, and old logs, keep theirs."""
    run = run_of(planted=EVERY_STEP)
    data = analysis.gradient_by_lag(run, iteration=50)
    assert data["anchored"].all()
    assert set(data["iteration"]) == {40}
    assert data["factor"].iloc[0] == pytest.approx(0.6, rel=1e-5)
    assert data["valid"].tolist() == [16] * 28  # of fewer than five pairs nothing is said
    image = analysis.gradient_heatmap(run).query("quantity == 'gradient'")
    assert (image["anchored"].all(), sorted(set(image["iteration"]))) == (True, [0, 20, 40, 59])
    np.testing.assert_allclose(image["value"], image["lag"] * np.log(0.6), rtol=1e-5)
    assert analysis.gradient_decay(run)["factor"].tolist() == pytest.approx([0.6] * 4, rel=1e-5)
    whole = analysis.gradient_heatmap(run, relative=False).query("quantity == 'gradient'")
    assert (whole["anchored"].any(), whole["value"].nunique()) == (False, 1)
    assert not analysis.gradient_by_lag(run_of("old"))["anchored"].any()


@pytest.mark.parametrize(
    ("position", "direction", "reads", "at_the_end"),
    [
        ("lag", 0, [0], True),
        ("lag", 1, [0], True),
        ("lag", 0, [1], False),
        ("lag", 0, [0, 3], False),
        ("lag", 0, [], False),
        ("time", 0, [5], True),
        ("time", 1, [0], True),
        ("time", 0, [0], False),
        ("time", 1, [5], False),
    ],
)
def test_where_the_loss_reads_a_layer(position, direction, reads, at_the_end):
    rows = pd.DataFrame({position: np.arange(6), "direction": direction, "valid": 4})
    assert not read_at_the_end(rows)
    zeros = np.where(np.isin(np.arange(6), reads), 0, 4)
    assert read_at_the_end(rows.assign(log_direct_gradient_zeros=zeros)) == at_the_end


def test_seeds_of_two_kinds_are_not_averaged(run_of):
    runs = [run_of("old", Planted(factor=1.0), seed=0), run_of("new", EVERY_STEP, seed=1)]
    data = analysis.gradient_by_lag(runs)
    assert data["anchored"].all()
    assert (data["seed"].unique().tolist(), data["factor"].iloc[0]) == ([1], pytest.approx(0.6, rel=1e-5))


def test_factor_ignores_infinities_and_is_nan_without_points():
    lag = np.arange(31)
    values = np.where(lag % 7 == 3, -np.inf, lag * np.log(1.02))
    assert analysis.factor_per_step(lag, values) == pytest.approx(1.02)
    assert np.isnan(analysis.factor_per_step(lag, np.full(31, -np.inf)))
    assert analysis.factor_per_step(np.arange(3), np.log([1, 0.5, 0.25])) == pytest.approx(0.5)


def test_factor_is_fitted_clear_of_both_ends():
    lag = np.arange(61)
    values = lag * np.log(0.57) + np.where(lag < 10, 3.0, 0) + np.where(lag > 40, 5.0, 0)
    assert analysis.factor_per_step(lag, values) == pytest.approx(0.57)


def test_claim_the_initialisation_decides(roll_call, run_of):
    (claim,) = analysis.gradient_by_lag_claims(analysis.gradient_by_lag(roll_call))
    assert claim["claim"] == "initialisation_decides"
    low, high = (f"{claim[f'default_{end}']:.2f}" for end in ("low", "high"))
    assert claim["by_default"] == (low if low == high else f"{low}–{high}"), "as the curves are labelled"
    assert claim["holds"]
    assert claim["value"] == pytest.approx(0.9)
    assert (claim["default_low"], claim["default_high"]) == pytest.approx((0.55, 0.64))

    faster = run_of("faster", Planted(factor=0.5), init="remember")
    (claim,) = analysis.gradient_by_lag_claims(analysis.gradient_by_lag([run_of("slower"), faster]))
    assert (claim["claim"], claim["holds"]) == ("initialisation_decides", False)


def test_a_gate_set_to_keep_is_no_default(run_of):
    kept = run_of("kept", Planted(factor=0.9), cell="lstm", forget_bias=3.0)
    assert identity(kept)["init"] == "remember"
    assert identity(run_of("plain", cell="lstm", forget_bias=0.0))["init"] == "default"
    (claim,) = analysis.gradient_by_lag_claims(analysis.gradient_by_lag([run_of("rnn"), kept]))
    assert (claim["claim"], claim["holds"]) == ("initialisation_decides", True)


@pytest.mark.parametrize(("factor", "holds"), [(0.9, True), (0.57, False)])
def test_claim_of_runs_made_to_remember_can_fail(factor, holds, run_of):
    data = analysis.gradient_by_lag(run_of(planted=Planted(factor=factor), init="orthogonal"))
    (claim,) = analysis.gradient_by_lag_claims(data)
    assert (claim["claim"], claim["holds"], claim["lag"]) == ("reaches_the_end", holds, 29)
    assert claim["value"] == pytest.approx(factor**29)
    assert analysis.gradient_by_lag_claims(data[data["lag"] == 0]) == []


def test_claim_of_default_runs_alone_can_fail(run_of):
    for factor, holds in ((0.57, True), (1.3, False)):
        data = analysis.gradient_by_lag(run_of(f"{factor}", Planted(factor=factor)))
        (claim,) = analysis.gradient_by_lag_claims(data)
        assert (claim["claim"], claim["holds"]) == ("default_fades", holds)


def test_short_sequences_make_no_claim_about_rates(run_of):
    (claim,) = analysis.gradient_by_lag_claims(analysis.gradient_by_lag(run_of(planted=Planted(steps=4))))
    assert (claim["claim"], claim["holds"], claim["lag"]) == ("too_short", True, 3)
    assert claim["value"] == pytest.approx(0.57**3)


# --- gradient_heatmap ------------------------------------------------------------------------------------------------


def test_heatmap_holds_the_gradient_and_the_loss(run_of):
    data = analysis.gradient_heatmap(run_of())
    image = data[data["quantity"] == "gradient"].pivot(index="lag", columns="iteration", values="value")
    assert image.columns.tolist() == [0, 10, 20, 30, 40, 50, 59]
    np.testing.assert_allclose(image.to_numpy(), np.log(0.57) * np.arange(30)[:, None] * np.ones(7), atol=1e-5)
    loss = data[data["quantity"] == "loss"]
    assert len(loss) == 60
    assert loss["chance_loss"].iloc[0] == pytest.approx(np.log(2))


def test_absolute_gradient_of_an_lstm_is_that_of_h_and_c(run_of):
    data = analysis.gradient_heatmap(run_of(cell="lstm"), relative=False)
    image = data[(data["quantity"] == "gradient") & (data["iteration"] == 0)]
    np.testing.assert_allclose(image["value"], np.log(0.01) + np.log(0.57) * np.arange(30), atol=1e-5)


def test_a_quantity_that_was_not_recorded_is_an_error(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, quantities=labels(["log_state_gradient"]))
    rows = lag_rows(config_of(), Planted())
    writer.append("lag", 0, {name: value for name, value in rows.items() if "relative" not in name})
    writer.close()
    with pytest.raises(ValueError, match=r"lag: expected log_relative_gradient in the log.*record\(quantities=\)"):
        analysis.gradient_heatmap(gf.open_run(tmp_path))


def test_claim_what_learns_is_what_the_gradient_reaches(roll_call):
    (claim,) = analysis.gradient_heatmap_claims(analysis.gradient_heatmap(roll_call))
    assert claim["claim"] == "reach_decides"
    assert claim["holds"]
    assert claim["value"] == pytest.approx(0.9**29, rel=1e-4)
    assert claim["stuck_value"] == pytest.approx(0.64**29, rel=1e-4)


def test_claim_reach_fails_where_a_vanished_gradient_learned(run_of):
    learned = run_of("a", Planted(factor=0.3, accuracy=0.9))
    stuck = run_of("b", Planted(factor=0.9, accuracy=0.51, final_loss=0.01), cell="gru")  # learned by heart
    (claim,) = analysis.gradient_heatmap_claims(analysis.gradient_heatmap([learned, stuck]))
    assert not claim["holds"]


# --- clipping_effect -------------------------------------------------------------------------------------------------


def test_clipping_keeps_to_its_threshold_and_formula(run_of):
    data = analysis.clipping_effect([run_of("a"), run_of("b", clip="norm")])
    unclipped = data[data["clip"] == "none"]
    np.testing.assert_array_equal(unclipped["before"], unclipped["after"])
    acted, within, rule = analysis.clipping_effect_claims(data)
    assert acted["value"] == pytest.approx((data["before"] > 1)[data["clip"] == "norm"].mean())
    assert acted["worst"] > 30
    assert acted["worst_clipped"] == pytest.approx(1)
    assert within["holds"]
    assert rule["holds"]


def test_a_broken_clipping_fails_its_checks(run_of):
    data = analysis.clipping_effect(run_of(clip="norm"))
    data.loc[data["clipped"] == 1, "after"] *= 1.5
    _, within, rule = analysis.clipping_effect_claims(data)
    assert not within["holds"]
    assert not rule["holds"]


def test_non_finite_norms_stay_and_do_not_break_the_checks(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, config={"clip": {"name": "norm", "threshold": 1.0}})
    for iteration, norm in enumerate((0.5, np.inf, np.nan)):
        row = {"loss": norm, "log_grad_norm_before": np.log(norm), "log_grad_norm_after": np.log(norm)}
        writer.append("scalars", iteration, row | {"clipped": 0, "non_finite": not np.isfinite(norm)})
    writer.close("diverged")
    data = analysis.clipping_effect(gf.open_run(tmp_path))
    np.testing.assert_array_equal(data["before"], [0.5, np.inf, np.nan])
    assert data["non_finite"].tolist() == [0, 1, 1]
    assert not analysis.clipping_effect_claims(data)[0]["holds"]  # it never acted


def test_a_threshold_that_no_gradient_reaches_is_said_to_be_so(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, config={"clip": {"name": "norm", "threshold": 2.0}})
    for iteration, norm in enumerate((0.5, 1.5)):
        row = {"log_grad_norm_before": np.log(norm), "log_grad_norm_after": np.log(norm)}
        writer.append("scalars", iteration, row | {"clipped": 0, "non_finite": 0})
    writer.close()
    first = analysis.clipping_effect_claims(analysis.clipping_effect(gf.open_run(tmp_path)))[0]
    assert first["claim"] == "nothing_clipped"
    assert first["value"] == pytest.approx(1.5)
    assert first["holds"]


def test_clipping_of_a_run_that_recorded_nothing_is_an_error(tmp_path: Path):
    RunWriter(tmp_path, meta={}).close("failed")
    with pytest.raises(ValueError, match="scalars: expected at least one recorded iteration, got none"):
        analysis.clipping_effect(gf.open_run(tmp_path))


# --- singular_values_over_training -----------------------------------------------------------------------------------


def test_singular_values_of_one_gate(run_of):
    data = analysis.singular_values_over_training(run_of(cell="lstm", clip="norm"))
    assert set(data["gate"]) == {"g"}
    values = data[data["quantity"] == "singular_value"].pivot(index="iteration", columns="index", values="value")
    np.testing.assert_allclose(values[0], 1.1 * (1 + 0.01 * values.index.to_numpy()))
    np.testing.assert_allclose(values.loc[0], np.linspace(1.1, 0.01, 16))
    assert {24, 49} <= set(data.loc[data["quantity"] == "clipped", "iteration"])
    grows, within = analysis.singular_values_over_training_claims(data)
    assert grows["value"] == pytest.approx(1.59)
    assert within["value"] == pytest.approx(0.6)
    assert grows["holds"]
    assert within["holds"]


def test_claims_of_singular_values_can_fail(run_of):
    data = analysis.singular_values_over_training(run_of())
    largest = (data["quantity"] == "singular_value") & (data["index"] == 0)
    data.loc[largest, "value"] = np.linspace(1, 0.5, largest.sum())
    assert [claim["holds"] for claim in analysis.singular_values_over_training_claims(data)] == [False, False]


def test_a_gate_that_is_not_there_is_an_error(run_of):
    with pytest.raises(ValueError, match=r"gate: expected one of \['r', 'z', 'n'\], got 'f'"):
        analysis.singular_values_over_training(run_of(cell="gru"), gate="f")


# --- comparison ------------------------------------------------------------------------------------------------------


def test_comparison_tells_who_learned(roll_call):
    data = analysis.comparison(roll_call)
    final = data[data["quantity"] == "test_accuracy"]
    assert len(final) == 16
    assert final["chance_accuracy"].iloc[0] == 0.5
    (claim,) = analysis.comparison_claims(data)
    assert (claim["value"], claim["total"], claim["holds"]) == (8, 16, True)
    assert claim["learned"] == [
        {"cell": "linear", "start": "orthogonal"},
        {"cell": "rnn", "start": "orthogonal"},
        {"cell": "lstm", "start": "b_f=3"},
        {"cell": "gru", "start": "b_z=3"},
    ]


def test_the_worst_answer_is_rounded_so_that_no_network_is_below(run_of):
    data = analysis.comparison(
        [run_of(cell, Planted(accuracy=a), cell=cell) for cell, a in (("rnn", 0.897), ("lstm", 0.95))]
    )
    (claim,) = analysis.comparison_claims(data)
    assert (claim["worst"], claim["value"]) == (89, 2)
    by_loss = data.replace({"quantity": {"test_accuracy": "test_loss"}}).assign(
        chance_loss=1.0, low=np.nan, high=np.nan
    )
    assert analysis.comparison_claims(by_loss.replace({"value": {0.95: 0.951}}))[0]["worst"] == pytest.approx(0.96)


def test_one_seed_has_wilsons_interval_and_several_their_range(run_of):
    low, high = analysis.wilson_interval(0.93, 1000)
    assert (low, high) == pytest.approx((0.9125, 0.9442), abs=2e-4)
    single = analysis.comparison(run_of("single"))
    row = single[single["quantity"] == "test_accuracy"].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    runs = [run_of(str(s), Planted(accuracy=a), seed=s) for s, a in enumerate((0.8, 0.9, 0.97))]
    row = analysis.comparison(runs).query("quantity == 'test_accuracy'").iloc[0]
    assert (row["value"], row["low"], row["high"], row["seed"]) == pytest.approx((0.89, 0.8, 0.97, 3))


def test_losses_of_several_seeds_have_their_range(run_of):
    runs = [run_of(str(s), Planted(final_loss=loss), seed=s) for s, loss in enumerate((0.1, 0.2, 0.6))]
    alone = analysis.comparison(runs[:1]).query("quantity == 'loss'")
    assert alone[["low", "high"]].isna().all(axis=None)
    losses = [analysis.comparison(run).query("quantity == 'loss'")["value"].iloc[-1] for run in runs]
    last = analysis.comparison(runs).query("quantity == 'loss'").iloc[-1]
    assert last[["low", "value", "high"]].tolist() == sorted(losses)
    assert last["seed"] == 3


def test_broken_runs_are_named_not_hidden(run_of, tmp_path: Path):
    good, bad = run_of("good"), run_of("bad", Planted(state="diverged"), cell="gru")
    RunWriter(tmp_path / "empty", meta={}, config={"cell": {"name": "lstm"}}).close("failed", error="no file")
    data = analysis.comparison([good, bad, gf.open_run(tmp_path / "empty")])
    final = data[data["quantity"] == "test_accuracy"].set_index("cell")
    assert final["status"].to_dict() == {"rnn": "finished", "gru": "diverged", "lstm": "failed"}
    assert np.isnan(final.loc["lstm", "value"])
    assert analysis.comparison_claims(data)[0]["total"] == 2


def test_tasks_that_ask_for_values_are_judged_by_their_loss(tmp_path: Path):
    def run(name: str, loss: float):
        meta = {"chance": 0.1, "chance_loss": 1 / 6, "success": {"quantity": "test_loss", "threshold": 0.01}}
        config = {"cell": {"name": name}, "data": {"source": "adding", "length": 30, "test_size": 1000}}
        writer = RunWriter(tmp_path / name, meta=meta, config=config, scalars=["test_accuracy", "test_loss"])
        writer.append("scalars", 0, {"loss": 0.2, "test_accuracy": 0.5, "test_loss": loss})
        writer.close()
        return gf.open_run(tmp_path / name)

    runs = [run("rnn", 0.16), run("lstm", 0.02), run("gru", float("inf"))]
    data = analysis.comparison(runs)
    final = data[data["quantity"] != "loss"].set_index("cell")
    assert set(final["quantity"]) == {"test_loss"}
    assert final.loc["rnn", "value"] == 0.16
    assert final[["low", "high"]].isna().all(axis=None)
    (claim,) = analysis.comparison_claims(data)
    assert (claim["claim"], claim["value"], claim["total"], claim["best"]) == ("learned_values", 1, 2, 0.02)
    assert [has_learned(run) for run in runs] == [False, True, False]
    assert set(analysis.accuracy_by_lag(runs)["quantity"]) == {"loss"}


def test_comparison_without_chance_or_accuracy_says_what_it_can(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, scalars=["test_accuracy"])
    writer.append("scalars", 0, {"loss": 1.0, "test_accuracy": 0.7})
    writer.close()
    data = analysis.comparison(gf.open_run(tmp_path))
    assert data["chance_accuracy"].isna().all()
    assert analysis.comparison_claims(data) == [], "of one loss nothing can be said"
    later = data[data["quantity"] == "loss"].assign(iteration=9, value=0.4)
    (fell,) = analysis.comparison_claims(pd.concat([data, later], ignore_index=True))
    assert (fell["claim"], fell["value"], fell["result"], fell["holds"]) == ("loss_falls", 0.4, 0.7, True)
    for low, clear in ((0.65, True), (0.55, False)):
        both = pd.concat(
            [data.assign(low=low), data.assign(cell="gru", value=0.6, low=0.5, high=0.6)], ignore_index=True
        )
        (ahead,) = analysis.comparison_claims(both)
        assert (ahead["claim"], ahead["value"], ahead["holds"]) == ("best_accuracy", 0.7, clear)
    assert analysis.comparison_claims(data.assign(value=np.nan)) == []
