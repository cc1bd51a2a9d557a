"""Adapters: Lightning's and skorch's logs are those of a hand-written loop, TensorBoard's numbers those of the log."""

import contextlib
import importlib
import math
import pickle
import signal
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import gradflow as gf

pytestmark = pytest.mark.filterwarnings("ignore:::lightning")
T, B, D, H = 5, 4, 3, 6
BATCHES = 6


@pytest.mark.parametrize("extra", ["lightning", "skorch", "tensorboard"])
def test_without_its_extra_an_adapter_says_how_to_get_it(extra, monkeypatch):
    for name in (f"gradflow.adapters.{extra}", "torch.utils.tensorboard"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ImportError, match=rf"found none; run pip install 'gradflow-rnn\[{extra}\]'"):
        importlib.import_module(f"gradflow.adapters.{extra}")


@pytest.fixture
def lightning():
    """The package, or a skip; Ctrl-C works again afterwards, which Lightning turns off when it is interrupted."""
    package = pytest.importorskip("lightning.pytorch", reason="needs pip install 'gradflow-rnn[lightning]'")
    handler = signal.getsignal(signal.SIGINT)
    yield package
    signal.signal(signal.SIGINT, handler)


def batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCHES, T, B, D, generator=generator)
    return list(zip(x, torch.randint(0, 2, (BATCHES, B), generator=generator), strict=True))


class Model(nn.Module):
    """A recurrent layer and a read-out of its last output, or that at the positions `last` [B]."""

    last = -1

    def __init__(self, kind=nn.GRU):
        super().__init__()
        torch.manual_seed(0)
        self.recurrent, self.read_out = kind(D, H), nn.Linear(H, 2)

    def loss(self, x, y):
        output = self.recurrent(x)[0][self.last, torch.arange(len(y))]
        return nn.functional.cross_entropy(self.read_out(output), y)


def module(lightning, *, surprises=None, fused=False, clip=None):
    """`Model` as Lightning wants it; `surprises`: batch index -> an error to raise there, or None to skip it."""
    surprises = surprises or {}

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def training_step(self, batch, batch_idx):
            if surprises.get(batch_idx):
                raise surprises[batch_idx]
            loss = self.model.loss(*batch)
            self.log("doubled", 2 * loss, batch_size=B)
            return None if batch_idx in surprises else {"loss": loss}

        def validation_step(self, batch, batch_idx):
            self.model.loss(*batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, fused=fused)

        if clip:

            def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
                clip(self.parameters())

    return Module()


def fit(lightning, model, callback=None, **options):
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = {"max_epochs": 1, "accelerator": "cpu", **dict.fromkeys(silent, False), **options}
    trainer = lightning.Trainer(callbacks=[callback] if callback else [], **options)
    data = DataLoader(batches(), batch_size=None)
    try:
        trainer.fit(model, data, data)
    finally:
        assert "configure_gradient_clipping" not in vars(model)
        assert not model.model.recurrent._forward_hooks
    return model


def flow(*args, **options):
    from gradflow.adapters.lightning import GradientFlow

    return GradientFlow(*args, every=1, examples=B, **options)


