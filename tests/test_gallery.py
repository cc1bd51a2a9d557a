"""Analyses of the gallery on planted runs whose answer is known; every claim fails on wrong numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import THEME, check_written, words
from synthetic_runs import Planted, config_of, write_run

import gradflow as gf
from gradflow import analysis
from gradflow.analysis.gates import keep_bias, time_scale
from gradflow.analysis.runs import DoesNotApply
from gradflow.figures.catalogue import Labels, short
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter


@pytest.fixture
def run_of(tmp_path: Path):
    def write(name: str = "run", planted: Planted = Planted(), **config):  # noqa: B008
        return gf.open_run(write_run(tmp_path / name, config_of(**config), planted))

    return write


def verdicts(claims) -> dict[str, bool]:
    return {claim["claim"]: claim["holds"] for claim in claims}


def broken(data: pd.DataFrame, rows: pd.Series | slice, **changes: Callable) -> pd.DataFrame:
    """A copy with some columns of some rows changed."""
    copy = data.copy()
    for column, change in changes.items():
        copy.loc[rows, column] = change(copy.loc[rows, column])
    return copy


# --- weight_spectrum -------------------------------------------------------------------------------------------------


def write_spectrum(path: Path, config, matrices: list[np.ndarray]):
    """A run whose recurrent weights were these, one after the other."""
    from dataclasses import asdict

    writer = RunWriter(path, meta={}, config=asdict(config))
    for iteration, matrix in enumerate(matrices):
        eigen = np.linalg.eigvals(matrix)
        eigen = eigen[np.argsort(-np.abs(eigen))]
        rows = {"module": "recurrent", "layer": 0, "direction": 0, "gate": "h", "index": np.arange(len(matrix))}
        rows |= {"singular_value": np.linalg.svd(matrix)[1], "eigenvalue_re": eigen.real, "eigenvalue_im": eigen.imag}
        writer.append("spectrum", iteration, rows)
    writer.close()
    return gf.open_run(path)


def test_spectrum_of_known_matrices(tmp_path: Path):
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (64, 64)) / 8
    run = write_spectrum(tmp_path / "run", config_of(), [weights, weights, 2 * weights])
    data = analysis.weight_spectrum(run)
    assert data.groupby("when", sort=False)["iteration"].first().to_dict() == {"before": 0, "after": 2}
    np.testing.assert_allclose(data.loc[data["when"] == "before", "singular_value"], np.linalg.svd(weights)[1])
    assert data["share"].max() == 63 / 64
    claims = analysis.weight_spectrum_claims(data)
    assert verdicts(claims) == {"norm_is_not_radius": True, "schur": True, "random_matrix_edges": True}
    radius = np.abs(np.linalg.eigvals(weights)).max()
    assert claims[0]["value"] == pytest.approx(radius)
    assert claims[0]["last"] == pytest.approx(2 * radius)
    assert claims[0]["sigma"] > 1 > claims[0]["value"]


def test_spectrum_of_rotations(tmp_path: Path):
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    data = analysis.weight_spectrum(write_spectrum(tmp_path / "run", config_of(init="remember"), [rotation]))
    assert set(data["when"]) == {"before"}
    assert verdicts(analysis.weight_spectrum_claims(data)) == {
        "spectrum_at_first": True,
        "schur": True,
        "orthogonal_spectrum": True,
    }
    wrong = broken(data, data["index"] == 3, singular_value=lambda value: value * 0.99)
    assert not verdicts(analysis.weight_spectrum_claims(wrong))["orthogonal_spectrum"]


def test_claims_of_spectra_fail_on_wrong_numbers(tmp_path: Path):
    weights = np.random.default_rng(0).uniform(-1, 1, (64, 64)) / 8
    data = analysis.weight_spectrum(write_spectrum(tmp_path / "run", config_of(), [weights]))
    stretched = broken(data, slice(None), singular_value=lambda value: 2 * value, eigenvalue_re=lambda v: 2 * v)
    assert not verdicts(analysis.weight_spectrum_claims(stretched))["random_matrix_edges"]
    outside = verdicts(
        analysis.weight_spectrum_claims(broken(data, slice(None), eigenvalue_re=lambda value: 9 * value))
    )
    assert not outside["spectrum_at_first"]
    assert not outside["schur"]


def test_one_cell_shows_all_its_gates_and_several_their_candidates(run_of):
    lstm, gru = run_of("lstm", cell="lstm"), run_of("gru", cell="gru")
    assert analysis.weight_spectrum(lstm)["gate"].unique().tolist() == ["i", "f", "g", "o"]
    both = analysis.weight_spectrum([lstm, gru, run_of("clipped", cell="gru", clip="norm")])
    assert set(both["clip"]) == {"none"}
    assert both.groupby("cell")["gate"].unique().map(list).to_dict() == {"lstm": ["g"], "gru": ["n"]}


# --- jacobian_norm_over_training -------------------------------------------------------------------------------------


def test_jacobians_beside_the_weights_of_their_iteration(run_of):
    """Only where both were recorded: rows between have no singular value of a Jacobian."""
    data = analysis.jacobian_norm_over_training(run_of())
    assert data["iteration"].unique().tolist() == [0, 20, 40, 59]
    assert set(data["gate"]) == {"h"}
    expected = 1.1 * (1 + 0.01 * data["iteration"])
    np.testing.assert_allclose(data["weights"], expected, rtol=1e-6)
    np.testing.assert_allclose(data["median"], expected * (0.5 + 0.5 * data["time"] / 29), rtol=1e-6)
    below = int((expected * (0.5 + 0.5 * data["time"] / 29) < 1).sum())
    claims = analysis.jacobian_norm_over_training_claims(data)
    assert verdicts(claims) == {"weights_do_not_tell": True}
    assert (claims[0]["misled"], claims[0]["total"]) == (below, 120)
    assert (claims[0]["value"], claims[0]["typical"]) == pytest.approx((1, 0.75))


def test_claims_of_jacobians_fail_on_wrong_numbers(run_of):
    data = analysis.jacobian_norm_over_training(run_of())
    wide = broken(data, data["time"] == 29, high=lambda value: 1.001 * value)
    assert verdicts(analysis.jacobian_norm_over_training_claims(wide)) == {"weights_do_not_tell": False}
    assert analysis.jacobian_norm_over_training_claims(data.assign(median=np.nan)) == []


def test_weights_tell_where_they_stretch_no_step_that_shrinks(run_of):
    """A rotation, whose largest singular value is 1 but for rounding, does not stretch."""
    data = analysis.jacobian_norm_over_training(run_of())
    for weights, norm in ((1 + 1e-6, 0.8), (0.9, 0.8), (1.2, 1.1)):
        same = data.assign(weights=weights, high=norm, median=norm)
        assert verdicts(analysis.jacobian_norm_over_training_claims(same)) == {"weights_tell": True}


def test_jacobians_of_gated_cells_stand_beside_their_candidates(run_of):
    data = analysis.jacobian_norm_over_training([run_of("lstm", cell="lstm"), run_of("gru", cell="gru")])
    assert data.groupby("cell")["gate"].unique().map(list).to_dict() == {"lstm": ["g"], "gru": ["n"]}
    assert verdicts(analysis.jacobian_norm_over_training_claims(data)) == {"candidate_does_not_tell": True}
    along = data.assign(median=data["weights"])
    assert verdicts(analysis.jacobian_norm_over_training_claims(along)) == {"candidate_does_not_tell": False}
    assert "weights of its candidate" in words(gf.figures.plot_jacobian_norm_over_training(data, context="paper"))


def test_a_log_without_jacobians_or_without_weights_has_nothing_to_compare(tmp_path: Path):
    rows = {"module": "recurrent", "call": 0, "layer": 0, "direction": 0, "time": np.arange(3), "valid": 4}
    spectral = {f"log_jacobian_spectral_{statistic}": np.zeros(3) for statistic in ("mean", "q10", "q50", "q90")}
    for name, quantities, more in (("other", [], {}), ("alone", ["log_jacobian_spectral"], spectral)):
        writer = RunWriter(tmp_path / name, meta={}, quantities=labels(["log_state_gradient", *quantities]))
        writer.append("time", 0, rows | more)
        writer.close()
        with pytest.raises(DoesNotApply, match=r"log_jacobian_spectral: expected it and .* got none in any"):
            analysis.jacobian_norm_over_training(gf.open_run(tmp_path / name))


def test_a_recorded_network_has_the_singular_values_of_its_own_jacobians(tmp_path: Path):
    """Against dense matrices, diag(1 - h²) W_hh, and of one step below 1 though the weights are above."""
    import torch

    torch.manual_seed(0)
    layer = torch.nn.RNN(3, 16, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_ih_l0.mul_(20)
    x = torch.randn(6, 1, 3, dtype=torch.float64)
    with gf.record(layer, tmp_path, quantities=["log_state_gradient", "log_jacobian_spectral"]) as recorder:
        h = layer(x)[0]
        h[-1].sum().backward()
        recorder.step()
    data = analysis.jacobian_norm_over_training(gf.open_run(tmp_path))
    weights, states = layer.weight_hh_l0.detach().numpy(), h.detach().numpy()[:, 0]
    expected = [np.linalg.norm((1 - state**2)[:, None] * weights, 2) for state in states]
    np.testing.assert_allclose(data["median"], expected, rtol=1e-4)
    np.testing.assert_allclose(data["weights"], np.linalg.norm(weights, 2), rtol=1e-6)


# --- temporal_contributions ------------------------------------------------------------------------------------------


def test_contributions_of_planted_decay(run_of):
    data = analysis.temporal_contributions(run_of(planted=Planted(factor=0.5, steps=30)))
    np.testing.assert_allclose(data["share"], (1 - 0.5 ** (np.minimum(data["lag"], 28) + 1)), atol=1e-6)
    np.testing.assert_allclose(data["log_median"].iloc[:29], np.log(0.5) * np.arange(29), rtol=1e-6)
    first = data.iloc[0]
    assert (first["within_50"], first["within_90"], first["within_99"]) == (1, 4, 7)
    assert (first["steps"], first["whole"], first["first_zero"]) == (30, pytest.approx(1), 1)
    claims = analysis.temporal_contributions_claims(data)
    assert verdicts(claims) == {"short_sighted": True, "shares_make_the_whole": True, "first_step_adds_nothing": True}
    assert claims[0]["value"] == 4


def test_claims_of_contributions_fail_on_wrong_numbers(run_of):
    far = analysis.temporal_contributions(run_of("far", Planted(factor=1.02)))
    assert not verdicts(analysis.temporal_contributions_claims(far))["short_sighted"]
    wrong = verdicts(analysis.temporal_contributions_claims(far.assign(whole=0.9, first_zero=0.5)))
    assert not wrong["shares_make_the_whole"]
    assert not wrong["first_step_adds_nothing"]


def test_networks_that_look_equally_far_are_one_number(run_of):
    data = analysis.temporal_contributions([run_of("one", init="remember"), run_of("other", cell="gru")])
    first = analysis.temporal_contributions_claims(data)[0]
    assert (first["claim"], first["value"], first["holds"]) == ("contributions_alike", 5, False)


def test_contributions_before_training_are_one_curve_whatever_the_clipping(run_of):
    runs = [run_of(clip, clip=clip) for clip in ("none", "norm")]
    assert set(analysis.temporal_contributions(runs)["clip"]) == {"none"}
    assert set(analysis.temporal_contributions(runs, iteration=30)["clip"]) == {"none", "norm"}


def test_contributions_that_were_not_recorded_are_an_error(tmp_path: Path):
    writer = RunWriter(tmp_path, meta={}, quantities=labels(["log_weight_gradient"]))
    rows = {f"log_weight_gradient_{s}": np.zeros(3) for s in ("mean", "q10", "q50", "q90")}
    rows |= {"log_weight_gradient_zeros": 0, "log_weight_gradient_non_finite": 0, "valid": 4, "lag": np.arange(3)}
    writer.append("lag", 0, rows | {"module": "recurrent", "call": 0, "layer": 0, "direction": 0})
    writer.close()
    with pytest.raises(ValueError, match=r"lag: expected weight_gradient_share in the log.*record\(quantities=\)"):
        analysis.temporal_contributions(gf.open_run(tmp_path))


# --- lstm_cell_highway -----------------------------------------------------------------------------------------------


def test_highway_of_a_planted_lstm(run_of):
    runs = [run_of(str(b), Planted(factor=0.9), cell="lstm", forget_bias=b) for b in (0.0, 1.0)]
    data = analysis.lstm_cell_highway(runs)
    curves = data[data["start"] == "default, b_f=0"].pivot(index="lag", columns="quantity", values="log_median")
    np.testing.assert_allclose(curves["path"], np.log(0.01) + np.arange(30) * np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(curves["gate"], curves["path"], rtol=1e-6)
    assert np.isnan(curves["cell"].iloc[0])
    claims = analysis.lstm_cell_highway_claims(data)
    assert verdicts(claims) == {"own_path_by_bias": True, "more_than_the_highway": True, "equal_one_step_back": True}
    own, whole, _ = claims
    assert (own["low_bias"], own["high_bias"]) == (0, 1)
    assert (own["low"], own["high"]) == pytest.approx((0.5, 1 / (1 + np.exp(-1))), rel=1e-4)
    assert whole["path"] == pytest.approx(0.5, rel=1e-4)
    assert whole["value"] == pytest.approx((0.9 / 0.5) ** 28, rel=1e-3)
    wrong = broken(data, (data["quantity"] == "path") & (data["bias"] == 1), factor=lambda value: 0.95)
    assert not verdicts(analysis.lstm_cell_highway_claims(wrong))["own_path_by_bias"]
    said = words(gf.figures.plot_lstm_cell_highway(data, claims=claims, context="paper")).replace("\n", " ")
    assert "keeps 0.50 with $b_f$ = 0, 0.73 with $b_f$ = 1" in said
    assert "hidden-state gradient" not in said, "the claim does not need it"


def test_claims_of_the_highway_fail_on_wrong_numbers(run_of):
    data = analysis.lstm_cell_highway(run_of(cell="lstm", forget_bias=1.0))
    cell, path = data["quantity"] == "cell", data["quantity"] == "path"
    less = broken(data, cell, log_median=lambda value: value - 20)
    assert not verdicts(analysis.lstm_cell_highway_claims(less))["more_than_the_highway"]
    assert not verdicts(analysis.lstm_cell_highway_claims(less))["equal_one_step_back"]
    slow = broken(data, path, factor=lambda value: 0.95)
    assert not verdicts(analysis.lstm_cell_highway_claims(slow))["path_is_the_gates"]


def test_highway_of_a_gru_has_its_gate_alone_and_other_cells_none(run_of):
    gru = run_of("gru", cell="gru", init="remember")
    data = analysis.lstm_cell_highway([gru, run_of("rnn")])
    assert set(data["cell"]) == {"gru"}
    assert set(data["quantity"]) == {"state", "gate"}
    (claim,) = analysis.lstm_cell_highway_claims(data)
    assert (claim["claim"], claim["gate"]) == ("state_against_gate", pytest.approx(1 / (1 + np.exp(-3))))
    with pytest.raises(ValueError, match="cell: expected runs of an LSTM or a GRU, got none"):
        analysis.lstm_cell_highway(run_of("other"))


def test_what_the_loss_reaches_at_every_step_is_not_set_against_the_path(run_of):
    data = analysis.lstm_cell_highway(run_of(cell="lstm")).assign(last_step_only=False)
    assert set(verdicts(analysis.lstm_cell_highway_claims(data))) == {"state_against_gate"}
    varied = data.assign(last_step_only=True, bias=np.nan)
    assert set(verdicts(analysis.lstm_cell_highway_claims(varied))) == {"more_than_the_path", "equal_one_step_back"}


def test_the_bias_of_chrono_varies_from_unit_to_unit():
    assert np.isnan(keep_bias({"cell": {"name": "lstm"}, "init": {"name": "chrono"}}))
    assert np.isnan(keep_bias({"cell": {"name": "rnn"}}))
    assert keep_bias({"cell": {"name": "gru"}, "init": {"name": "default", "update_bias": 2}}) == 2


def test_a_recorded_lstm_takes_the_highway_for_one_step(tmp_path: Path):
    """On torch's own kernels: equal one step back, and only there."""
    import torch

    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 16)
    with gf.record(layer, tmp_path, reduction="sum") as recorder:
        layer(torch.randn(20, 8, 3))[0][-1].sum().backward()
        recorder.step()
    frame = gf.open_run(tmp_path).frame("lag").set_index("lag")
    apart = frame["log_cell_gradient_q50"] - frame["log_cell_path_q50"]
    assert apart[1] == pytest.approx(0, abs=1e-5)
    assert (apart[2:] > 1e-3).all()


