"""One line: `gf.record(model, path, optimizer=optimizer)` makes the log of a hand-written loop, and closes it."""

import contextlib
import copy
import gc
import logging
import math
import multiprocessing
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import gradflow as gf
from gradflow.recording import ending

T, B, D, H = 6, 5, 3, 4


class Model(nn.Module):
    def __init__(self, kind=nn.GRU, out=2):
        super().__init__()
        torch.manual_seed(0)
        self.recurrent, self.read_out = kind(D, H), nn.Linear(H, out)

    def forward(self, x):
        return self.read_out(self.recurrent(x)[0])


def data(seed):
    return torch.randn(T, B, D, generator=torch.Generator().manual_seed(seed))


def loss_of(model, seed):
    return model(data(seed)).square().mean()


def assert_same_logs(path, other, *, but=(), rtol=1e-6, atol=1e-6, status="finished"):
    one, two = gf.open_run(path), gf.open_run(other)
    assert one.status == two.status == status
    for table in ("scalars", "time", "lag", "gates", "spectrum", "proof"):
        mine, theirs = one.frame(table), two.frame(table)
        assert len(mine) == len(theirs)
        for name in mine.columns.difference(["wall_time", *but]):
            if mine[name].dtype.kind in "if":
                np.testing.assert_allclose(mine[name], theirs[name], rtol=rtol, atol=atol, err_msg=f"{table}.{name}")


