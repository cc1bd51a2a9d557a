"""Time per update on planted logs: what was recorded or evaluated is left out, and exponents are those of the law."""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import words
from synthetic_runs import config_of

import gradflow as gf
from gradflow import analysis, figures
from gradflow.config import DataConfig
from gradflow.figures.gallery import GALLERY
from gradflow.figures.room import rooms
from gradflow.figures.theme import CONTEXTS, LANGUAGES
from gradflow.recording.quantities import labels
from gradflow.runlog import RunWriter

RECORDING, EVALUATION = 0.5, 2.0


def write_timed(
    path: Path, cell: str, length: int, law, *, every: int = 5, iterations: int = 40, device: str = "cpu", **settings
) -> None:
    """A run whose updates take law(T) seconds, and more where they are recorded or evaluated."""
    config = config_of(cell, **settings)
    config.data = DataConfig(source="adding", length=length)
    meta = {"device": device, "threads": 1}
    writer = RunWriter(
        path, meta=meta, config=asdict(config), scalars=["test_loss"], quantities=labels(["log_state_gradient"])
    )
    now = 3.0
    for iteration in range(iterations):
        evaluated = iteration % 10 == 7
        now += law(length) + EVALUATION * evaluated
        row = {"wall_time": now, "loss": 1.0} | ({"test_loss": 0.5} if evaluated else {})
        writer.append("scalars", iteration, row)
        if iteration % every == 0:
            place = {"module": "recurrent", "call": 0, "layer": 0, "direction": 0}
            writer.append("lag", iteration, place | {"lag": np.arange(length), "valid": 4})
            now += RECORDING
        if iteration % 13 == 0:
            place = {"module": "recurrent", "layer": 0, "direction": 0, "gate": "h"}
            writer.append("spectrum", iteration, place | {"index": np.arange(2)})
            now += RECORDING
    writer.close()


def sweep_of(folder: Path, law, cells=("rnn", "lstm"), lengths=(25, 50, 200), **more):
    for cell in cells:
        for length in lengths:
            write_timed(folder / f"{cell}-{length}", cell, length, law, **more)
    return gf.open_sweep(folder)


def test_only_updates_without_recording_and_evaluation_are_timed(tmp_path: Path):
    data = analysis.compute_time(sweep_of(tmp_path, lambda steps: 1e-3 * steps))
    np.testing.assert_allclose(data[["value", "low", "high"]], 1e-3 * data[["steps"]].to_numpy() * [[1, 1, 1]])
    assert data.set_index(["cell", "length"])["steps"].to_dict() == {
        (cell, length): length for cell in ("rnn", "lstm") for length in (25, 50, 200)
    }
    recorded = {i for i in range(40) if i % 5 == 0 or i % 13 == 0}  # after the row was stamped; evaluated before
    assert set(data["updates"]) == {sum(i - 1 not in recorded and i % 10 != 7 for i in range(1, 40))}
    np.testing.assert_allclose(data["exponent"], 1)
    assert (set(data["device"]), set(data["threads"])) == ({"cpu"}, {1})


@pytest.mark.parametrize(("power", "holds"), [(1.0, True), (0.7, True), (0.0, False), (1.5, False)])
def test_time_must_grow_about_in_proportion(power, holds, tmp_path: Path):
    data = analysis.compute_time(sweep_of(tmp_path, lambda steps: 1e-3 * steps**power))
    (claim,) = analysis.compute_time_claims(data)
    assert (claim["claim"], claim["holds"]) == ("time_grows_with_length", holds)
    assert claim["value"] == pytest.approx(power, abs=1e-6)
    assert (claim["shortest"], claim["longest"]) == ("25", "200")
    assert claim["slower"] == claim["slowest"] == pytest.approx(8**power)
    said = words(figures.plot_compute_time(data, claims=[claim])).replace("\n", " ")
    assert ("was the machine busy?" in said) is not holds
    assert ("Long sequences cost time" in said) is holds, "nothing absurd of times that do not grow"
    lacks = rooms()["compute_time"].lacks(data)
    assert bool(lacks) is not holds
    if lacks:
        assert re.search(
            r"wall_time: expected times that grow .* 0.5 to 1.2 .*, got .*; train again on a machine", lacks
        )


def test_other_work_on_the_machine_hardly_moves_a_time(tmp_path: Path):
    """Five updates in six take three times as long, or more where sequences are short."""
    busy = iter(range(10**6))

    def law(steps: int) -> float:
        return 1e-3 * steps * (1 if next(busy) % 6 == 3 else 3 + 100 / steps)

    data = analysis.compute_time(sweep_of(tmp_path, law, cells=("rnn",), every=20, iterations=200))
    np.testing.assert_allclose(data["value"], 1e-3 * data["steps"])
    assert (data["high"] > 2 * data["value"]).all()


def test_the_flattest_curve_decides_and_nan_does_not_hold(tmp_path: Path):
    sweep_of(tmp_path, lambda steps: 1e-3 * steps, cells=("rnn",))
    data = analysis.compute_time(sweep_of(tmp_path, lambda steps: 1e-3 * steps**0.2, cells=("gru",)))
    (claim,) = analysis.compute_time_claims(data)
    assert (claim["value"], claim["high"], claim["holds"]) == (pytest.approx(0.2), pytest.approx(1), False)
    data.loc[data["cell"] == "gru", "exponent"] = np.nan
    assert not analysis.compute_time_claims(data)[0]["holds"]


