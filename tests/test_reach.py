"""How far each setting learns: planted runs whose answer is known, the claims on them, and the figure."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gradflow as gf
from gradflow import analysis, figures
from gradflow.analysis.runs import identity, treatment_of
from gradflow.config import CellConfig, ClipConfig, Config, DataConfig, InitConfig, OmegaConfig, Source
from gradflow.figures.catalogue import Labels
from gradflow.recording.quantities import labels
from gradflow.report.figures import sections_of
from gradflow.runlog import RunWriter

LENGTHS, SEEDS = (10, 20, 40), 4
SUCCESS = {"quantity": "test_accuracy", "threshold": 0.99, "source": "test"}


def write(path: Path, config: Config, factor: float, accuracies: list[float], state: str = "finished", **meta) -> None:
    """A run whose gradient shrinks by `factor` per step, and what was measured on its test set, one value a row."""
    meta = {"chance": 0.25, "chance_loss": 1.4, "success": SUCCESS, **meta}
    quantities = ["log_relative_gradient"]
    scalars = ["test_accuracy", "test_loss"]
    writer = RunWriter(
        path, meta=meta, config=asdict(config), seed=config.seed, scalars=scalars, quantities=labels(quantities)
    )
    for iteration, accuracy in enumerate(accuracies):
        writer.append("scalars", iteration, {"loss": 1.0, "test_accuracy": accuracy, "test_loss": 1 - accuracy})
    lag = np.arange(config.data.length)
    values = {f"log_relative_gradient_{q}": lag * np.log(factor) for q in ("q10", "q50", "q90")}
    rows = {"module": "recurrent", "call": 0, "layer": 0, "direction": 0, "lag": lag, "valid": 8, **values}
    if accuracies:
        writer.append("lag", len(accuracies) - 1, rows)
    writer.close(state)


def settings(length: int, seed: int = 0, init: str = "default", clip: str = "none", omega: float = 0.0) -> Config:
    return Config(
        data=DataConfig(Source.recall_first, length=length),
        cell=CellConfig(),
        init=InitConfig(init),
        clip=ClipConfig(clip),
        omega=OmegaConfig(omega),
        seed=seed,
    )


@pytest.fixture
def sweep(tmp_path):
    """Default solves T = 10 with half of its seeds; orthogonal solves everything but one seed at T = 40."""
    for length in LENGTHS:
        for seed in range(SEEDS):
            solved = length == 10 and seed < 2
            write(tmp_path / f"d{length}-{seed}", settings(length, seed), 0.5, [0.3, 1.0 if solved else 0.3, 0.5])
            solved = length < 40 or seed > 0
            write(tmp_path / f"o{length}-{seed}", settings(length, seed, "orthogonal"), 0.9, [0.3, solved * 1.0])
    return gf.open_sweep(tmp_path)


def test_success_is_that_of_any_evaluation_and_has_wilsons_interval(sweep):
    data = analysis.accuracy_by_lag(sweep).set_index(["init", "lag"])
    assert data["value"].to_dict() == {
        ("default", 9): 0.5,
        ("default", 19): 0.0,
        ("default", 39): 0.0,
        ("orthogonal", 9): 1.0,
        ("orthogonal", 19): 1.0,
        ("orthogonal", 39): 0.75,
    }
    assert tuple(data.loc[("default", 9), ["low", "high"]]) == analysis.wilson_interval(0.5, 4)
    assert data["seed"].eq(4).all()
    assert data.loc["default", "iterations"].eq(3).all()
    assert data.loc["default", "factor"].tolist() == pytest.approx([0.5] * 3)
    assert data.loc["default", "horizon"].tolist() == pytest.approx([np.log(1e-3) / np.log(0.5)] * 3)


def test_accuracy_and_loss_are_those_of_the_end(sweep):
    accuracy = analysis.accuracy_by_lag(sweep, "accuracy").set_index(["init", "lag"])
    assert accuracy.loc[("default", 9), ["value", "chance"]].tolist() == [0.5, 0.25]
    assert tuple(accuracy.loc[("default", 9), ["low", "high"]]) == analysis.wilson_interval(0.5, 1000)
    best, worst = (analysis.wilson_interval(share, 1000) for share in (1, 0))
    assert accuracy.loc[("orthogonal", 39), ["value", "low", "high"]].tolist() == [0.75, worst[0], best[1]]
    loss = analysis.accuracy_by_lag(sweep, "loss").set_index(["init", "lag"])
    assert loss.loc[("orthogonal", 19), ["value", "chance"]].tolist() == [0.0, 1.4]
    with pytest.raises(ValueError, match="quantity: expected one of success, accuracy, loss, got 'speed'"):
        analysis.accuracy_by_lag(sweep, "speed")


def test_runs_that_broke_count_as_not_solved(tmp_path):
    write(tmp_path / "a", settings(10), 0.5, [1.0])
    write(tmp_path / "b", settings(10, 1), 0.5, [0.3, np.nan], "diverged")
    write(tmp_path / "c", settings(10, 2), 0.5, [1.0, np.nan], "diverged")
    write(tmp_path / "d", settings(10, 3), 0.5, [], "failed")
    data = analysis.accuracy_by_lag(gf.open_sweep(tmp_path), "success")
    assert data[["seed", "value"]].iloc[0].tolist() == [3, pytest.approx(2 / 3)]
    solved = [analysis.solved_at(run) for run in gf.open_sweep(tmp_path).members]
    assert solved == [0, None, 0, None]
    loss = {"quantity": "test_loss", "threshold": 0.1, "source": ""}
    write(tmp_path / "e", settings(10, 4), 0.5, [0.5, 0.95, 0.5], success=loss)
    assert analysis.solved_at(gf.open_run(tmp_path / "e")) == 1


def test_a_task_without_a_criterion_has_an_accuracy_and_no_success_rate(sweep, tmp_path):
    write(tmp_path / "names", settings(10, seed=9), 0.5, [0.3], success=None)
    assert set(analysis.accuracy_by_lag([*sweep.members, gf.open_run(tmp_path / "names")])["quantity"]) == {"accuracy"}


def test_few_seeds_have_an_accuracy_and_no_success_rate(sweep):
    assert set(analysis.accuracy_by_lag(sweep)["quantity"]) == {"success"}
    two = [run for run in sweep.members if run.config["seed"] < 2]
    assert set(analysis.accuracy_by_lag(two)["quantity"]) == {"accuracy"}


def test_nothing_recorded_is_an_error(tmp_path):
    write(tmp_path / "d", settings(10), 0.5, [], "failed")
    with pytest.raises(ValueError, match="source: expected runs with evaluations"):
        analysis.accuracy_by_lag(gf.open_sweep(tmp_path))


def test_claims_follow_the_data(sweep):
    data = analysis.accuracy_by_lag(sweep)
    ranks, falls = analysis.accuracy_by_lag_claims(data)
    assert (ranks["claim"], ranks["value"], ranks["holds"]) == ("horizon_ranks", 1.0, True)
    assert (falls["claim"], falls["holds"]) == ("falls_with_lag", True)
    swapped = data.assign(horizon=1 / data["horizon"])
    assert not analysis.accuracy_by_lag_claims(swapped)[0]["holds"]
    rising = data.assign(low=data["lag"] / 100, high=data["lag"] / 100 + 0.01)
    assert not analysis.accuracy_by_lag_claims(rising)[1]["holds"]
    one = analysis.accuracy_by_lag_claims(data[data["init"] == "default"])
    assert (one[0]["claim"], one[0]["holds"]) == ("learns_the_longest", False)
    solved = analysis.accuracy_by_lag_claims(data[data["init"] == "orthogonal"])[0]
    assert (solved["claim"], solved["value"], solved["holds"]) == ("learns_the_longest", 0.75, True)


def test_a_gradient_that_reaches_is_not_enough_to_learn(sweep):
    data = analysis.accuracy_by_lag(sweep)
    assert "variant" not in analysis.accuracy_by_lag_claims(data)[0]
    lost = (data["init"] == "orthogonal") & (data["lag"] == 39)
    ranks = analysis.accuracy_by_lag_claims(data.assign(value=data["value"].mask(lost, 0.0)))[0]
    assert (ranks["missed"], ranks["reached"]) == (39, pytest.approx(np.log(1e-3) / np.log(0.9)))
    assert "RNN, orthogonal reaches 65.6 steps and is at chance at 39." in Labels("en").claim(ranks)


def test_claims_on_remedies(sweep):
    """Of one cell under several treatments."""
    data = analysis.accuracy_by_lag(sweep)
    three = [
        data.assign(clip=clip, value=value) for clip, value in (("none", 0.1), ("norm", 0.4), ("norm, omega", 1.0))
    ]
    helps = analysis.accuracy_by_lag_claims(pd.concat(three))[0]
    assert (helps["claim"], helps["value"], helps["none"], helps["norm"], helps["holds"]) == (
        "remedies_help",
        1.0,
        pytest.approx(0.1),
        pytest.approx(0.4),
        True,
    )
    assert not analysis.accuracy_by_lag_claims(pd.concat([three[0].assign(value=0.5), *three[1:]]))[0]["holds"]
    one_network = pd.concat(three[:2]).query("init == 'default'")
    two = analysis.accuracy_by_lag_claims(one_network)[0]
    assert (two["claim"], two["holds"]) == ("clipping_helps", True)
    assert "0.1 without" in Labels("en").claim(two)


@pytest.mark.parametrize(("quantity", "lang"), [("success", "en"), ("accuracy", "zh"), ("loss", "en")])
def test_figure_of_several_lengths(sweep, quantity, lang, tmp_path):
    data = analysis.accuracy_by_lag(sweep, quantity)
    claims = analysis.accuracy_by_lag_claims(data)
    figure = figures.plot_accuracy_by_lag(data, claims=claims, lang=lang, context="paper")
    assert len(figure.axes) == 1  # two networks without clipping
    both = pd.concat([data, data.assign(clip="norm")])
    by_network = figures.plot_accuracy_by_lag(both, claims=claims, lang=lang, context="paper")
    assert len(by_network.axes) == 2
    many = pd.concat([both, both.assign(cell="lstm")])
    assert len(figures.plot_accuracy_by_lag(many, claims=claims, lang=lang, context="paper").axes) == 2  # by clipping
    assert len(figures.save(figure, tmp_path / "f", data=data, claims=claims)) == 5


def test_gallery_draws_it_where_lengths_differ(sweep, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    entry = {name: e for name, e in figures.gallery.GALLERY.items() if name == "accuracy_by_lag"}
    monkeypatch.setattr("gradflow.figures.gallery.GALLERY", entry)
    assert not figures.draw_all(sweep.path, tmp_path / "out", context="paper"), "three lags make no curve"
    assert "lag: expected 4 or more for a curve, got 3; asked for by name it is drawn" in caplog.text
    sections, left_out = sections_of(figures.gallery.tried(sweep.members, entry))  # those of a report
    assert sections == []
    assert ["got 3; asked for by name" in one.reason for one in left_out] == [True]
    files = figures.draw_all(sweep.path, tmp_path / "out", only=["accuracy_by_lag"], context="paper")
    assert [file.name for file in files if file.suffix == ".png"] == ["accuracy_by_lag.png"]
    write(tmp_path / "four", settings(80), 0.5, [0.3])
    assert figures.draw_all(sweep.path, tmp_path / "out", context="paper")
    assert not figures.draw_all(sweep.members[0].path, tmp_path / "one", context="paper")


def test_what_acts_on_the_gradient_is_part_of_who_a_run_is(tmp_path):
    config = settings(10, clip="norm", omega=4.0)
    write(tmp_path / "r", config, 0.5, [1.0])
    assert identity(gf.open_run(tmp_path / "r"))["clip"] == "norm, omega"
    assert treatment_of(asdict(replace(config, clip=ClipConfig()))) == "none, omega"
    assert Labels("en").clip("norm, omega") == "norm clipped + Ω"
    assert Labels("en").clip("none, omega") == "Ω"
    assert Labels("zh").clip("state") == "逐步截断状态梯度"