# --- gate_timescales -------------------------------------------------------------------------------------------------


def test_time_scales_of_planted_gates(run_of):
    data = analysis.gate_timescales(run_of(cell="lstm", init="remember"))
    scale = time_scale(3.0)
    assert set(data["gate"]) == {"f"}
    ends = data.groupby("when", sort=False)[["low", "median", "high"]].first()
    np.testing.assert_allclose(ends.loc["before"], [scale / 1.5, scale, 1.5 * scale], rtol=1e-5)
    np.testing.assert_allclose(ends.loc["after"], [2 * scale / 1.5, 2 * scale, 3 * scale], rtol=1e-5)
    assert (data["steps"].iloc[0], data["expected"].iloc[0]) == (30, pytest.approx(20.58, abs=0.01))
    claims = analysis.gate_timescales_claims(data)
    assert verdicts(claims) == {"memory_lengthens": True, "memory_starts_at_bias": True}
    assert claims[0]["value"] == pytest.approx(2)


def test_claims_of_time_scales_fail_on_wrong_numbers(run_of):
    data = analysis.gate_timescales(run_of(cell="gru"))
    shrunk = broken(data, data["when"] == "after", high=lambda value: value / 9)
    assert not verdicts(analysis.gate_timescales_claims(shrunk))["memory_lengthens"]
    away = broken(data, data["when"] == "before", median=lambda value: 2 * value)
    assert not verdicts(analysis.gate_timescales_claims(away))["memory_starts_at_bias"]


