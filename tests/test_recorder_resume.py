"""Resuming: the log of an interrupted run that goes on from a checkpoint is that of one that never stopped."""

import os
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradflow as gf
from gradflow.recording.quantities import labels
from gradflow.runlog import FlushPolicy, RunWriter

T, B, D, H = 5, 4, 3, 4
OPTIONS = {"every": 4, "spectrum_every": 6, "scalars": ["accuracy"], "config": {"lr": 0.1}, "seed": 3}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.recurrent, self.read_out = nn.GRU(D, H), nn.Linear(H, 2)

    def forward(self, x):
        return self.read_out(self.recurrent(x)[0][-1])


def train(path, until, resume=False, stop_at=None, checkpoint_at=None, **options):
    """Train to `until` updates from the checkpoint, if there is one in the folder above; Ctrl-C after `stop_at`."""
    model, saved = Model(), path.parent / "checkpoint.pt"
    optimizer = torch.optim.Adam(model.parameters())
    torch.manual_seed(5)
    start = 0
    if resume is not False and saved.exists():
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        start = state["iteration"]
    with gf.record(model, path, resume=start if resume == "checkpoint" else resume, **OPTIONS | options) as recorder:
        for iteration in range(start, until):
            if iteration == checkpoint_at:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state | {"random": torch.get_rng_state(), "iteration": iteration}, saved)
                recorder.flush()
            loss = F.cross_entropy(model(torch.randn(T, B, D)), torch.randint(0, 2, (B,)))
            optimizer.zero_grad()
            loss.backward()
            clipping = gf.clip_grad_norm_(model.parameters(), 1.0)
            recorder.step(loss.item(), clipping, scalars={"accuracy": iteration / 2})
            optimizer.step()
            if iteration == stop_at:
                raise KeyboardInterrupt
    return recorder


def interrupted(path, **options):
    with pytest.raises(KeyboardInterrupt):
        train(path, 20, stop_at=13, checkpoint_at=10, **options)


def assert_same_logs(path, other):
    one, two = gf.open_run(path), gf.open_run(other)
    assert (one.status, one.iteration) == (two.status, two.iteration)
    for table in ("scalars", "time", "lag", "gates", "spectrum"):
        frames = [run.frame(table).drop(columns="wall_time", errors="ignore") for run in (one, two)]
        assert len(frames[0])
        assert frames[0].equals(frames[1]), table


def test_resumed_from_a_checkpoint_the_log_is_that_of_an_uninterrupted_run(tmp_path):
    """Rows after the checkpoint are dropped, the one recorded at the interruption among them."""
    train(tmp_path / "whole", 20)
    interrupted(tmp_path / "run")
    run = gf.open_run(tmp_path / "run")
    assert (run.status, run.frame("time").iteration.max()) == ("interrupted", 13)
    recorder = train(tmp_path / "run", 20, resume="checkpoint")
    assert recorder.iteration == 20
    assert_same_logs(tmp_path / "run", tmp_path / "whole")
    run = gf.open_run(tmp_path / "run")
    assert run.scalars.wall_time.is_monotonic_increasing
    assert [entry["iteration"] for entry in run.meta["resumptions"]] == [10]
    assert run.meta["created"] <= run.meta["resumptions"][0]["created"]
    assert "missing" not in run.meta["resumptions"][0]
    assert not list((tmp_path / "run" / "gradients").glob(".merge/*/*"))


def test_resumed_twice_and_again_after_the_end(tmp_path):
    train(tmp_path / "whole", 20)
    interrupted(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", 20, resume="checkpoint", stop_at=11)
    train(tmp_path / "run", 20, resume="checkpoint")
    assert_same_logs(tmp_path / "run", tmp_path / "whole")
    model = Model()
    with gf.record(model, tmp_path / "run", resume=True, **OPTIONS) as recorder:
        assert recorder.iteration == 20
    assert_same_logs(tmp_path / "run", tmp_path / "whole")
    assert [entry["iteration"] for entry in gf.open_run(tmp_path / "run").meta["resumptions"]] == [10, 10, 20]


def test_true_goes_on_after_the_last_iteration(tmp_path):
    interrupted(tmp_path / "run")
    model = Model()
    with gf.record(model, tmp_path / "run", resume=True, **OPTIONS) as recorder:
        assert gf.open_run(tmp_path / "run").status == "running"
        assert recorder.iteration == 14
        model(torch.randn(T, B, D)).sum().backward()
        recorder.step()
    run = gf.open_run(tmp_path / "run")
    assert run.scalars.index.tolist() == list(range(15))
    assert run.frame("time").iteration.unique().tolist() == [0, 4, 8, 12, 13, 14]


@pytest.mark.parametrize("resume", [0, True])
def test_the_same_script_starts_a_run_and_goes_on_with_it(resume, tmp_path):
    train(tmp_path / "whole", 6)
    train(tmp_path / "run", 6, resume=resume)
    assert_same_logs(tmp_path / "run", tmp_path / "whole")
    assert "resumptions" not in gf.open_run(tmp_path / "run").meta
    train(tmp_path / "run", 6, resume=0)
    assert_same_logs(tmp_path / "run", tmp_path / "whole")


def test_what_is_removed_is_said(tmp_path, caplog):
    train(tmp_path / "run", 6)
    with gf.record(Model(), tmp_path / "run", resume=4, **OPTIONS):
        assert "resumed at iteration 4: iterations 4 to 5 of the log are removed" in caplog.text


def test_a_log_that_ends_before_the_checkpoint_says_what_it_lacks(tmp_path, caplog):
    interrupted(tmp_path / "run")
    with gf.record(Model(), tmp_path / "run", resume=17, **OPTIONS):
        pass
    assert "resumed at iteration 17, but the log ends before 14" in caplog.text
    assert gf.open_run(tmp_path / "run").meta["resumptions"][0]["missing"] == [14, 16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 5}, r"resume: expected every=4 as .* was recorded, got 5"),
        ({"reduction": "sum"}, r'resume: expected reduction="mean" as .*, got "sum"'),
        ({"scalars": ["f1"]}, r"columns of table 'scalars' .* got none of accuracy and f1 more; resume with the same"),
        ({"quantities": ["log_state_gradient"]}, r"columns of table 'time' .* got none of log_direct_gradient_mean"),
        ({"probe": (1, 2), "criterion": F.mse_loss}, r'resume: expected batch="training" as'),
        ({"resume": -1}, r"resume: expected the number of updates .* got -1"),
        ({"resume": 1.5}, r"resume: expected the number of updates .* got 1.5"),
    ],
)
def test_what_cannot_be_resumed(change, message, tmp_path):
    """Nothing is touched then."""
    interrupted(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    with pytest.raises(ValueError, match=message):
        gf.record(Model(), tmp_path / "run", **OPTIONS | {"resume": 10} | change)
    assert_same_logs(tmp_path / "run", tmp_path / "copy")


def test_a_folder_without_a_run_and_one_that_is_not_to_be_resumed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"resume: expected a recorded run of at least 500 iterations in"):
        gf.record(Model(), tmp_path / "none", resume=500)
    assert not list(tmp_path.iterdir())
    interrupted(tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"holds one; record into another folder, .* resume=True"):
        gf.record(Model(), tmp_path / "run", **OPTIONS)