def train(model, path=None, *, way="one line", iterations=7, make=torch.optim.Adam, clip=None, **options):
    """A usual loop, plain, with one line, or recorded by hand."""
    optimizer = make(model.parameters(), lr=0.01)
    recorder = None
    if way == "one line":
        recorder = gf.record(model, path, optimizer=optimizer, **options)
    elif way == "by hand":
        recorder = gf.record(model, path, **options).__enter__()
    for seed in range(iterations):
        loss = loss_of(model, seed)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            clip(model.parameters())
        if way == "one line":
            recorder.log(loss)
        elif way == "by hand":
            recorder.step(loss.item(), scalars={"lr": 0.01})
        optimizer.step()
    if recorder:
        recorder.close()
    return model


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, gf.GRU])
def test_the_log_is_that_of_a_hand_written_loop(kind, tmp_path):
    clip = lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.05)  # noqa: E731
    plain = train(Model(kind), way="plain", clip=clip)
    recorded = train(Model(kind), tmp_path / "line", every=3, clip=clip)
    train(Model(kind), tmp_path / "hand", way="by hand", every=3, clip=clip)
    assert_same_logs(tmp_path / "line", tmp_path / "hand")
    run = gf.open_run(tmp_path / "line")
    assert run.proof == "proved"
    assert run.meta["optimizers"] == {"0": "Adam"}
    assert sorted(run.frame("time").iteration.unique()) == [0, 3, 6]
    assert run.scalars.clipped.tolist() == [float(norm > math.log(0.05)) for norm in run.scalars.log_grad_norm_before]
    for mine, other in zip(recorded.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert not recorded.recurrent._forward_hooks


def test_the_with_form_works_with_it(tmp_path):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with contextlib.suppress(ZeroDivisionError), gf.record(model, tmp_path, optimizer=optimizer):
        for seed in range(2):
            loss_of(model, seed).backward()
            optimizer.step()
        raise ZeroDivisionError("by zero")
    run = gf.open_run(tmp_path)
    assert (run.status, run.error, len(run.scalars)) == ("failed", "ZeroDivisionError: by zero", 2)
    assert run.scalars.loss.isna().all()
    optimizer.step()
    assert len(gf.open_run(tmp_path).scalars) == 2


def test_what_is_told_beside_the_loss(tmp_path):
    """Lengths, targets, a share of accumulated gradients and scalars are those of `step`."""
    lengths, scalars = [6, 3, 2, 6, 1], ["accuracy", "other"]
    told = {"lengths": lengths, "targets": 3, "loss_scale": 0.5}

    def backward(model):
        out = model(data(0))
        (0.5 * sum(out[:length, b].square().sum() for b, length in enumerate(lengths))).backward()

    model = Model()
    with gf.record(model, tmp_path / "hand", scalars=scalars) as recorder:
        backward(model)
        recorder.step(2.0, scalars={"accuracy": 0.5, "other": 1.0, "lr": 0.1}, **told)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gf.record(model, tmp_path / "line", optimizer=optimizer, scalars=scalars) as recorder:
        backward(model)
        recorder.log(torch.tensor(2.0), scalars={"accuracy": 0.5}, **told)
        recorder.log(scalars={"other": torch.ones(())})
        with pytest.raises(ValueError, match=r"'accurcy' is not declared"):
            recorder.log(scalars={"accurcy": 1.0})
        with pytest.raises(ValueError, match=r"targets: expected a positive number, got 0"):
            recorder.log(targets=0)
        optimizer.step()
        backward(model)
        optimizer.step()
    run = gf.open_run(tmp_path / "line")
    assert run.scalars.loss.isna().tolist() == run.scalars.accuracy.isna().tolist() == [False, True]
    hand, line = (gf.open_run(tmp_path / name).frame("lag") for name in ("hand", "line"))
    line = line[line.iteration == 0]
    assert line.log_state_gradient_q50.to_numpy() == pytest.approx(hand.log_state_gradient_q50.to_numpy(), abs=1e-6)
    assert line.valid.tolist() == hand.valid.tolist()


def test_each_form_refuses_the_words_of_the_other(tmp_path):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gf.record(model, tmp_path / "line", optimizer=optimizer) as recorder:
        loss_of(model, 0).backward()
        with pytest.raises(
            RuntimeError, match=r"step: each optimizer.step\(\) records its iteration already; use recor"
        ):
            recorder.step(1.0)
        optimizer.step()
    with gf.record(model, tmp_path / "loop") as recorder:
        with pytest.raises(
            RuntimeError, match=r"log: no optimizer.step\(\) will record this; give it to recorder.step"
        ):
            recorder.log(1.0)
        loss_of(model, 0).backward()
        recorder.step()


class Wrapper(torch.optim.Optimizer):
    """An optimiser in name, as libraries put around torch's."""

    def __init__(self):
        pass


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (
            lambda o: "adam",
            TypeError,
            r"optimizer: expected a torch.optim.Optimizer, or a list or .* got str; pass the",
        ),
        (lambda o: [o, None], TypeError, r"optimizer: expected a torch.optim.Optimizer, .* got NoneType"),
        (lambda o: Wrapper(), TypeError, r"got Wrapper; pass the one that it wraps"),
        (lambda o: [o, o], ValueError, r"optimizer: expected at least one, each once, got 2"),
        (lambda o: {}, ValueError, r"optimizer: expected at least one, each once, got 0"),
    ],
)
def test_what_is_no_optimiser_is_refused_by_name(optimizer, error, message, tmp_path):
    model = Model()
    with pytest.raises(error, match=message):
        gf.record(model, tmp_path, optimizer=optimizer(torch.optim.SGD(model.parameters(), lr=0.1)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, or a dictionary of them, got int"):
        gf.record({"a": 1}, tmp_path)


# --- Closures --------------------------------------------------------------------------------------------------------


def lbfgs(model):
    return torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")


@pytest.mark.parametrize("as_keyword", [False, True])
@pytest.mark.parametrize("make", [lbfgs, lambda model: torch.optim.SGD(model.parameters(), lr=0.1)])
def test_a_closure_makes_a_row_per_update(make, as_keyword, tmp_path):
    """That of its first evaluation, at the weights that the update begins with, with the loss that it returned."""

    def run(path=None, by_hand=False):
        model, evaluations = Model(nn.LSTM), []
        optimizer = make(model)
        options = {"every": 1, "examples": B}
        recorder = gf.record(model, path, optimizer=None if by_hand else optimizer, **options) if path else None
        if by_hand:
            recorder.__enter__()
        for seed in range(3):

            def closure(seed=seed):
                optimizer.zero_grad()
                loss = loss_of(model, seed)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
                evaluations.append(loss.item())
                return loss

            if by_hand:
                loss = closure()
                recorder.step(loss, scalars={"lr": optimizer.param_groups[0]["lr"]})
                optimizer.step(closure)
                recorder._watcher._forget()  # what the step evaluated
                recorder._rows.arrivals.forget()
            elif as_keyword:
                optimizer.step(closure=closure)
            else:
                optimizer.step(closure)
        if recorder:
            recorder.close()
        return model, evaluations

    plain, expected = run()
    recorded, evaluations = run(tmp_path / "line")
    run(tmp_path / "hand", by_hand=True)
    assert evaluations == expected
    for mine, other in zip(recorded.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert_same_logs(tmp_path / "line", tmp_path / "hand")
    log = gf.open_run(tmp_path / "line")
    assert len(log.scalars) == 3
    assert log.proof == "proved"
    assert (log.scalars.clipped == (log.scalars.log_grad_norm_before > math.log(0.05))).all()
    if make is lbfgs:
        assert len(expected) > 6
    else:
        assert log.scalars.loss.tolist() == expected


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_closure_that_raises_leaves_all_as_it_was(fails_at, tmp_path):
    """In the evaluation that would be recorded, and in one that is not seen."""
    model = Model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    calls = []

    def closure():
        calls.append(len(calls))
        if calls[-1] == fails_at:
            raise ZeroDivisionError
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    with gf.record(model, tmp_path, optimizer=optimizer, every=1):
        with pytest.raises(ZeroDivisionError):
            optimizer.step(closure)
        optimizer.state.clear()  # torch's own is left half made
        optimizer.step(closure)
    assert len(gf.open_run(tmp_path).scalars) == 1 + fails_at


class Twice(torch.optim.SGD):
    """A subclass whose step goes around that of its parent: torch calls hooks for both."""

    def step(self, closure=None):
        return super().step(closure)


@pytest.mark.parametrize("with_closure", [False, True])
def test_the_step_of_a_subclass_makes_one_row(with_closure, tmp_path, caplog):
    model = Model()
    torch.optim.SGD(model.parameters(), lr=0.1)  # torch hooks into the parent's step when one is made
    optimizer = Twice(model.parameters(), lr=0.1)
    seeds = iter(range(3))

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, next(seeds))
        loss.backward()
        return loss

    with gf.record(model, tmp_path, optimizer=optimizer):
        for _ in range(3):
            if with_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
    assert len(gf.open_run(tmp_path).scalars) == 3
    assert not caplog.records


# --- Several optimisers, several models ------------------------------------------------------------------------------


def test_alternating_optimisers(tmp_path):
    """A GAN: the discriminator's update, then the generator's; the norms are of the gradients that came for each."""
    generator, discriminator = Model(nn.GRU, out=D), Model(nn.LSTM, out=1)
    models = {"generator": generator, "discriminator": discriminator}
    optimizers = {
        name: torch.optim.SGD(model.parameters(), lr=0.1 * i) for i, (name, model) in enumerate(models.items(), 1)
    }
    expected = []
    with gf.record(models, tmp_path, optimizer=optimizers, every=1) as recorder:
        for seed in range(3):
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            fake = generator(data(seed)).detach()
            (discriminator(data(9)).mean() - discriminator(fake).mean()).backward()
            recorder.log(0.5)
            expected.append(math.hypot(*(float(p.grad.norm()) for p in discriminator.parameters())))
            optimizers["discriminator"].step()
            for optimizer in optimizers.values():
                optimizer.zero_grad(set_to_none=False)
            discriminator(generator(data(seed))).mean().backward()
            nn.utils.clip_grad_norm_(generator.parameters(), 1e-3)
            of_all = [*generator.parameters(), *discriminator.parameters()]
            expected.append(math.hypot(*(float(p.grad.norm()) for p in of_all)))
            optimizers["generator"].step()
    run = gf.open_run(tmp_path)
    assert run.meta["optimizers"] == {"generator": "SGD", "discriminator": "SGD"}
    assert run.scalars.optimizer.tolist() == [1, 0] * 3
    assert run.scalars.lr.tolist() == pytest.approx([0.2, 0.1] * 3)
    assert run.scalars.loss.isna().tolist() == [False, True] * 3
    assert np.exp(run.scalars.log_grad_norm_after).tolist() == pytest.approx(expected, rel=1e-5)
    assert run.scalars.clipped.tolist() == [0, 1] * 3
    assert run.proof == "proved"
    calls = run.frame("time").groupby(["iteration", "module"]).call.nunique().to_dict()
    of_each = [{"discriminator.recurrent": 2}, {"discriminator.recurrent": 1, "generator.recurrent": 1}] * 3
    assert calls == {(i, name): count for i, counts in enumerate(of_each) for name, count in counts.items()}


def test_two_optimisers_of_one_loss_make_one_row(tmp_path, caplog):
    """Encoder and decoder, stepped one after the other: no second row, and no complaint."""
    model = nn.ModuleDict({"encoder": Model(out=D), "decoder": Model()})
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in model.values()]
    with gf.record(model, tmp_path, optimizer=optimizers, every=1):
        for seed in range(3):
            model.zero_grad()
            model["decoder"](model["encoder"](data(seed))).square().mean().backward()
            for part in model.values():
                nn.utils.clip_grad_norm_(part.parameters(), 1e-3)
            for optimizer in optimizers:
                optimizer.step()
    run = gf.open_run(tmp_path)
    assert run.scalars.optimizer.tolist() == [0, 0, 0]
    assert run.scalars.clipped.tolist() == [1, 1, 1]
    assert run.scalars.coefficient.isna().all()
    assert not caplog.records


def test_steps_without_a_backward_pass_are_said_once(tmp_path, caplog):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gf.record(model, tmp_path, optimizer=optimizer):
        optimizer.step()
        optimizer.step()
        loss_of(model, 0).backward()
        optimizer.step()
    (told,) = caplog.records
    assert (
        "an optimizer.step() has no row, which is said once: no recurrent layer of the model ran" in told.getMessage()
    )
    assert len(gf.open_run(tmp_path).scalars) == 1


def test_nothing_recorded_is_said(tmp_path, caplog):
    model = Model()
    gf.record(model, tmp_path, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)).close()
    assert "nothing was recorded, because no optimizer.step() came after a backward pass" in caplog.text