def test_one_length_has_a_time_and_no_exponent(tmp_path: Path):
    data = analysis.compute_time(sweep_of(tmp_path, lambda steps: 0.02, lengths=(30,)))
    assert data["exponent"].isna().all()
    assert analysis.compute_time_claims(data) == [], "it says nothing of how time grows"


def test_starts_seeds_and_clippings_of_finished_gradients_are_one_curve(tmp_path: Path):
    for i, (init, clip, seed) in enumerate([("default", "none", 0), ("remember", "norm", 1), ("default", "state", 0)]):
        law = {"state": lambda steps: 9e-3 * steps}.get(clip, lambda steps, i=i: (1 + i) * 1e-3 * steps)
        for length in (25, 100):
            write_timed(tmp_path / f"{i}-{length}", "rnn", length, law, init=init, clip=clip, seed=seed)
    data = analysis.compute_time(gf.open_sweep(tmp_path)).sort_values(["clip", "length"])
    assert data["clip"].tolist() == ["none", "none", "state", "state"]
    assert data["seed"].tolist() == [2, 2, 1, 1]
    np.testing.assert_allclose(data["value"], [0.0375, 0.15, 0.225, 0.9])
    said = words(figures.plot_compute_time(data))
    assert "RNN, states clipped at each step\n" in said


def test_steps_of_ragged_sequences_are_the_mean(tmp_path: Path):
    write_timed(tmp_path / "a", "rnn", 30, lambda steps: 1e-3)
    run = gf.open_run(tmp_path / "a")

    class Ragged:
        meta, config, columns, status, scalars = run.meta, run.config, run.columns, run.status, run.scalars

        def frame(self, table, columns=None):
            frame = run.frame(table, columns)
            return frame.assign(valid=np.where(frame["lag"] < 10, 4, 1)) if table == "lag" else frame

    assert analysis.compute_time(Ragged())["steps"].item() == (4 * 10 + 20) / 4


def test_a_log_where_everything_was_recorded_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"updates in which nothing was recorded, got none .* record\(every=10\)"):
        analysis.compute_time(sweep_of(tmp_path, lambda steps: 1e-3, cells=("rnn",), every=1))


def test_machines_are_not_mixed(tmp_path: Path):
    sweep_of(tmp_path, lambda steps: 1e-3, cells=("rnn",))
    with pytest.raises(
        ValueError, match=r"device: expected one for all runs, got \['cpu', 'cuda:0'\]; time each apart"
    ):
        analysis.compute_time(sweep_of(tmp_path, lambda steps: 1e-3, cells=("lstm",), device="cuda:0"))


def test_a_gap_in_the_log_is_no_update(tmp_path: Path):
    write_timed(tmp_path / "a", "rnn", 30, lambda steps: 1e-3)
    run = gf.open_run(tmp_path / "a")

    class Gap:
        meta, config, columns, status, scalars = run.meta, run.config, run.columns, run.status, run.scalars

        def frame(self, table, columns=None):
            frame = run.frame(table, columns)
            return frame[~frame["iteration"].isin([18, 19])]

    assert analysis.compute_time(Gap())["updates"].item() == analysis.compute_time(run)["updates"].item() - 3


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_several_lengths_are_drawn_with_what_the_longest_cost(lang, context, tmp_path: Path):
    cells = ("linear", "rnn", "lstm", "gru")
    data = analysis.compute_time(sweep_of(tmp_path, lambda steps: 1e-3 * steps, cells=cells))
    figure = figures.plot_compute_time(data, claims=analysis.compute_time_claims(data), lang=lang, context=context)
    said = words(figure)
    for text in {"en": ("×8\n", "×8 the steps"), "zh": ("×8\n", "步数 ×8")}[lang]:
        assert text in said + "\n"
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert min(box.x0, box.y0) >= -1
        assert np.all(box.max <= figure.bbox.max + 1)


def test_the_gallery_draws_it_of_several_lengths(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("gradflow.figures.gallery.GALLERY", {"compute_time": GALLERY["compute_time"]})
    sweep_of(tmp_path / "runs", lambda steps: 1e-3 * steps, cells=("rnn",))
    files = figures.draw_all(tmp_path / "runs", tmp_path / "out", context="paper")
    assert [file.name for file in files] == [f"compute_time.{kind}" for kind in ("png", "pdf", "svg", "csv", "json")]
    assert len(pd.read_csv(files[3])) == 3


def test_a_recorded_training_run_is_timed(tmp_path: Path):
    import torch

    layer = torch.nn.RNN(3, 8)
    with gf.record(layer, tmp_path, every=5, spectrum_every=100) as recorder:
        for _ in range(12):
            layer(torch.randn(9, 4, 3))[0][-1].mean().backward()
            recorder.step()
    data = analysis.compute_time(gf.open_run(tmp_path))
    wall, busy = gf.open_run(tmp_path).scalars["wall_time"].to_numpy(), {0, 5, 10, 11}
    expected = np.quantile([wall[i] - wall[i - 1] for i in range(1, 12) if i - 1 not in busy], 0.1)
    assert data["value"].item() == pytest.approx(expected)
    assert data["steps"].item() == 9


@pytest.mark.parametrize(("shortest", "holds"), [(3, True), (10, False)])
def test_the_fixed_cost_of_an_update_may_outweigh_a_few_steps_only(shortest, holds, tmp_path: Path):
    data = analysis.compute_time(sweep_of(tmp_path, lambda steps: 1e-3 * steps**0.4, lengths=(shortest, 100)))
    [claim] = analysis.compute_time_claims(data)
    assert claim["value"] == pytest.approx(0.4)
    assert claim["holds"] == holds