def by_hand(path, clip, accumulate=1):
    """The same training as one writes it oneself: the losses of its updates."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with gf.record(nn.ModuleDict({"model": model}), path, every=1, examples=B) as recorder:
        for start in range(0, BATCHES, accumulate):
            optimizer.zero_grad()
            found = []
            for batch in batches()[start : start + accumulate]:
                loss = model.loss(*batch)
                (loss / accumulate).backward()
                found.append(loss.item())
            losses.append(sum(found) / accumulate)
            recorder.step(losses[-1], clip(model.parameters()), loss_scale=1 / accumulate)
            optimizer.step()
    return model, losses


def assert_same_logs(path, other, **tolerance):
    ours, theirs = gf.open_run(path), gf.open_run(other)
    assert ours.status == theirs.status == "finished"
    different = ["lr", "wall_time"]
    for mine, other_frame in (
        (ours.scalars.drop(columns=different), theirs.scalars.drop(columns=different)),
        (ours.frame("lag").drop(columns="module"), theirs.frame("lag").drop(columns="module")),
    ):
        assert mine.columns.tolist() == other_frame.columns.tolist()
        np.testing.assert_allclose(mine.to_numpy(float), other_frame.to_numpy(float), **tolerance)


CLIPPINGS = {
    "norm": lambda parameters: gf.clip_grad_norm_(parameters, 0.3),
    "value": lambda parameters: gf.clip_grad_value_(parameters, 0.02),
}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_lightnings_log_is_that_of_a_hand_written_loop(lightning, algorithm, accumulate, tmp_path):
    """Losses, norms before and after Lightning's own clipping, state gradients; validation is not seen."""
    threshold = {"norm": 0.3, "value": 0.02}[algorithm]
    options = {"gradient_clip_val": threshold, "gradient_clip_algorithm": algorithm, "val_check_interval": 2}
    options["accumulate_grad_batches"] = accumulate
    model = fit(lightning, module(lightning), flow(tmp_path / "lightning"), **options)
    expected, losses = by_hand(tmp_path / "hand", CLIPPINGS[algorithm], accumulate)
    scalars = gf.open_run(tmp_path / "lightning").scalars
    assert scalars.loss.tolist() == pytest.approx(losses, rel=1e-6)
    assert scalars.lr.tolist() == [0.1] * (BATCHES // accumulate)
    assert_same_logs(tmp_path / "lightning", tmp_path / "hand", rtol=2e-5, atol=2e-6)
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_recording_changes_nothing(lightning, tmp_path):
    options = {"gradient_clip_val": 0.05, "accumulate_grad_batches": 2}
    plain = fit(lightning, module(lightning), **options)
    recorded = fit(lightning, module(lightning), flow(tmp_path), **options)
    for mine, other in zip(recorded.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_clipping_of_the_modules_own_is_measured(lightning, tmp_path):
    """Each parameter by its own norm: there is no one coefficient, and small gradients stay."""
    clip = lambda parameters: gf.clip_grad_parameter_norm_(parameters, 0.1)  # noqa: E731
    fit(lightning, module(lightning, clip=clip), flow(tmp_path))
    scalars = gf.open_run(tmp_path).scalars
    assert (scalars.log_grad_norm_after < scalars.log_grad_norm_before).all()
    assert scalars.clipped.all()
    assert scalars.coefficient.isna().all()
    assert np.exp(scalars["log_grad_after.model.read_out.weight"]).max() <= 0.1


def test_no_clipping_is_recorded_as_such(lightning, tmp_path):
    fit(lightning, module(lightning), flow(tmp_path))
    scalars = gf.open_run(tmp_path).scalars
    assert (scalars.log_grad_norm_after == scalars.log_grad_norm_before).all()
    assert scalars.coefficient.tolist() == [1.0] * BATCHES
    assert not scalars.clipped.any()


def test_gradients_that_are_not_finite_are_flagged(lightning, tmp_path):
    model = module(lightning)
    model.model.read_out.weight.data.fill_(math.inf)
    fit(lightning, model, flow(tmp_path))
    run = gf.open_run(tmp_path)
    assert (run.status, run.iteration) == ("diverged", 0)
    assert run.scalars.non_finite.tolist() == [1] * BATCHES
    assert run.scalars.clipped.tolist() == [0] * BATCHES
    assert run.scalars.coefficient.tolist() == [1] * BATCHES


def test_the_scale_of_a_grad_scaler_is_divided_out(lightning, tmp_path):
    """With accumulation and clipping on top: the log is that of training without a scaler."""
    options = {"gradient_clip_val": 0.3, "accumulate_grad_batches": 2}
    fit(lightning, module(lightning), flow(tmp_path / "plain"), **options)
    fit(lightning, module(lightning), flow(tmp_path / "scaled"), plugins=[scaling(lightning)], **options)
    assert_same_logs(tmp_path / "plain", tmp_path / "scaled", rtol=1e-5, atol=1e-6)


def scaling(lightning):
    """Mixed precision with its scaler, but computing in float32, so that results can be compared."""

    class Scaling(lightning.plugins.MixedPrecision):
        forward_context = contextlib.nullcontext

    return Scaling("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))


def test_optimisers_that_unscale_in_their_step_are_refused_by_name(lightning, tmp_path):
    with pytest.raises(NotImplementedError, match=r"but SGD unscales inside it; create it with fused=False"):
        fit(lightning, module(lightning, fused=True), flow(tmp_path), plugins=[scaling(lightning)])
    assert gf.open_run(tmp_path).status == "failed"


def test_mixed_precision_of_bfloat16(lightning, tmp_path):
    fit(lightning, module(lightning), flow(tmp_path / "half"), precision="bf16-mixed")
    fit(lightning, module(lightning), flow(tmp_path / "full"))
    half, full = (gf.open_run(tmp_path / name).frame("lag").log_state_gradient_q50 for name in ("half", "full"))
    assert half.to_numpy() == pytest.approx(full.to_numpy(), abs=0.1)
    assert gf.open_run(tmp_path / "half").status == "finished"


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError("by zero"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_status_tells_how_training_ended(lightning, error, status, tmp_path):
    """Ctrl-C ends the process (SystemExit) in later versions of Lightning, only the training in earlier ones."""
    with contextlib.suppress(ZeroDivisionError, SystemExit):
        fit(lightning, module(lightning, surprises={2: error}), flow(tmp_path))
    run = gf.open_run(tmp_path)
    assert run.status == status
    assert run.error == ("ZeroDivisionError: by zero" if status == "failed" else None)
    assert len(run.scalars) == 2


def test_a_skipped_batch_is_no_update(lightning, tmp_path):
    fit(lightning, module(lightning, surprises={1: None, 4: None}), flow(tmp_path))
    run = gf.open_run(tmp_path)
    assert run.status == "finished"
    assert len(run.scalars) == BATCHES - 2
    assert np.isfinite(run.frame("lag").log_state_gradient_q50).all()


def test_logged_values_and_arguments_of_each_batch(lightning, tmp_path):
    """With four times the targets state gradients are four times as large; lengths reach the layers' calls."""
    lengths = [5, 3, 5, 5]
    arguments = {"targets": 4 * B, "lengths": lengths}
    seen = []
    about = lambda batch: seen.append(batch) or arguments  # noqa: E731
    models = module(lightning), module(lightning)
    for model in models:
        model.model.last = torch.tensor(lengths) - 1
    fit(lightning, models[0], flow(tmp_path / "a", scalars=["doubled"], step_arguments=about))
    fit(lightning, models[1], flow(tmp_path / "b", step_arguments=lambda batch: {"lengths": lengths}))
    one, other = gf.open_run(tmp_path / "a"), gf.open_run(tmp_path / "b")
    assert one.scalars.doubled.to_numpy() == pytest.approx(2 * one.scalars.loss.to_numpy())
    assert len(seen) == BATCHES
    assert torch.equal(seen[0][0], batches()[0][0])
    times, before = (run.frame("time").log_state_gradient_mean.to_numpy() for run in (one, other))
    assert times - before == pytest.approx(math.log(4), abs=1e-5)
    assert one.frame("time").valid.tolist() == BATCHES * [4, 4, 4, 3, 3]


def test_a_second_fit_needs_another_folder(lightning, tmp_path):
    callback = flow(tmp_path)
    fit(lightning, module(lightning), callback)
    with pytest.raises(FileExistsError, match=r"holds one; record into another folder"):
        fit(lightning, module(lightning), callback)
    assert gf.open_run(tmp_path).status == "finished"
    assert len(gf.open_run(tmp_path).scalars) == BATCHES


def test_optimisation_by_hand_is_refused_by_name(lightning, tmp_path):
    model = module(lightning)
    model.automatic_optimization = False
    with pytest.raises(NotImplementedError, match=r"got automatic_optimization=False; use gradflow.record in the modu"):
        fit(lightning, model, flow(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def skorch():
    """The package, or a skip."""
    return pytest.importorskip("skorch", reason="needs pip install 'gradflow-rnn[skorch]'")


class Answers(Model):
    """`Model` as skorch wants it, batch first."""

    def forward(self, x):
        return self.read_out(self.recurrent(x.transpose(0, 1))[0][-1])


def net_of(skorch, path, *more, surprise=None, **options):
    from gradflow.adapters.skorch import GradientFlow

    def split(dataset, y=None, **kwargs):
        return dataset, dataset

    class Net(skorch.NeuralNet):
        def get_loss(self, *args, training=False, **kwargs):
            if surprise and training and self.history[-1]["epoch"] == 2:
                raise surprise
            return super().get_loss(*args, training=training, **kwargs)

    flow = GradientFlow(path, every=1, examples=B, **options)
    return Net(
        Answers,
        nn.CrossEntropyLoss,
        max_epochs=2,
        lr=0.1,
        batch_size=B,
        iterator_train__shuffle=False,
        train_split=split,
        verbose=0,
        callbacks=[*more, flow],
    )


def targets_of(batch):
    return {"targets": len(batch[1])}


def given():
    """All batches, batch first, as numpy arrays."""
    x, y = (torch.stack(part) for part in zip(*batches(), strict=True))
    return x.transpose(1, 2).reshape(-1, T, D).numpy(), y.reshape(-1).numpy()


def test_skorchs_log_is_that_of_a_hand_written_loop(skorch, tmp_path):
    """Two epochs, clipped by skorch's own callback; validation is not seen; a copy of the net has no recorder."""
    clip = skorch.callbacks.GradientNormClipping(0.3)
    net = net_of(skorch, tmp_path / "skorch", clip, step_arguments=targets_of).fit(*given())
    model = Answers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gf.record(model, tmp_path / "hand", every=1, examples=B) as recorder:
        for x, y in [*batches(), *batches()]:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x.transpose(0, 1)), y)
            loss.backward()
            recorder.step(loss, gf.clip_grad_norm_(model.parameters(), 0.3))
            optimizer.step()
    one, other = (gf.open_run(tmp_path / name) for name in ("skorch", "hand"))
    assert one.status == "finished"
    assert one.scalars.clipping_reported.tolist() == [0] * 2 * BATCHES
    but = ["lr", "wall_time", "clipping_reported"]
    tables = [(run.scalars.drop(columns=but), run.frame("lag").drop(columns="module")) for run in (one, other)]
    for mine, theirs in zip(*tables, strict=True):
        np.testing.assert_allclose(mine.to_numpy(float), theirs.to_numpy(float), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(net.module_.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert pickle.loads(pickle.dumps(net.callbacks[-1])).every == 1


def test_skorch_again(skorch, tmp_path):
    """A second fit needs a folder of its own, or goes on."""
    net = net_of(skorch, tmp_path / "a", resume=False).fit(*given())
    with pytest.raises(FileExistsError, match=r"holds one; record into another folder"):
        net.fit(*given())
    net.set_params(callbacks__GradientFlow__path=tmp_path / "b").fit(*given())
    net.set_params(callbacks__GradientFlow__resume=True).fit(*given())
    assert [len(gf.open_run(tmp_path / name).scalars) for name in "ab"] == [2 * BATCHES, 4 * BATCHES]


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError("by zero"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_status_tells_how_fitting_ended(skorch, error, status, tmp_path):
    """skorch takes Ctrl-C for an end; after other exceptions the next fit closes the log, or the program's end."""
    net = net_of(skorch, tmp_path, surprise=error)
    with contextlib.suppress(ZeroDivisionError):
        net.fit(*given())
    with contextlib.suppress(FileExistsError):
        net.partial_fit(*given())
    run = gf.open_run(tmp_path)
    assert (run.status, len(run.scalars)) == (status, BATCHES)


@pytest.fixture
def tensorboard():
    """What reads TensorBoard's event files, or a skip."""
    name = "tensorboard.backend.event_processing.event_accumulator"
    return pytest.importorskip(name, reason="needs pip install 'gradflow-rnn[tensorboard]'").EventAccumulator


def test_tensorboard_shows_the_numbers_of_the_log(tensorboard, tmp_path):
    from gradflow.adapters.tensorboard import mirror, tag

    model, losses = Model(nn.LSTM), [0.5, math.nan, 0.25]
    with gf.record(model, tmp_path / "run") as recorder:
        with mirror(recorder, tmp_path / "events") as writer:
            for iteration, loss in enumerate(losses):
                model.loss(*batches()[iteration]).backward()
                recorder.step(loss, gf.clip_grad_norm_(model.parameters(), 0.1))
            writer.add_scalar("mine", 1.0)
        model.loss(*batches()[3]).backward()
        recorder.step(1.0)
    scalars = gf.open_run(tmp_path / "run").scalars
    assert len(scalars) == 4
    events = tensorboard(str(tmp_path / "events")).Reload()
    columns = scalars.columns.drop("wall_time").drop("lr")
    assert sorted(events.Tags()["scalars"]) == sorted(["mine", *map(tag, columns)])
    for name in columns:
        shown = events.Scalars(tag(name))
        assert [event.step for event in shown] == [0, 1, 2]  # the block ended before the fourth
        assert [event.value for event in shown] == pytest.approx(scalars[name].tolist()[:3], rel=1e-6, nan_ok=True)
    assert math.isnan(events.Scalars("loss")[1].value)


def test_tags_are_grouped(tensorboard):
    from gradflow.adapters.tensorboard import tag

    assert tag("log_grad_norm_before") == "log_gradient_norm/before_clipping"
    assert tag("log_grad_after.lstm.bias_hh_l0") == "log_gradient_norm_after_clipping/lstm.bias_hh_l0"