def test_a_probe(tmp_path):
    """Rows of a fixed batch, at the weights of their updates."""
    for name, way in (("line", "one line"), ("hand", "by hand")):
        options = {"probe": (data(9), None), "criterion": lambda out, _: out.square().mean(), "every": 2}
        train(Model(), tmp_path / name, way=way, **options)
    assert_same_logs(tmp_path / "line", tmp_path / "hand")


def test_learning_rates_that_differ_are_not_one(tmp_path):
    model = Model()
    groups = [{"params": model.recurrent.parameters(), "lr": 0.1}, {"params": model.read_out.parameters(), "lr": 0.2}]
    optimizer = torch.optim.SGD(groups)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with gf.record(model, tmp_path, optimizer=optimizer) as recorder:
        loss_of(model, 0).backward()
        recorder.log(scalars={"lr": 0.1})
        optimizer.step()
        scheduler.step()
        loss_of(model, 1).backward()
        optimizer.step()
    assert gf.open_run(tmp_path).scalars.lr.tolist() == pytest.approx([0.1, math.nan], nan_ok=True)


# --- Mixed precision -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_the_scale_of_a_grad_scaler_is_known(clip, fused, tmp_path):
    """Whoever unscales: the log is that of training without a scaler; a skipped update has no row."""

    def run(path, scale=None):
        model = Model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        with gf.record(model, path, optimizer=optimizer, every=1, examples=B):
            for seed in range(3):
                optimizer.zero_grad()
                loss = loss_of(model, seed) * (math.inf if seed == 1 and not fused else 1)
                if scale is None and seed == 1 and not fused:
                    continue
                scaler.scale(loss).backward()
                if clip:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(model.parameters(), 0.05)
                scaler.step(optimizer)
                scaler.update()

    run(tmp_path / "plain")
    run(tmp_path / "scaled", scale=2.0**10)
    assert_same_logs(tmp_path / "scaled", tmp_path / "plain", rtol=1e-5, atol=1e-5)
    scalars = gf.open_run(tmp_path / "scaled").scalars
    assert len(scalars) == (3 if fused else 2)
    assert scalars.clipped.tolist() == [float(clip)] * len(scalars)


