"""The recorder in scripts of all kinds: which calls are recorded, under which number; training never changes."""

import copy
import copyreg
import gc
import io
import math
import os
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import gradflow as gf

T, B, D, H = 6, 5, 3, 4
FEW = ["log_state_gradient", "log_anchored_gradient", "log_jacobian_spectral", "log_product_spectral"]
LAYERS = [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN, gf.LSTM, gf.GRU]


class Model(nn.Module):
    """Runs a layer several times in one forward pass, its own output coming in again through a linear map."""

    def __init__(self, kind=nn.LSTM, uses=1, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.recurrent, self.back, self.read_out = kind(D, H), nn.Linear(H, D), nn.Linear(H, 2)
        self.uses = uses

    def forward(self, x):
        for use in range(self.uses):
            x = self.recurrent(self.back(x) if use else x)[0]
        return self.read_out(x[-1])


def data(seed=1, batch=B):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(T, batch, D, generator=generator)


def norms(model, x, loss_of=torch.sum, uses=None):
    """ln‖dL/dh_t‖ [T, B] of every call of `model.recurrent`, by `gradflow.trace` outside any recorder."""
    traces = []
    for use in range(uses or model.uses):
        traces.append(gf.trace(model.recurrent, model.back(x) if use else x))
        x = traces[-1].output
    loss_of(model.read_out(x[-1])).backward()
    return [gf.state_gradients(trace)[0, 0].log_norm["h"] for trace in traces]


def rows(path, call=0, iteration=None):
    """Mean over the examples of ln‖dL/dh_t‖, [T], of one call."""
    frame = gf.open_run(path).frame("time")
    frame = frame[
        (frame.call == call) & (frame.iteration == (frame.iteration.max() if iteration is None else iteration))
    ]
    return frame.log_state_gradient_mean.to_numpy()


def calls(path):
    frame = gf.open_run(path).frame("time")
    return sorted(set(map(tuple, frame[["iteration", "module", "call"]].to_numpy().tolist())))


def assert_rows(path, expected, call=0):
    assert rows(path, call) == pytest.approx(expected.mean(1).numpy(), rel=1e-5, abs=1e-5)


def test_calls_of_one_forward_pass_are_numbered(tmp_path):
    model, x = Model(uses=3), data()
    with gf.record(model, tmp_path, reduction="sum") as recorder:
        model(x).sum().backward()
        recorder.step()
    for call, expected in enumerate(norms(Model(uses=3), x)):
        assert_rows(tmp_path, expected, call)


def test_a_forward_pass_without_backward_shifts_nothing(tmp_path):
    """Evaluation with gradients enabled: before, after and between, by the model and by the layer alone."""
    model, x = Model(uses=2), data()
    with gf.record(model, tmp_path, every=1, reduction="sum") as recorder:
        for _ in range(2):
            model(data(7))
            model.recurrent(data(7))
            loss = model(x).sum()
            model(data(8))
            loss.backward()
            model(data(9))
            model.recurrent(data(7))
            recorder.step()
    assert calls(tmp_path) == [(i, "recurrent", call) for i in range(2) for call in range(2)]
    for call, expected in enumerate(norms(Model(uses=2), x)):
        assert_rows(tmp_path, expected, call)


def test_forward_passes_without_backward_are_not_kept_alive(tmp_path):
    class InTheGraph:
        def __call__(self, gradient):
            pass

    model, seen = Model(), []

    def mark(module, args, output):
        marker = InTheGraph()
        output[0].register_hook(marker)
        seen.append(weakref.ref(marker))

    with gf.record(model, tmp_path) as recorder:
        model.recurrent.register_forward_hook(mark)
        for _ in range(3):
            model(data())
        assert [ref() for ref in seen] == [None] * 3
        answer = model(data())
        assert seen[3]() is not None
        answer.sum().backward()
        recorder.step()


LONG = """
import sys, threading, torch, gradflow as gf
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.cell = nn.GRU(1, 2), nn.LSTMCell(1, 2)

    def forward(self, x):
        state = None
        for x_t in x:
            state = self.cell(x_t, state and tuple(0.9 * part for part in state))
        return self.layer(x)[0][-1] + state[0]

def train():
    model = Model()
    with gf.record(model, sys.argv[1], quantities=["log_state_gradient"], examples=1) as recorder:
        model(torch.randn(800, 1, 1))
        model(torch.randn(800, 1, 1)).sum().backward()
        recorder.step()
    print(gf.open_run(sys.argv[1]).error, end="")

threading.stack_size(2**19)
thread = threading.Thread(target=train)
thread.start()
thread.join()
"""


def test_the_graph_of_a_long_sequence_is_freed_with_little_stack(tmp_path):
    """As a sequence ten times as long is with the usual stack, of which nodes that Python has seen take most."""
    ended = subprocess.run([sys.executable, "-c", LONG, tmp_path], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout) == (0, "None"), ended.stderr


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("probe", [False, True])
def test_a_recorder_that_has_ended_holds_no_model(every, probe, tmp_path):
    model, given = Model(), {}
    if probe:
        given = {"probe": (data(), torch.zeros(B, 2)), "criterion": nn.functional.mse_loss}
    with gf.record(model, tmp_path, every=every, **given) as recorder:
        for seed in range(3):
            model(data(seed)).sum().backward()
            recorder.step()
    held = [weakref.ref(part) for part in (model, *model.parameters())]
    del model
    gc.collect()
    assert [part() for part in held] == [None] * len(held)
    assert (recorder.iteration, recorder.error) == (3, None)
    with pytest.raises(RuntimeError, match="nothing is watched"):
        recorder.step()


def test_of_accumulated_gradients_the_last_micro_batch_is_recorded(tmp_path):
    model = Model(uses=2)
    with gf.record(model, tmp_path, every=1) as recorder:
        for _ in range(2):
            model.zero_grad()
            for seed in range(3):
                (model(data(seed)).mean(0).sum() / 3).backward()
            recorder.step(loss_scale=1 / 3)
    assert calls(tmp_path) == [(i, "recurrent", call) for i in range(2) for call in range(2)]
    for call, expected in enumerate(norms(Model(uses=2), data(2))):
        assert_rows(tmp_path, expected, call)
    both = Model(uses=2)
    for seed in range(3):
        (both(data(seed)).mean(0).sum() / 3).backward()
    norm = math.log(math.sqrt(sum(float(p.grad.square().sum()) for p in both.parameters())))
    assert gf.open_run(tmp_path).scalars.log_grad_norm_after.tolist() == pytest.approx([norm, norm], rel=1e-5)


def test_passes_that_share_a_backward_pass_count_on(tmp_path):
    """A Siamese network: both halves are there, in order; also when each loss has a backward of its own."""
    for name in ("joint", "apart"):
        model = Model(uses=2)
        with gf.record(model, tmp_path / name, reduction="sum") as recorder:
            first, second = model(data(1)).sum(), model(data(2)).sum()
            if name == "joint":
                (first + second).backward()
            else:
                first.backward()
                second.backward()
            recorder.step()
        expected = norms(Model(uses=2), data(1)) + norms(Model(uses=2), data(2))
        for call, values in enumerate(expected):
            assert_rows(tmp_path / name, values, call)


def test_two_losses_over_one_forward_pass_add_up(tmp_path):
    model, x = Model(), data()
    with gf.record(model, tmp_path, reduction="sum") as recorder:
        answer = model(x)
        answer[:, 0].sum().backward(retain_graph=True)
        answer[:, 1].sum().backward()
        recorder.step()
    assert_rows(tmp_path, norms(Model(), x)[0])


class Below(Model):
    """Something trained below a layer that is frozen, on weights made of others, a step by hand, or ReLUs all off."""

    def __init__(self, weights):
        super().__init__(nn.RNN)
        self.below, self.weights = nn.Linear(D, D), weights
        if weights == "off":
            self.recurrent.nonlinearity, self.recurrent.mode = "relu", "RNN_RELU"
            nn.init.constant_(self.recurrent.bias_hh_l0, -100.0)
        self.recurrent.requires_grad_(weights != "frozen")

    def forward(self, x):
        x = self.below(x)
        if self.weights == "by hand":
            h = torch.zeros(B, H)
            for x_t in x:
                h = gf.mark("h", torch.tanh(self.read_out.weight.mean() * h + x_t.sum(-1, keepdim=True)))
            return self.read_out(h)
        lent = {name: 2 * weight for name, weight in self.recurrent.named_parameters()}
        run = torch.func.functional_call(self.recurrent, lent, x) if self.weights == "made" else self.recurrent(x)
        return self.read_out(run[0][-1])


@pytest.mark.parametrize("zeroed", ["none", "zeros", "data", ""], ids=["none", "zeros", "data", "not"])
@pytest.mark.parametrize("weights", ["frozen", "made", "by hand", "off"])
def test_zero_grad_between_passes_through_weights_without_gradients_of_their_own(weights, zeroed, tmp_path):
    """It is seen by the other parameters of the model; zeros that are gradients are no zero_grad."""
    if (weights, zeroed) == ("off", "data"):
        pytest.skip("nothing that was other than zero is there to tell")
    for name in ("twice", "once"):
        model = Below(weights)
        states = {"states": ["h"]} if weights == "by hand" else {}
        with gf.record(model, tmp_path / name, reduction="sum", examples="all", **states) as recorder:
            first, second = model(data()).sin().sum(0)
            if name == "twice":
                first.backward(retain_graph=True)
                if zeroed == "data":
                    for parameter in model.parameters():
                        if parameter.grad is not None:
                            parameter.grad.data.zero_()
                elif zeroed:
                    model.zero_grad(set_to_none=zeroed == "none")
                second.backward()
            else:
                (second if zeroed else first + second).backward()
            recorder.step()
    assert rows(tmp_path / "twice") == pytest.approx(rows(tmp_path / "once"), rel=1e-5, abs=1e-5, nan_ok=True)
    assert np.isfinite(rows(tmp_path / "once")[-1])


def test_layers_that_get_a_backward_pass_each_are_both_there(tmp_path):
    """That nothing is in `.grad` of the second when its pass comes does not mean that the first was set to zero."""
    torch.manual_seed(0)
    model, x = nn.ModuleList([nn.GRU(D, H), nn.LSTM(D, H)]), data()
    with gf.record(model, tmp_path) as recorder:
        for loss in [layer(x)[0].square().sum() for layer in model]:
            loss.backward()
        recorder.step()
    run = gf.open_run(tmp_path)
    assert set(run.frame("time").module) == {"0", "1"}
    assert run.proof == "proved"


def test_a_call_keeps_its_number_when_another_gets_no_gradient(tmp_path):
    class Second(Model):
        def forward(self, x):
            self.recurrent(x)
            return self.read_out(self.recurrent(2 * x)[0][-1])

    model = Second()
    with gf.record(model, tmp_path) as recorder:
        model(data()).sum().backward()
        recorder.step()
    assert calls(tmp_path) == [(0, "recurrent", 1)]


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_alone_is_numbered_in_the_order_of_its_calls(kind, tmp_path):
    torch.manual_seed(0)
    layer = kind(D, H)
    with gf.record(layer, tmp_path, every=1) as recorder:
        for _ in range(2):
            layer(data())
            (layer(data())[0].sum() + layer(data())[0].sum()).backward()
            recorder.step()
    assert calls(tmp_path) == [(i, "", call) for i in range(2) for call in range(2)]


def train(model, path, iterations=5, autocast=False, **options):
    """A script with dropout-free training; the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with gf.record(model, path, every=2, **options) if path else torch.enable_grad() as recorder:
        for seed in range(iterations):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = model(data(seed)).float().square().mean()
            optimizer.zero_grad()
            loss.backward()
            if path:
                recorder.step(loss.item())
            optimizer.step()
            losses.append(loss.item())
    return losses


class Elsewhere(gf.Cell):
    """A cell of the user's own."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size, self.inner = hidden_size, nn.GRUCell(input_size, hidden_size)

    def step(self, x_t, state):
        return {"h": self.inner(x_t, state["h"])}


@pytest.mark.parametrize("kind", ["RNN", "GRU packed", "own packed", "gf.GRU packed", "LSTMCell", "RNNCell lengths"])
def test_a_default_device_that_is_another_one(kind, tmp_path):
    """As `torch.set_default_device` makes it: training goes on, and the log is the same."""
    name, _, how = kind.partition(" ")
    make = {"own": lambda *sizes: gf.Recurrent(Elsewhere(*sizes)), "gf.GRU": gf.GRU}.get(name) or getattr(nn, name)
    x, h, lengths = data(), torch.zeros(B, H), torch.tensor([3, T, 1, 5, 2])
    given = pack_padded_sequence(x, lengths, enforce_sorted=False) if how == "packed" else x

    def loss_of(layer):
        if "Cell" not in name:
            output = layer(given, h.unsqueeze(0))[0]
            return (output.data if how == "packed" else output).square().mean()
        state, loss = (h, h) if name == "LSTMCell" else h, 0.0
        for x_t, counts in zip(x, torch.arange(T, device="cpu").unsqueeze(1) < lengths, strict=True):
            state = layer(x_t, state)
            shown = state[0] if name == "LSTMCell" else state
            loss = loss + (shown[counts] if how == "lengths" else shown).square().sum()
        return loss

    logs = []
    for device in ("cpu", "meta"):
        torch.manual_seed(0)
        layer = make(D, H)
        with torch.device(device), gf.record(layer, tmp_path / device, quantities=FEW) as recorder:
            loss_of(layer).backward()
            recorder.step(**({"lengths": lengths} if how == "lengths" else {}))
        run = gf.open_run(tmp_path / device)
        assert run.error is None
        logs.append([run.table(table).to_pandas() for table in ("time", "lag", "spectrum", "proof")])
    for one, other in zip(*logs, strict=True):
        pd.testing.assert_frame_equal(one, other)


def same_parameters(one, other):
    return all(map(torch.equal, one.parameters(), other.parameters()))


def test_distributed_data_parallel(tmp_path):
    """Names are those of the model inside; training is bit for bit the same."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        plain, recorded = (nn.parallel.DistributedDataParallel(Model(nn.GRU, uses=2)) for _ in range(2))
        assert train(plain, None) == train(recorded, tmp_path / "run", examples="all")
        assert same_parameters(plain, recorded)
    finally:
        torch.distributed.destroy_process_group()
    alone = Model(nn.GRU, uses=2)
    train(alone, tmp_path / "alone", examples="all")
    run, expected = gf.open_run(tmp_path / "run"), gf.open_run(tmp_path / "alone")
    assert list(run.meta["modules"]) == ["recurrent"]
    assert run.frame("time").equals(expected.frame("time"))
    assert run.scalars.drop(columns="wall_time").equals(expected.scalars.drop(columns="wall_time"))


@pytest.mark.parametrize("kind", [nn.LSTM, gf.LinearRNN])
@pytest.mark.parametrize("given", ["compiled", "inner"])
@pytest.mark.filterwarnings("ignore")  # torch's own, about what it compiles
def test_a_compiled_model(kind, given, tmp_path):
    torch.compiler.reset()
    model = Model(kind)
    compiled = torch.compile(model, backend="aot_eager")
    with gf.record(compiled if given == "compiled" else model, tmp_path, every=1, reduction="sum") as recorder:
        for seed in range(2):
            compiled(data(seed)).sum().backward()
            recorder.step()
    assert calls(tmp_path) == [(0, "recurrent", 0), (1, "recurrent", 0)]
    assert_rows(tmp_path, norms(Model(kind), data(1))[0])
    assert "log_grad_after.recurrent.weight_hh_l0" in gf.open_run(tmp_path).scalars
    compiled(data(2)).sum().backward()  # its code may still call what was removed
    assert recorder.iteration == 2


class Checkpointed(Model):
    reentrant = False

    def forward(self, x):
        return checkpoint(lambda x: self.read_out(self.recurrent(x)[0][-1]), x, use_reentrant=self.reentrant)


def test_a_checkpointed_layer(tmp_path):
    plain, recorded = Checkpointed(), Checkpointed()
    assert train(plain, None) == train(recorded, tmp_path / "run")
    assert same_parameters(plain, recorded)
    train(Model(), tmp_path / "plain")
    checkpointed, whole = (gf.open_run(tmp_path / name).frame("time") for name in ("run", "plain"))
    pd.testing.assert_frame_equal(checkpointed, whole, rtol=1e-5)  # of a checkpoint nothing is saved to be read


def test_a_reentrant_checkpoint_is_refused_by_name(tmp_path):
    model = Checkpointed()
    model.reentrant = True
    with gf.record(model, tmp_path) as recorder:
        model(data().requires_grad_()).sum().backward()
        with pytest.raises(RuntimeError, match=r"module 'recurrent' runs inside .* pass use_reentrant=False"):
            recorder.step()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("change", [parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.weight_norm])
def test_a_parametrized_layer(change, tmp_path):
    """What is recorded belongs to the weights that the layer computed with; nothing is computed twice."""
    plain, recorded = Model(nn.GRU), Model(nn.GRU)
    for model in (plain, recorded):
        torch.manual_seed(4)
        change(model.recurrent, "weight_hh_l0")
    assert train(plain, None) == train(recorded, tmp_path / "run", spectrum_every=1)
    assert same_parameters(plain, recorded)
    assert all(map(torch.equal, plain.buffers(), recorded.buffers()))
    run = gf.open_run(tmp_path / "run")
    top = run.frame("spectrum").query("iteration == 3 and gate == 'r'").singular_value.max()
    replica = Model(nn.GRU)
    torch.manual_seed(4)
    change(replica.recurrent, "weight_hh_l0")
    train(replica, None, iterations=3)
    replica(data(3))
    weight = replica.recurrent._flat_weights[1].detach()
    assert top == pytest.approx(float(torch.linalg.matrix_norm(weight[:H].double(), 2)), rel=1e-5)


def test_pruned_layers(tmp_path):
    model = Model(nn.RNN)
    prune.random_unstructured(model.recurrent, "weight_hh_l0", 0.5)
    train(model, tmp_path / "run")
    assert len(gf.open_run(tmp_path / "run").scalars) == 5
    own = Model(gf.LinearRNN)
    prune.random_unstructured(own.recurrent, "weight_hh_l0", 0.5)
    with pytest.raises(NotImplementedError, match=r"recurrent: weight_norm, .* use torch.nn.RNN, LSTM or GRU"):
        gf.record(own, tmp_path / "own")


def test_a_frozen_layer(tmp_path):
    """Frozen with a trained input it is recorded; frozen throughout the error says so; thawed it gets its columns."""
    model = Model(nn.RNN, uses=1)
    model.recurrent.requires_grad_(False)
    with gf.record(model, tmp_path) as recorder:
        model(data()).sum().backward()
        with pytest.raises(RuntimeError, match=r"no gradient flows through 'recurrent': every parameter is frozen"):
            recorder.step()
        model(data().requires_grad_()).sum().backward()
        recorder.step()
        model.recurrent.requires_grad_(True)
        model(data()).sum().backward()
        recorder.step()
    run = gf.open_run(tmp_path)
    assert len(run.frame("time")) == 2 * T
    assert run.scalars["log_grad_after.recurrent.weight_hh_l0"].isna().tolist() == [True, False]


def test_a_model_that_changes_its_dtype_and_its_parameters(tmp_path):
    model = Model(nn.RNN)
    with gf.record(model, tmp_path, every=[2], reduction="sum") as recorder:
        model(data()).sum().backward()
        recorder.step()
        model.double()
        model.zero_grad()
        with torch.no_grad():
            model.recurrent.weight_hh_l0 = nn.Parameter(2 * model.recurrent.weight_hh_l0)
        model(data().double()).sum().backward()
        recorder.step()
        norm = float(model.recurrent.weight_hh_l0.grad.norm().log())
    expected = Model(nn.RNN).double()
    with torch.no_grad():
        expected.recurrent.weight_hh_l0 *= 2
    assert_rows(tmp_path, norms(expected, data().double())[0])
    assert gf.open_run(tmp_path).scalars["log_grad_after.recurrent.weight_hh_l0"].iloc[1] == pytest.approx(norm)


def test_a_parameter_replaced_between_forward_and_step_is_noticed(tmp_path):
    model = Model(nn.RNN)
    with gf.record(model, tmp_path) as recorder:
        model(data()).sum().backward()
        model.recurrent.weight_hh_l0 = nn.Parameter(torch.zeros(H, H))
        with pytest.raises(RuntimeError, match=r"the parameters of 'recurrent' changed since its forward pass"):
            recorder.step()


def test_an_output_changed_in_place_is_refused(tmp_path, caplog):
    """Its states are gone; and of a last iteration that was not due, only the log of the script says so."""

    class InPlace(Model):
        def forward(self, x):
            return self.read_out(self.recurrent(x)[0].mul_(2)[-1])

    model = InPlace(gf.LinearRNN)
    with gf.record(model, tmp_path / "a") as recorder:
        model(data()).sum().backward()
        with pytest.raises(RuntimeError, match=r"output of 'recurrent' was changed in place .* out-of-place"):
            recorder.step()
    model, x = Model(), data()
    with gf.record(model, tmp_path / "b") as recorder:
        for _ in range(2):
            model(x).sum().backward()
            recorder.step()
        x.zero_()
    assert calls(tmp_path / "b") == [(0, "recurrent", 0)]
    assert "the last iteration, 1, has no state gradients" in caplog.text


def test_mixed_precision_with_a_scaler(tmp_path):
    """I30 under autocast and GradScaler; the log holds unscaled gradients, and an update skipped for inf is counted."""

    def run(path):
        model, losses = Model(nn.GRU), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        with gf.record(model, path, every=1) if path else torch.enable_grad() as recorder:
            for iteration in range(4):
                with torch.autocast("cpu", torch.bfloat16):
                    loss = model(data(1)).float().square().mean()
                    if iteration == 0:
                        loss = loss * math.inf
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                if path:
                    recorder.step(loss.item(), loss_scale=scaler.get_scale())
                scaler.step(optimizer)
                scaler.update()
                losses.append(loss.item())
        return model, losses

    (plain, expected), (recorded, losses) = run(None), run(tmp_path / "scaled")
    assert losses == expected
    assert same_parameters(plain, recorded)
    log = gf.open_run(tmp_path / "scaled")
    assert log.scalars.non_finite.tolist() == [1, 0, 0, 0]
    assert log.status == "finished"
    counts = log.frame("time").groupby("iteration").log_state_gradient_non_finite.max()
    assert counts.tolist() == [B, 0, 0, 0]
    model = Model(nn.GRU)
    with gf.record(model, tmp_path / "plain") as recorder:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(data(1)).float().square().mean()
        loss.backward()
        recorder.step()
    after = rows(tmp_path / "scaled", iteration=1)  # the first update was skipped
    assert after == pytest.approx(rows(tmp_path / "plain"), abs=1e-6)


def test_an_error_of_the_script_is_not_hidden_by_one_of_the_log(tmp_path, monkeypatch):
    model = Model()
    with pytest.raises(ZeroDivisionError, match="own") as caught, gf.record(model, tmp_path) as recorder:  # noqa: PT012
        model(data()).sum().backward()
        recorder.step()
        monkeypatch.setattr(os, "replace", no_space)
        raise ZeroDivisionError("own")
    assert "closing the log failed as well" in caught.value.__notes__[0]
    assert not model.recurrent._forward_hooks
    assert not model._forward_pre_hooks


def no_space(*args):
    raise OSError(28, "No space left on device")


def test_what_is_missing_of_the_end_alone_is_counted(tmp_path, monkeypatch):
    model = Model()
    with gf.record(model, tmp_path, every=5) as recorder:
        for _ in range(2):
            model(data()).sum().backward()
            recorder.step()
        monkeypatch.setattr("gradflow.recording.states.state_rows", divide)
    run = gf.open_run(tmp_path)
    assert (run.status, len(run.scalars)) == ("finished", 2)
    assert run.error == "not recorded: the states of 'recurrent' of 1 iteration, first of 1 (ZeroDivisionError: inside)"


def divide(*args, **options):
    raise ZeroDivisionError("inside")


def test_subscribers_get_every_row(tmp_path, caplog):
    """One that raises is dropped, and costs neither training nor the log."""
    model, seen = Model(), []

    def broken(iteration, row):
        row["loss"] = -1.0
        raise KeyError("nobody there")

    with gf.record(model, tmp_path, scalars=["accuracy"]) as recorder:
        recorder.subscribe(broken)
        recorder.subscribe(lambda iteration, row: seen.append((iteration, row)))
        for iteration in range(3):
            model.zero_grad()
            model(data()).sum().backward()
            clipping = gf.clip_grad_norm_(model.parameters(), 0.1)
            recorder.step(iteration / 2, clipping, scalars={"accuracy": 1})
    assert caplog.text.count("is not called again") == 1
    assert [iteration for iteration, _ in seen] == [0, 1, 2]
    scalars = gf.open_run(tmp_path).scalars
    for iteration, row in seen:
        assert all(type(value) is float for value in row.values())
        assert row == pytest.approx(scalars.loc[iteration, list(row)].to_dict())


class Sentence(nn.Module):
    """A model whose whole may be saved; it has hooks of its own."""

    def __init__(self):
        super().__init__()
        self.rnn, self.seen = nn.LSTM(3, 4, num_layers=2), 0
        self.register_forward_hook(counted)
        self.rnn.register_forward_hook(counted_with, with_kwargs=True)

    def forward(self, x):
        return self.rnn(x)[0]


def counted(module, args, output):
    """A hook of the script."""


def counted_with(module, args, kwargs, output):
    """Another."""


def test_copies_of_the_model_are_not_watched(tmp_path):
    """Pickled, saved or copied while it is recorded: the copy runs, leaves no trace, and knows nothing of gradflow."""
    model, x = Sentence(), torch.randn(5, 2, 3)
    plain = pickle.dumps(model)
    with gf.record(model, tmp_path) as recorder:
        file = io.BytesIO()
        torch.save(model, file)
        assert pickle.dumps(model) == plain
        assert b"gradflow" not in file.getvalue()
        known = [Sentence, nn.LSTM, counted, counted_with, set]
        with torch.serialization.safe_globals(known):
            file.seek(0)
            loaded = torch.load(file, weights_only=True)
        for other in (loaded, pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
            assert list(other._forward_hooks.values()) == [counted]
            assert list(other.rnn._forward_hooks.values())[:1] == [counted_with]
            if other.rnn is not model.rnn:
                assert len(other.rnn._forward_hooks) == len(other.rnn._forward_hooks_with_kwargs) == 1
                other(x).sum().backward()
        with pytest.raises(RuntimeError, match=r"no recurrent layer of the model ran"):
            recorder.step()
        model(x).sum().backward()
        recorder.step()
        with gf.watch_backward(model):
            assert pickle.dumps(copy.deepcopy(model).requires_grad_(False))
        assert b"gradflow" not in pickle.dumps(model)
    assert not {Sentence, nn.LSTM} & copyreg.dispatch_table.keys()
    assert len(gf.open_run(tmp_path).scalars) == 1