def test_gates_that_are_one_have_no_end_and_are_counted(run_of):
    data = analysis.gate_timescales(run_of(cell="lstm"))
    data.loc[data["when"] == "after", "high"] = np.inf
    figure = gf.figures.plot_gate_timescales(data, context="paper")
    assert "30 quantiles beyond 300 steps" in figure.get_supxlabel().replace("\n", " ")


def test_cells_without_a_gate_that_keeps_are_an_error(run_of):
    with pytest.raises(ValueError, match="gates: expected runs of a cell that has a gate f or z, got none"):
        analysis.gate_timescales(run_of())


# --- stacked_lattice -------------------------------------------------------------------------------------------------


def test_lattice_of_planted_layers(run_of):
    data = analysis.stacked_lattice(run_of(layers=3))
    image = data.pivot(index="layer", columns="lag", values="value").to_numpy()
    down, back = np.arange(3)[::-1, None], np.arange(30)
    np.testing.assert_allclose(image, np.log(0.01) + np.log(0.57) * (down + back), rtol=1e-5)
    assert (data["per_layer"].iloc[0], data["per_step"].iloc[0]) == pytest.approx((0.57, 0.57), rel=1e-4)
    assert verdicts(analysis.stacked_lattice_claims(data)) == {"layer_costs_a_step": True, "largest_at_the_end": True}