# --- The end ---------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
import gradflow as gf

model = torch.nn.ModuleDict({"rnn": torch.nn.RNN(3, 4)})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
gf.record(model, sys.argv[1], optimizer=optimizer, every=2)

def step():
    optimizer.zero_grad()
    model["rnn"](torch.randn(5, 2, 3))[0].sum().backward()
    optimizer.step()

for iteration in range(4):
    step()
"""
ENDS = {
    "failed": ("raise ValueError('by itself')", ("failed", "ValueError: by itself")),
    "interrupted": ("raise KeyboardInterrupt", ("interrupted", None)),
    "forked, and went on after an error at a prompt": (
        "import code, os\nif os.fork() == 0:\n    sys.exit()\nos.wait()\n"
        "code.InteractiveInterpreter().runsource('1 / 0')\nstep()",
        ("finished", None),
    ),
}


def test_a_fork_leaves_the_log_alone(tmp_path, monkeypatch):
    kept = begun(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("os.getpid", lambda: -1)
        ending._close_all()
    assert gf.open_run(tmp_path).status == "running"
    ending._close_all()
    assert gf.open_run(tmp_path).status == "finished"
    assert not kept[1]._optimizer_step_pre_hooks


def test_a_fork_that_goes_on_training_is_not_stopped(tmp_path, caplog):
    model, optimizer = begun(tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for seed in range(2):
                loss_of(model, seed).backward()
                optimizer.step()
            code = 0 if caplog.text.count("was forked from the one that records") == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loss_of(model, 3).backward()
    optimizer.step()
    del model, optimizer
    gc.collect()
    run = gf.open_run(tmp_path)
    assert (run.status, run.error, len(run.scalars)) == ("finished", None, 4)


@pytest.mark.slow
def test_the_end_of_a_process_of_multiprocessing_ends_the_log(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=begun, args=(tmp_path,))
    process.start()
    process.join()
    assert gf.open_run(tmp_path).status == "finished"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ("finished", None)),
        (ValueError("by itself"), ("failed", "ValueError: by itself")),
        (KeyboardInterrupt(), ("interrupted", None)),
    ],
)
def test_what_the_program_ended_by_is_the_status(error, expected, tmp_path, monkeypatch):
    """What the interpreter leaves in `sys.last_value`; an error that training went on after is none."""
    monkeypatch.setattr(sys, "last_value", ZeroDivisionError(), raising=False)
    monkeypatch.delattr(sys, "last_exc", raising=False)
    kept = begun(tmp_path)
    if error is not None:
        monkeypatch.setattr(sys, "last_value", error)
    ending._close_all()
    run = gf.open_run(tmp_path)
    assert (run.status, run.error) == expected
    assert not kept[1]._optimizer_step_pre_hooks


@pytest.mark.parametrize(
    ("last", "expected"),
    [pytest.param(*end, marks=[pytest.mark.slow] * (name != "failed")) for name, end in ENDS.items()],
)
def test_the_end_of_the_program_ends_the_log(last, expected, tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT + last, str(tmp_path)], capture_output=True, text=True)
    run = gf.open_run(tmp_path)
    assert (run.status, run.error) == expected, done.stderr
    assert len(run.scalars) == 4 + last.endswith("step()"), done.stderr
    assert run.frame("time").iteration.max() == len(run.scalars) - 1  # the last iteration is there, due or not


def begun(path, **options):
    """Recorded in one line that nobody keeps."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gf.record(model, path, optimizer=optimizer, **options)
    for seed in range(3):
        loss_of(model, seed).backward()
        optimizer.step()
    return model, optimizer


