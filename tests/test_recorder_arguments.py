"""Arguments of the recorder: schedules, and what is refused by its name."""

import logging

import numpy as np
import pytest
import torch
from test_recorder_scripts import B, Model, data, train
from torch import nn

import gradflow as gf


def test_bad_arguments_of_step(tmp_path):
    model = Model()
    with gf.record(model, tmp_path, scalars=["accuracy"]) as recorder:
        model(data()).sum().backward()
        with pytest.raises(ValueError, match=r"'accurcy' is not declared .* record\(..., scalars=\['accurcy'\]\)"):
            recorder.step(scalars={"accurcy": 1.0})
        with pytest.raises(ValueError, match=r"loss: expected one number, got Tensor of shape \[3\]"):
            recorder.step(torch.ones(3))
        with pytest.raises(ValueError, match=r"loss_scale: expected a positive number, got 0"):
            recorder.step(loss_scale=0)
        with pytest.raises(ValueError, match=r"targets: expected a positive number, got -1"):
            recorder.step(targets=-1)
        recorder.step(torch.ones((), requires_grad=True), scalars={"accuracy": torch.tensor(0.5), "lr": np.float32(1)})
    with pytest.raises(RuntimeError, match=r"nothing is watched; call it inside the block"):
        recorder.step()
    scalars = gf.open_run(tmp_path).scalars
    assert scalars[["loss", "accuracy", "lr"]].to_numpy().tolist() == [[1.0, 0.5, 1.0]]


def test_leaving_without_a_step_is_said(tmp_path, caplog):
    with gf.record(Model(), tmp_path):
        pass
    assert "nothing was recorded, because recorder.step was never called" in caplog.text
    run = gf.open_run(tmp_path)
    assert (run.status, len(run.scalars)) == ("finished", 0)


@pytest.mark.parametrize(
    ("every", "message"),
    [
        (2.5, r"every: expected a whole number of at least 1 or a list of iterations, got 2.5"),
        (True, r"every: expected a whole number .* got True"),
        ("10", r"every: expected a whole number .* got '10'"),
        ([-1, 2], r"every: expected a whole number of at least 0, got -1"),
        ([0, 1.5], r"every: expected a whole number of at least 0, got 1.5"),
        ([3, 2], r"every: expected rising iterations, got 2 after 3; sort them"),
        ([2, 2], r"every: expected rising iterations, got 2 after 2"),
    ],
)
def test_bad_schedules(every, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gf.record(Model(), tmp_path, every=every)
    with pytest.raises(ValueError, match="spectrum_" + message):
        gf.record(Model(), tmp_path, spectrum_every=every)


@pytest.mark.parametrize("options", [{"modules": "recurrent"}, {"scalars": "loss2"}, {"quantities": "log_cell_path"}])
def test_text_instead_of_a_list(options, tmp_path):
    with pytest.raises(ValueError, match=rf"{next(iter(options))}: expected a list of names, got the text"):
        gf.record(Model(), tmp_path, **options)
    with pytest.raises(ValueError, match=r'examples: expected a whole number of at least 1 or "all", got 2.5'):
        gf.record(Model(), tmp_path, examples=2.5)


def test_schedules(tmp_path):
    train(Model(nn.RNN), tmp_path / "a", iterations=8, examples="all", spectrum_every=gf.log_spaced(100, 2))
    run = gf.open_run(tmp_path / "a")
    assert run.frame("spectrum").iteration.unique().tolist() == [0, 1, 3, 7]
    assert run.meta["spectrum_every"] == [0, 1, 3, 10, 32, 100]
    assert run.frame("time").valid.unique().tolist() == [B]
    with gf.record(Model(nn.RNN), tmp_path / "b", every=np.array([2, 5])) as recorder:
        logging.getLogger("gradflow").debug("%s", recorder.path)
    assert gf.open_run(tmp_path / "b").meta["every"] == [2, 5]


def test_log_spaced():
    assert gf.log_spaced(0) == [0]
    assert gf.log_spaced(7, per_decade=1) == [0, 1, 7]
    spaced = np.array(gf.log_spaced(10**6)[1:])
    assert len(spaced) == pytest.approx(60, abs=8)
    assert np.diff(np.log(spaced[spaced > 100])).std() < 0.01
    with pytest.raises(ValueError, match=r"last: expected a whole number of at least 0, got 1.5"):
        gf.log_spaced(1.5)
    with pytest.raises(ValueError, match=r"per_decade: expected a whole number of at least 1, got 0"):
        gf.log_spaced(10, 0)


def test_data_parallel_on_several_devices_is_refused(tmp_path):
    model = nn.DataParallel(Model())
    model.device_ids = [0, 1]
    with pytest.raises(
        NotImplementedError,
        match=r"DataParallel on several devices makes new layers .* use torch.nn.parallel.Distributed",
    ):
        gf.record(model, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantities": []}, r"quantities: expected at least one of .* got none; leave it out for all"),
        ({"modules": []}, r"modules: expected at least one of rnn, got none; leave it out to record all"),
    ],
)
def test_nothing_to_record_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gf.record(nn.ModuleDict({"rnn": nn.RNN(3, 4)}), tmp_path, **options)


def test_other_mistakes_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, or a dictionary of them, got str"):
        gf.record("path", nn.RNN(3, 4))
    model = nn.ModuleDict({"rnn": nn.RNN(3, 4)})
    with gf.record(model, tmp_path) as recorder:
        model["rnn"](torch.randn(5, 0, 3))[0].sum().backward()
        recorder.step()
    assert "expected at least one example, got a batch of none; leave it out" in gf.open_run(tmp_path).error