def test_arrows_on_the_lattice_say_what_all_layers_and_all_steps_cost(run_of):
    data = analysis.stacked_lattice(run_of(layers=3))
    said = words(gf.figures.plot_stacked_lattice(data, context="paper"))
    lag, value = data["lag"].max(), data.set_index(["layer", "lag"])["value"]
    back, down = (short(np.exp(value[place] - value[2, 0])) for place in ((2, lag), (0, 0)))
    for text in (f"{lag} steps back ×{back}", f"2 layers down ×{down}"):
        assert text in said
    assert "steps back ×" not in words(gf.figures.plot_stacked_lattice(data.assign(per_step=np.nan), context="paper"))


def test_claims_of_the_lattice_fail_on_wrong_numbers(run_of):
    data = analysis.stacked_lattice(run_of(layers=3))
    assert not verdicts(analysis.stacked_lattice_claims(data.assign(per_layer=0.2)))["layer_costs_a_step"]
    assert "largest_at_the_end" not in verdicts(analysis.stacked_lattice_claims(data.assign(last_step_only=False)))
    odd = broken(data, data["lag"] == 7, value=lambda value: value + 9)
    assert not verdicts(analysis.stacked_lattice_claims(odd))["largest_at_the_end"]


def test_one_layer_is_no_lattice(run_of):
    with pytest.raises(ValueError, match="layer: expected runs of several layers, got none"):
        analysis.stacked_lattice(run_of())