def test_a_longer_configuration_is_noted(tmp_path):
    interrupted(tmp_path / "run")
    with gf.record(Model(), tmp_path / "run", **OPTIONS | {"resume": True, "config": {"lr": 0.2}}):
        pass
    run = gf.open_run(tmp_path / "run")
    assert run.config == {"lr": 0.1}
    assert run.meta["resumptions"][0]["config"] == {"lr": 0.2}


def write(path, iterations, resume=False, close=True):
    """A log with parts of three iterations each, two tables, merged now and then."""
    policy = FlushPolicy(merge_at=4, large_part=2_000)
    writer = RunWriter(path, meta={}, quantities=labels(["log_state_gradient"]), resume=resume, policy=policy)
    for iteration in range(writer.start, iterations):
        where = {"module": "rnn", "call": 0, "layer": 0, "direction": 0, "time": np.arange(2)}
        writer.append("time", iteration, where | {"log_state_gradient_mean": np.array([iteration, np.nan])})
        writer.append("scalars", iteration, {"loss": iteration})
        if iteration % 3 == 2:
            writer.flush()
    if close:
        writer.close()


class Killed(BaseException):
    """Nothing that anything catches."""


def killed_at(monkeypatch, number):
    """Let everything fail from the n-th rename or removal of a file on, as after kill -9."""
    left = iter(range(number))

    def or_die(call):
        def wrapped(*arguments, **options):
            if next(left, None) is None:
                raise Killed
            return call(*arguments, **options)

        return wrapped

    monkeypatch.setattr(os, "replace", or_die(os.replace))
    monkeypatch.setattr(os, "unlink", or_die(os.unlink))


@pytest.mark.parametrize("start", [0, 7, 14])
@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_killed_while_it_is_cut(start, close, tmp_path, monkeypatch):
    """At every file call: the folder opens, holds all rows before the cut once, and the cut can be done again."""
    write(tmp_path / "made", 15, close=close)
    number, died = 0, True
    while died:
        path = tmp_path / str(number)
        shutil.copytree(tmp_path / "made", path)
        with monkeypatch.context() as patch:
            killed_at(patch, number)
            try:
                RunWriter(path, meta={}, quantities=labels(["log_state_gradient"]), resume=start)
                died = False
            except Killed:
                number += 1
        check(path, start, whole=not died)
        write(path, 16, resume=start)
        check(path, 16, whole=True)
    assert number >= 2


def check(path, least, whole):
    run = gf.open_run(path)
    scalars, time = run.scalars.index.tolist(), run.frame("time", columns=[]).iteration.tolist()
    assert scalars == list(range(len(scalars)))
    assert time == list(np.repeat(np.arange(len(time) // 2), 2))
    flushed = min(least, 15)  # what an unclosed writer brought to disk
    assert len(time) >= 2 * len(scalars) >= 2 * flushed
    if whole:
        assert len(scalars) <= least
        assert len(time) == 2 * len(scalars)


@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_flush_after_the_last_step(every, tmp_path):
    """What the last iteration still adds at the end comes to disk as well."""
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 4)
    with gf.record(layer, tmp_path, every=every) as recorder:
        for _ in range(20):
            layer(torch.randn(5, 2, 3))[0][-1].sum().backward()
            recorder.step()
            recorder.flush()
    run = gf.open_run(tmp_path)
    assert run.status == "finished"
    assert len(run.scalars) == 20
    assert run.frame("time").iteration.unique().tolist() == sorted({*range(0, 20, every), 19})
    assert run.frame("spectrum").iteration.unique().tolist() == [0, 19]