def test_the_log_ends_with_model_and_optimiser(tmp_path):
    kept = begun(tmp_path, every=2)
    gc.collect()
    assert gf.open_run(tmp_path).status == "running"
    model = weakref.ref(kept[0])
    del kept
    gc.collect()
    assert model() is None
    run = gf.open_run(tmp_path)
    assert (run.status, len(run.scalars)) == ("finished", 3)
    assert sorted(run.frame("time").iteration.unique()) == [0, 2]


def test_a_loss_that_is_not_finite_is_told_at_the_end(tmp_path):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = gf.record(model, tmp_path, optimizer=optimizer)
    for loss in (1.0, math.nan, math.nan):
        loss_of(model, 0).backward()
        recorder.log(loss)
        optimizer.step()
    recorder.close()
    recorder.close()
    assert (gf.open_run(tmp_path).status, gf.open_run(tmp_path).iteration) == ("diverged", 1)


def test_a_second_recorder_beside_the_first(tmp_path):
    """Of the same model and optimiser: each has its own log, and the same."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorders = [gf.record(model, tmp_path / name, optimizer=optimizer, every=1) for name in "ab"]
    for seed in range(3):
        optimizer.zero_grad()
        loss_of(model, seed).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
    for recorder in recorders:
        recorder.close()
    assert_same_logs(tmp_path / "a", tmp_path / "b")
    assert gf.open_run(tmp_path / "a").scalars.clipped.tolist() == [1, 1, 1]


def test_a_folder_that_is_being_recorded_into(tmp_path):
    """The cell of a notebook, run again: refused, or with `resume` the run goes on and the first recorder ends."""
    kept = begun(tmp_path)
    with pytest.raises(FileExistsError, match=r"path: .* is being recorded into by this program; close"):
        begun(tmp_path)
    assert len(ending._OPEN) == 1
    again = begun(tmp_path, resume=True)
    assert not kept[1]._optimizer_step_pre_hooks
    ending.recorder_of(tmp_path).close()
    assert not again[1]._optimizer_step_pre_hooks
    run = gf.open_run(tmp_path)
    assert (run.status, run.scalars.index.tolist()) == ("finished", [0, 1, 2, 3, 4, 5])


def test_copies_of_the_optimiser_record_nothing(tmp_path):
    model, optimizer = begun(tmp_path)
    other, state = copy.deepcopy(model), copy.deepcopy(optimizer).state_dict()
    second = torch.optim.SGD(other.parameters(), lr=0.1)
    second.load_state_dict(state)
    loss_of(other, 0).backward()
    second.step()
    ending.recorder_of(tmp_path).close()
    assert len(gf.open_run(tmp_path).scalars) == 3


def test_no_logging_of_errors(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        train(Model(), tmp_path)
    assert not caplog.records