# --- bidirectional_profile -------------------------------------------------------------------------------------------


def test_profile_of_two_planted_directions(run_of):
    data = analysis.bidirectional_profile(run_of(bidirectional=True))
    log = data.pivot(index="time", columns="quantity", values="log_median")
    time = np.arange(30)
    np.testing.assert_allclose(log["forward"], np.log(0.01) + np.log(0.57) * (29 - time), rtol=1e-5)
    np.testing.assert_allclose(log["reverse"], np.log(0.01) + np.log(0.57) * time, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log["both"]), np.hypot(np.exp(log["forward"]), np.exp(log["reverse"])))
    claims = analysis.bidirectional_profile_claims(data)
    assert verdicts(claims) == {"valley_in_the_middle": True, "loudest_at_its_end": True}
    assert claims[0]["position"] in (14, 15)
    said = words(gf.figures.plot_bidirectional_profile(data, context="paper", title=""))
    assert f"×{short(claims[0]['value'])}" in said, "in the picture, too"


def test_claims_of_the_profile_fail_on_wrong_numbers(run_of):
    data = analysis.bidirectional_profile(run_of(bidirectional=True))
    beside = broken(data, data["time"] == 2, log_median=lambda value: value - 30)
    assert not verdicts(analysis.bidirectional_profile_claims(beside))["valley_in_the_middle"]
    mirrored = data.assign(time=29 - data["time"])
    assert not verdicts(analysis.bidirectional_profile_claims(mirrored))["loudest_at_its_end"]
    flat = analysis.bidirectional_profile(run_of("flat", Planted(factor=0.99), bidirectional=True))
    assert "heard_everywhere" in verdicts(analysis.bidirectional_profile_claims(flat))


