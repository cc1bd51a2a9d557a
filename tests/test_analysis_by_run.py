"""Analyses with a row per run, on runs whose numbers were planted, and what becomes of them over seeds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import Planted, config_of, lag_rows, spectrum_rows, write_run

import gradflow as gf
from gradflow import analysis
from gradflow.analysis.runs import IDENTITY
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter


@pytest.fixture
def run_of(tmp_path: Path):
    def write(name: str = "run", planted: Planted = Planted(), **config):  # noqa: B008
        return gf.open_run(write_run(tmp_path / name, config_of(**config), planted))

    return write


# --- over seeds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.7062), (3, 4.30265), (5, 2.77645), (10, 2.26216)])
def test_the_interval_is_students(seeds, quantile):
    """Against the published table of t at 95 %, two-sided."""
    values = np.random.default_rng(seeds).standard_normal(seeds)
    mean, low, high = analysis.mean_interval(values)
    half = quantile * values.std(ddof=1) / np.sqrt(seeds)
    assert (mean, low, high) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half), rel=1e-5)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (4000, 4))
    covered = [low <= 3.0 <= high for _, low, high in map(analysis.mean_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


def test_an_interval_stays_open_where_nothing_can_be_said():
    np.testing.assert_array_equal(analysis.mean_interval([1.0, np.nan]), [1, np.nan, np.nan])
    np.testing.assert_array_equal(analysis.mean_interval([1.0, np.inf]), [np.inf, np.nan, np.nan])
    assert np.isnan(analysis.mean_interval([])).all()
    with pytest.raises(ValueError, match=r"confidence: expected a number between 0 and 1, such as 0.95, got 95"):
        analysis.mean_interval([1.0, 2.0], confidence=95)


def test_rates_over_seeds(run_of):
    factors = (0.5, 0.55, 0.6)
    runs = [run_of(str(seed), Planted(factor=factor), seed=seed) for seed, factor in enumerate(factors)]
    data = analysis.over_seeds(analysis.gradient_decay(runs), "rate", by=["iteration"])
    assert list(data) == [*IDENTITY, "iteration", "quantity", "value", "low", "high"]
    assert data["iteration"].tolist() == [0, 10, 20, 30, 40, 50, 59]
    assert set(data["seed"]) == {3}
    mean, low, high = analysis.mean_interval(np.log(factors))
    assert data[["value", "low", "high"]].iloc[-1].tolist() == pytest.approx([mean, low, high], rel=1e-5)


def test_rows_that_seeds_do_not_tell_apart_are_an_error(run_of):
    data = analysis.gradient_decay(run_of(seed=4))
    with pytest.raises(ValueError, match=r"got several for seed 4; .*what tells them apart: by=\['iteration'\]"):
        analysis.over_seeds(data, "rate")
    with pytest.raises(ValueError, match=r"value: expected a column out of .*'rate'.*, got 'speed'"):
        analysis.over_seeds(data, "speed")


def paired(effect: float) -> pd.DataFrame:
    """Runs whose seeds matter more than what clipping changes."""
    rows = [
        {"cell": "rnn", "clip": clip, "threshold": 1.0 if clip == "norm" else np.nan, "seed": seed, "loss": loss}
        for seed in range(5)
        for clip, loss in (("none", seed), ("norm", seed + effect + 0.01 * (-1) ** seed))
    ]
    return pd.DataFrame(rows)


def test_what_seeds_have_in_common_drops_out_of_a_difference():
    data = paired(0.3)
    (row,) = analysis.difference_over_seeds(data, "loss", across="clip", baseline="none").to_dict("records")
    assert (row["clip"], row["seed"], row["quantity"]) == ("norm", 5, "loss")
    assert row["value"] == pytest.approx(0.302)
    assert 0.28 < row["low"] < row["value"] < row["high"] < 0.32
    means = analysis.over_seeds(data, "loss")
    assert (means["high"] - means["low"]).min() > 3


def test_differences_need_a_baseline_and_equal_seeds():
    with pytest.raises(ValueError, match=r"baseline: expected one of \['none', 'norm'\], got 'value'"):
        analysis.difference_over_seeds(paired(0.3), "loss", across="clip", baseline="value")
    apart = paired(0.3).query("(clip == 'none') == (seed < 2)")
    with pytest.raises(ValueError, match="expected runs that differ in 'clip' but share a seed, got none"):
        analysis.difference_over_seeds(apart, "loss", across="clip", baseline="none")
    with pytest.raises(ValueError, match="expected one row per seed of every setting, got several for seed 0"):
        analysis.difference_over_seeds(pd.concat([paired(0.3)] * 2), "loss", across="clip", baseline="none")


# --- rates and horizons ----------------------------------------------------------------------------------------------


def test_planted_rates_and_horizons(run_of):
    fast, slow = run_of("fast", Planted(factor=0.57)), run_of("slow", Planted(factor=0.9))
    data = analysis.gradient_decay([fast, slow])
    assert len(data) == 14
    found = (
        data.groupby("factor", sort=True)[["rate", "vanishing_lag", "horizon", "greatest_lag"]].first().reset_index()
    )
    np.testing.assert_allclose(data["rate"].drop_duplicates(), np.log([0.57, 0.9]), rtol=1e-5)
    first, last = found.iloc[0], found.iloc[-1]
    assert (first["vanishing_lag"], first["horizon"]) == pytest.approx((13, np.log(1e-3) / np.log(0.57)), rel=1e-5)
    assert (last["vanishing_lag"], last["horizon"], last["greatest_lag"]) == pytest.approx(
        (np.inf, 65.56, 29), rel=1e-3
    )
    assert analysis.gradient_decay(fast, vanished=0.5)["vanishing_lag"].iloc[0] == 2


def test_a_gradient_that_does_not_shrink_has_no_horizon(run_of):
    row = analysis.gradient_decay(run_of(planted=Planted(factor=1.1))).iloc[0]
    assert (row["rate"], row["vanishing_lag"], row["horizon"]) == (pytest.approx(np.log(1.1), rel=1e-5), np.inf, np.inf)


def test_exact_zeros_have_vanished(tmp_path: Path):
    """Before the cut of truncated backpropagation the median of the rest says nothing: most examples have none."""
    rows = lag_rows(config_of(), Planted(factor=0.99, steps=12))
    rows["log_relative_gradient_zeros"] = np.array([0] * 8 + [10, 17, 32, 32])
    rows["log_relative_gradient_q50"] = np.where(np.arange(12) >= 10, np.nan, rows["log_relative_gradient_q50"])
    writer = RunWriter(tmp_path, meta={}, quantities=labels(["log_relative_gradient", "log_state_gradient"]))
    writer.append("lag", 0, rows)
    writer.close()
    row = analysis.gradient_decay(gf.open_run(tmp_path)).iloc[0]
    assert row["vanishing_lag"] == 9
    assert row["factor"] == pytest.approx(0.99, rel=1e-5)


def test_what_the_gradient_does_not_reach_has_not_vanished():
    """A loss that leaves the last two states out: nothing has faded there yet."""
    lag = np.arange(8)
    values = np.where(lag < 2, -np.inf, (lag - 2) * np.log(0.1))
    assert analysis.vanishing_lag(lag, values, vanished=0.05) == 4
    assert analysis.vanishing_lag(lag[::-1], values[::-1], vanished=0.05) == 4


def test_nothing_known_is_nan():
    assert np.isnan(analysis.vanishing_lag(np.arange(3), np.full(3, np.nan)))
    assert analysis.vanishing_lag(np.arange(3), np.full(3, -np.inf)) == 0


# --- explosions ------------------------------------------------------------------------------------------------------


def norms_run(path: Path, norms: np.ndarray, clipped: bool = False, spectrum: tuple[int, ...] = ()) -> "gf.Run":
    writer = RunWriter(path, meta={}, config={"cell": {"name": "rnn"}, "seed": 0})
    for iteration, norm in enumerate(norms):
        row = {"loss": float(iteration), "non_finite": not np.isfinite(norm)}
        row |= {f"log_grad_norm_{when}": np.log(norm) for when in (("before", "after") if clipped else ("after",))}
        writer.append("scalars", iteration, row | ({"clipped": norm > 1} if clipped else {}))
        if iteration in spectrum:
            writer.append("spectrum", iteration, spectrum_rows("h", Planted(), iteration))
    writer.close()
    return gf.open_run(path)


def test_events_and_what_came_before(tmp_path: Path):
    norms = np.exp(0.1 * np.random.default_rng(0).standard_normal(200)) * np.linspace(3, 0.3, 200)
    norms[60], norms[[120, 121, 122]] = 50.0, [20.0, np.inf, 30.0]
    data = analysis.exploding_events(norms_run(tmp_path / "run", norms, spectrum=(0, 58, 120)), before=3)
    events = data[data["offset"] == 0]
    assert events[["event", "iteration", "lasted"]].to_numpy().tolist() == [[0, 60, 1], [1, 120, 3]]
    assert events["peak"].tolist() == [pytest.approx(50), np.inf]
    assert (events["norm"] > events["fence"]).all()
    first = data[data["event"] == 0]
    assert first["offset"].tolist() == [-3, -2, -1, 0]
    assert first["iteration"].tolist() == [57, 58, 59, 60]
    assert first["loss"].tolist() == [57, 58, 59, 60]
    np.testing.assert_allclose(first["norm"], norms[57:61])
    np.testing.assert_allclose(first["sigma_1"], 1.1 * (1 + 0.01 * np.array([0, 58, 58, 58])))
    assert data["clipped"].isna().all()


def test_a_norm_that_falls_a_hundredfold_explodes_nowhere(tmp_path: Path):
    norms = np.exp(0.1 * np.random.default_rng(1).standard_normal(300)) * np.logspace(2, 0, 300)
    data = analysis.exploding_events(norms_run(tmp_path / "run", norms))
    assert len(data) == 0
    assert {"event", "offset", "sigma_1"} <= set(data)


def test_the_threshold_sees_the_past_alone_and_doubles_at_least():
    log_norm = pd.Series(np.random.default_rng(2).standard_normal(60))
    threshold = analysis.explosion_threshold(log_norm, window=20)
    assert threshold.isna().tolist() == [True] * 10 + [False] * 50
    low, median, high = np.quantile(log_norm[20:40], [0.25, 0.5, 0.75])
    assert threshold[40] == pytest.approx(max(high + 3 * (high - low), median + np.log(2)))
    later = log_norm.where(log_norm.index < 40, 1e3)
    np.testing.assert_array_equal(analysis.explosion_threshold(later, window=20)[:41], threshold[:41])
    assert analysis.explosion_threshold(pd.Series(np.full(12, 5.0)))[11] == pytest.approx(5 + np.log(2))


def test_clipping_does_not_hide_an_explosion(tmp_path: Path):
    norms = np.where(np.arange(50) == 30, 40.0, 0.5)
    data = analysis.exploding_events(norms_run(tmp_path / "run", norms, clipped=True), before=1)
    assert data["norm"].tolist() == pytest.approx([0.5, 40])
    assert data["clipped"].tolist() == [0, 1]
    assert data["sigma_1"].isna().all()


def test_an_unknown_norm_is_no_explosion_but_a_broken_one_is(tmp_path: Path):
    writer = RunWriter(tmp_path / "unknown", meta={})
    for iteration in range(20):
        writer.append("scalars", iteration, {"loss": 1.0})
    writer.close()
    assert analysis.exploding_events(gf.open_run(tmp_path / "unknown")).empty
    events = analysis.exploding_events(norms_run(tmp_path / "broken", np.array([1.0, np.nan])), before=0)
    assert events["iteration"].tolist() == [1]


def test_explosions_of_a_run_that_recorded_nothing_are_an_error(tmp_path: Path):
    RunWriter(tmp_path, meta={}).close("failed")
    with pytest.raises(ValueError, match="scalars: expected at least one recorded iteration, got none in any run"):
        analysis.exploding_events(gf.open_run(tmp_path))


# --- clipped share ---------------------------------------------------------------------------------------------------


def test_clipped_share(run_of):
    data = analysis.clipped_share([run_of("a"), run_of("b", clip="norm")]).set_index("clip")
    effect = analysis.clipping_effect(gf.open_run(run_of("c", clip="norm").path))
    assert data.loc["norm", "share"] == pytest.approx((effect["before"] > 1).mean())
    acted = effect[effect["clipped"] == 1]
    assert data.loc["norm", "coefficient"] == pytest.approx(np.exp(np.log(acted["after"] / acted["before"]).mean()))
    assert (data.loc["norm", "iterations"], data.loc["none", "iterations"]) == (60, 0)
    assert np.isnan(data.loc["none", "share"])


# --- drift of the spectrum -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_distances_of_spectra_bound_those_of_matrices(seed):
    """Weyl's and Mirsky's inequalities on random matrices."""
    random = np.random.default_rng(seed)
    before, change = random.standard_normal((2, 12, 12)) * [[[1.0]], [[0.1]]]
    largest, total, frobenius = analysis.spectral_distance(*np.linalg.svd([before, before + change], compute_uv=False))
    norms = [np.linalg.norm(change, order) for order in (2, "nuc", "fro")]
    assert largest <= norms[0]
    assert total <= norms[1]
    assert frobenius <= norms[2]
    assert largest > 0.1 * norms[0]


def test_drift_of_plain_sgd_stays_within_its_path(tmp_path: Path):
    random = np.random.default_rng(0)
    weight, rate, iterations = random.standard_normal((8, 8)), 0.1, 20
    writer = RunWriter(tmp_path, meta={}, config={"seed": 0}, parameters=["net.rnn.weight_hh_l0"])
    records = {}
    for iteration in range(iterations + 1):
        gradient = random.standard_normal((8, 8)) if iteration < iterations else np.zeros((8, 8))
        with np.errstate(divide="ignore"):
            norm = np.log(np.linalg.norm(gradient))
        writer.append("scalars", iteration, {"lr": rate, "log_grad_after.net.rnn.weight_hh_l0": norm})
        if iteration % 10 == 0:
            values = records[iteration] = np.linalg.svd(weight, compute_uv=False)
            rows = {"module": "net.rnn", "layer": 0, "direction": 0, "gate": "h", "index": np.arange(8)}
            writer.append("spectrum", iteration, rows | {"singular_value": values})
        weight = weight - rate * gradient
    writer.close()
    data = analysis.spectrum_drift(gf.open_run(tmp_path))
    assert data[["since", "iteration", "gate"]].to_numpy().tolist() == [[0, 10, "h"], [10, 20, "h"]]
    change = np.abs(records[10] - records[0])
    expected = [change.max(), change.sum(), np.linalg.norm(change)]
    assert data[["largest", "sum", "frobenius"]].iloc[0].tolist() == pytest.approx(expected)
    assert (data["largest"] <= data["frobenius"]).all()
    assert (data["frobenius"] <= data["sgd_path"]).all()


def test_drift_without_what_bounds_it(run_of):
    data = analysis.spectrum_drift(run_of(cell="gru"))
    assert data["iteration"].tolist() == [20, 40, 59]
    np.testing.assert_allclose(data["largest"], 1.1 * 0.01 * np.array([20, 20, 19]))
    np.testing.assert_allclose(data["largest"], data["sum"])
    assert data["sgd_path"].isna().all()
    assert set(data["gate"]) == {"n"}
    with pytest.raises(ValueError, match=r"gate: expected one of \['r', 'z', 'n'\], got 'f'"):
        analysis.spectrum_drift(run_of("other", cell="gru"), gate="f")
    with pytest.raises(ValueError, match="after: expected as many values as before, 3, got 2"):
        analysis.spectral_distance(np.ones(3), np.ones(2))


def test_a_single_record_has_not_drifted(run_of):
    data = analysis.spectrum_drift(run_of(planted=Planted(iterations=1)))
    assert len(data) == 0
    assert "largest" in data


# --- where the weight gradient comes from ----------------------------------------------------------------------------


def shares_run(path: Path, share: np.ndarray, **counts) -> "gf.Run":
    writer = RunWriter(path, meta={}, config={"seed": 0}, quantities=labels(["weight_gradient_share"]))
    rows = {"module": "rnn", "call": 0, "layer": 0, "direction": 0, "lag": np.arange(len(share))}
    rows |= {"valid": 4, "weight_gradient_share_zeros": 0, "weight_gradient_share_non_finite": 0} | counts
    writer.append("lag", 0, rows | {"weight_gradient_share_mean": share})
    writer.close()
    return gf.open_run(path)


def test_geometric_shares_have_the_mean_lag_of_koyck(tmp_path: Path):
    """Shares (1 - r) r^k have the mean lag r / (1 - r)."""
    lag = np.arange(200)
    (row,) = analysis.weight_gradient_reach(shares_run(tmp_path, 1 - 0.8 ** (lag + 1)), steps=5).to_dict("records")
    assert row["effective_lag"] == pytest.approx(4, rel=1e-5)
    assert (row["share"], row["steps"]) == (pytest.approx(1 - 0.8**5), 5)
    assert analysis.effective_lag(1 - 0.8 ** (lag + 1)) == pytest.approx(4)


def test_shares_of_ragged_batches_are_means_over_all_examples(tmp_path: Path):
    """Two examples of 2 and 4 steps, every step with the same share, and one without any gradient."""
    run = shares_run(
        tmp_path,
        np.array([0.375, 0.75, 0.75, 1.0]),
        valid=np.array([3, 3, 1, 1]),
        weight_gradient_share_non_finite=np.array([1, 1, 0, 0]),
    )
    row = analysis.weight_gradient_reach(run, steps=2).iloc[0]
    assert row["share"] == pytest.approx((1 + 0.5) / 2)
    assert row["effective_lag"] == pytest.approx((0.5 + 1.5) / 2)
    assert analysis.weight_gradient_reach(run, steps=99)["share"].iloc[0] == pytest.approx(1)


def test_examples_whose_last_steps_add_nothing_count(tmp_path: Path):
    run = shares_run(tmp_path, np.array([1.0, 1.0]), weight_gradient_share_zeros=np.array([2, 0]))
    row = analysis.weight_gradient_reach(run, steps=1).iloc[0]
    assert (row["share"], row["effective_lag"]) == (0.5, 0.5)


def test_shares_agree_with_what_a_recorder_wrote(tmp_path: Path):
    import torch

    torch.manual_seed(0)
    layer = torch.nn.RNN(3, 5).double()
    x, factors = torch.randn(6, 4, 3).double(), torch.randn(4, 5).double()
    with gf.record(layer, tmp_path, quantities=["weight_gradient_share"], every=1) as recorder:
        (layer(x)[0][-1] * factors).sum().backward()
        recorder.step()
    trace = gf.trace(layer, x)
    (trace.output[-1] * factors).sum().backward()
    norms = gf.state_gradients(trace)[0, 0].log_weight_share.exp().numpy()[::-1]
    weights = norms / norms.sum(0)
    row = analysis.weight_gradient_reach(gf.open_run(tmp_path), steps=2).iloc[0]
    assert row["share"] == pytest.approx(weights[:2].sum(0).mean(), rel=1e-5)
    assert row["effective_lag"] == pytest.approx((np.arange(6)[:, None] * weights).sum(0).mean(), rel=1e-5)


def test_shares_that_were_not_recorded_are_an_error(run_of, tmp_path):
    quantities = ["log_relative_gradient", "log_state_gradient"]
    writer = RunWriter(tmp_path / "without", meta={}, quantities=labels(quantities))
    writer.append("scalars", 0, {"loss": 1.0})
    writer.append("lag", 0, lag_rows(config_of(), Planted()))
    writer.close()
    with pytest.raises(ValueError, match=r"lag: expected weight_gradient_share in the log.*record\(quantities=\)"):
        analysis.weight_gradient_reach(gf.open_run(tmp_path / "without"))
    with pytest.raises(ValueError, match="steps: expected a whole number of at least 1, got 0"):
        analysis.weight_gradient_reach(run_of("other"), steps=0)


# --- ranking ---------------------------------------------------------------------------------------------------------


def test_ranking_puts_the_best_first_and_broken_runs_last(run_of, tmp_path: Path):
    runs = [
        run_of("good", Planted(accuracy=0.9, final_loss=0.2), cell="gru"),
        run_of("best", Planted(accuracy=0.95, final_loss=0.3), cell="lstm"),
        run_of("equal", Planted(accuracy=0.9, final_loss=0.4), cell="linear"),
        run_of("diverged", Planted(accuracy=0.99, state="diverged")),
    ]
    RunWriter(tmp_path / "empty", meta={}, config={"cell": {"name": "other"}}).close("failed", error="no file")
    data = analysis.ranking([*runs, gf.open_run(tmp_path / "empty")])
    assert data["cell"].tolist() == ["lstm", "linear", "gru", "rnn", "other"]
    assert data["rank"].tolist() == [1, 2, 2, pd.NA, pd.NA]
    assert data.loc[3, ["status", "accuracy"]].tolist() == ["diverged", 0.99]
    assert analysis.ranking(runs, by="loss")["cell"].tolist() == ["gru", "lstm", "linear", "rnn"]
    with pytest.raises(ValueError, match="by: expected one of accuracy, loss, solved_at, got 'speed'"):
        analysis.ranking(runs, by="speed")


def test_ranking_by_when_the_task_was_solved(tmp_path: Path):
    for name, solved, state in (("late", 30, "finished"), ("early", 10, "diverged"), ("never", 99, "finished")):
        success = {"quantity": "test_accuracy", "threshold": 0.9}
        writer = RunWriter(
            tmp_path / name, meta={"success": success}, config={"cell": {"name": name}}, scalars=["test_accuracy"]
        )
        for iteration in range(40):
            writer.append("scalars", iteration, {"loss": 1.0, "test_accuracy": 0.95 if iteration >= solved else 0.5})
        writer.close(state)
    data = analysis.ranking(gf.open_sweep(tmp_path), by="solved_at")
    assert data["cell"].tolist() == ["early", "late", "never"]
    assert data["solved_at"].tolist()[:2] == [10, 30]
    assert data["rank"].tolist() == [1, 2, pd.NA]