def test_one_direction_has_no_profile(run_of):
    with pytest.raises(ValueError, match="direction: expected bidirectional runs, got none"):
        analysis.bidirectional_profile(run_of())


# --- name_saliency ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory):
    """A tiny trained linear network of names, and the table of two of them."""
    from gradflow.config import CellConfig, Config, DataConfig, TrainConfig
    from gradflow.training.loop import train
    from gradflow.training.prediction import name_saliency

    path = tmp_path_factory.mktemp("names") / "run"
    data, cell = DataConfig(train_size=200, test_size=20), CellConfig(name="linear", hidden_size=8)
    train(Config(data=data, cell=cell, train=TrainConfig(iterations=3, batch_size=20)), path)
    return path, name_saliency(path, ["王晓丽", "李国"])


def test_saliency_is_the_derivative_of_the_score_and_adds_up_in_a_linear_network(asked):
    path, data = asked
    assert data["character"].tolist() == list("王晓丽李国")
    assert data.groupby("example")["probability"].first().between(0.5, 1).all()
    total = data.groupby("example").agg(score=("score", "sum"), rest=("rest", "first"), logit=("logit", "first"))
    np.testing.assert_allclose(total["score"] + total["rest"], total["logit"], rtol=1e-10)
    assert (data["norm"] >= data["score"].abs()).all()
    np.testing.assert_allclose(data["typical"], data["norm"] / 500**0.5)
    from gradflow.training.prediction import predict

    shares = [share for answer in predict(path, ["王晓丽", "李国"]) for _, share in answer.shares]
    np.testing.assert_allclose(shares, data["norm"] / data.groupby("example")["norm"].transform("sum"), rtol=1e-4)


def test_claims_of_saliency_fail_on_wrong_numbers(asked):
    _, data = asked  # one surname and one character of a given name are a step from the end
    data = data.assign(norm=np.where(data["position"] == 0, 0.1, 1.0), score=[0.1, 0.2, 0.5, 0.1, 0.3])
    (pushes, adds) = analysis.name_saliency_claims(data)
    assert (pushes["claim"], pushes["value"], pushes["total"], pushes["holds"]) == ("given_name_pushes", 2, 2, True)
    assert (pushes["asked"], pushes["character"]) == ("王晓丽", "丽")
    assert (pushes["surname"], pushes["given"]) == pytest.approx((0.1, 1.0)), "李 and 晓, each a step from the end"
    assert not adds["holds"]
    alone, _ = analysis.name_saliency_claims(data[data["example"] == 0])
    assert "surname" not in alone, "nothing is as far from the end as its surname"
    swapped = data.assign(score=[0.5, 0.2, 0.1, 0.1, 0.3])
    assert not verdicts(analysis.name_saliency_claims(swapped))["given_name_pushes"]
    assert not verdicts(analysis.name_saliency_claims(data.assign(score=data["score"] + 1)))["scores_add_up"]
    (claim, _) = analysis.name_saliency_claims(data.assign(source="csv"))
    assert (claim["claim"], claim["value"]) == ("most_telling", data["score"].max())
    assert data.loc[data["score"].idxmax(), "character"] == claim["character"]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_saliency_is_drawn_in_both_languages(asked, lang, tmp_path: Path):
    _, data = asked
    figure = gf.figures.plot_name_saliency(data, claims=analysis.name_saliency_claims(data), lang=lang, context="paper")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == list("王晓丽")
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries[-1] == {"en": "given name", "zh": "名字"}[lang]
    assert entries[0].endswith("(female)”" if "女" in entries[0] else "(male)”") == (lang == "en"), "told in English"
    assert len(gf.figures.save(figure, tmp_path / "saliency", data=data)) == 4


@pytest.mark.parametrize(("scores", "said"), [((0.1, 0.2, 0.5), "All 2 names"), ((0.5, 0.2, 0.1), "Only 1 of 2")])
def test_the_headline_of_saliency_counts_the_names_judged_by_the_given_name(asked, scores, said):
    _, data = asked
    claims = analysis.name_saliency_claims(data.assign(score=[*scores, 0.1, 0.3]))
    assert Labels("en").headline(claims[0]).startswith(said)


def test_more_names_than_fit_are_an_error(asked):
    _, data = asked
    many = pd.concat([data.assign(example=data["example"] + 2 * i) for i in range(5)])
    with pytest.raises(ValueError, match="data: expected at most 8 names, got 10"):
        gf.figures.plot_name_saliency(many)


# --- gate_map --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory):
    """A tiny trained network of names, by its cell."""
    from gradflow.config import CellConfig, Config, DataConfig, TrainConfig
    from gradflow.training.loop import train

    paths: dict[str, Path] = {}

    def find(cell: str) -> Path:
        if cell not in paths:
            paths[cell] = tmp_path_factory.mktemp("names") / cell
            config = Config(
                data=DataConfig(train_size=200, test_size=20),
                cell=CellConfig(name=cell, hidden_size=8, num_layers=2, bidirectional=True),
                train=TrainConfig(iterations=3, batch_size=20),
            )
            train(config, paths[cell])
        return paths[cell]

    return find


@pytest.mark.parametrize(("cell", "gate"), [("lstm", "f"), ("gru", "z"), ("gru_before", "z")])
def test_the_gates_that_keep_are_those_of_the_top_layer(cell, gate, keeping):
    import torch

    from gradflow.data import encode
    from gradflow.training.prediction import gate_map
    from gradflow.training.storage import load_run

    path, name = keeping(cell), "王晓丽"
    data = gate_map(path, name)
    model = load_run(path).double()
    layer = model.recurrent
    alphabet = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))["alphabet"]
    x = model.encode(torch.from_numpy(encode([name], alphabet)[0]).transpose(0, 1))
    trace = gf.trace(layer, x)
    below = torch.cat([trace[0, d].states["h"] for d in (0, 1)], -1)[:, 0]
    h = torch.zeros(8).double()
    own = slice(8, 16)  # the second of i f g o, and of r z n
    for t in range(3):
        pre = layer.weight_ih_l1[own] @ below[t] + layer.bias_ih_l1[own]
        pre = pre + layer.weight_hh_l1[own] @ h + layer.bias_hh_l1[own]
        value = data[data["position"] == t].sort_values("unit")["value"].to_numpy()
        np.testing.assert_allclose(value, torch.sigmoid(pre).detach(), rtol=1e-10)
        h = trace[1, 0].states["h"][t, 0]
    assert (data["gate"].unique(), data["layer"].unique()) == ([gate], [1])
    assert data.groupby("position")["character"].first().tolist() == list(name)
    ordered = data.drop_duplicates("rank")
    assert ordered["time_scale"].is_monotonic_decreasing
    products = data.groupby("rank")["value"].prod()
    np.testing.assert_allclose(np.exp(-3 / ordered["time_scale"]), products, rtol=1e-10)


def gates_of(*units: list[float]) -> pd.DataFrame:
    """The table of units with these gates, one after the other."""
    rows = [
        {"cell": "lstm", "gate": "f", "rank": rank, "position": t, "character": "王李张"[t % 3], "value": value}
        | {"time_scale": -1 / np.mean(np.log(values)) if min(values) < 1 else np.inf}
        for rank, values in enumerate(units)
        for t, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_units_outlast_a_sequence_if_they_keep_more_than_a_part_in_e():
    data = gates_of([1.0, 1.0, 1.0], [0.9, 0.8, 0.7], [0.9, 0.8, 0.5], [0.1, 0.9, 0.9])
    claims = analysis.gate_map_claims(data)
    assert verdicts(claims) == {"units_outlast": True, "outlasting_is_keeping": True}
    assert (claims[0]["value"], claims[0]["longer"], claims[0]["units"], claims[0]["steps"]) == (0.5, 2, 4, 3)
    wrong = broken(data, data["rank"] == 2, time_scale=lambda value: 9.0)
    assert not verdicts(analysis.gate_map_claims(wrong))["outlasting_is_keeping"]
    assert analysis.gate_map_claims(data.assign(time_scale=np.nan)) == []


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_gate_map_is_drawn_in_both_languages(lang, keeping, tmp_path: Path):
    from gradflow.training.prediction import gate_map

    data = gate_map(keeping("lstm"), "王晓丽")
    claims = analysis.gate_map_claims(data)
    figure = gf.figures.plot_gate_map(data, claims=claims, lang=lang, context="paper", theme=THEME[lang])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == list("王晓丽")
    assert "$f_t$" in [axes.get_title() for axes in figure.axes]
    check_written(figure, tmp_path / "gate_map", data, claims, lang)


@pytest.mark.parametrize("lost", [1.0, np.nan])
def test_gates_that_never_forget_or_are_lost_are_drawn(lost):
    data = gates_of([lost] * 50, [0.5] * 50)
    figure = gf.figures.plot_gate_map(data, claims=analysis.gate_map_claims(data), context="paper")
    assert len(figure.axes[0].get_xticklabels()) == 25


def test_a_cell_without_a_gate_that_keeps_has_no_gate_map(asked):
    from gradflow.training.prediction import gate_map

    message = r"run: expected a model with a gate that keeps \(cell=lstm, gru or gru_before\), got cell=linear"
    with pytest.raises(ValueError, match=message):
        gate_map(asked[0], "王晓丽")


# --- figures ---------------------------------------------------------------------------------------------------------


def test_panels_never_mix_clippings(run_of):
    runs = [run_of(clip, cell="lstm", clip=clip) for clip in ("none", "norm")]
    with pytest.raises(ValueError, match=r"data: expected one kind of clipping, got \['none', 'norm'\]"):
        gf.figures.plot_gate_timescales(analysis.gate_timescales(runs))


def test_a_caption_says_which_layers_and_directions_it_shows(run_of):
    run = run_of(layers=3, bidirectional=True)
    lattice = gf.figures.plot_stacked_lattice(analysis.stacked_lattice(run), context="paper")
    assert "3 layers; forward direction" in lattice.get_supxlabel()
    profile = gf.figures.plot_bidirectional_profile(analysis.bidirectional_profile(run), context="paper")
    assert "layer 3 of 3; bidirectional" in profile.get_supxlabel()
