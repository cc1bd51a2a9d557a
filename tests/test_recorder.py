"""The recorder: what it writes is what autograd says, it changes nothing, and it refuses to record nothing."""

import contextlib
import gc
import math
import subprocess
import sys
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf
from gradflow.flow.metrics import summarise

T, B, D, H = 6, 5, 3, 4


class Model(nn.Module):
    """A recurrent layer and a read-out of its last output."""

    def __init__(self, layer):
        super().__init__()
        self.recurrent, self.read_out = layer, nn.Linear(H * (2 if layer.bidirectional else 1), 2)

    def forward(self, x):
        return self.read_out(self.recurrent(x)[0][-1])


def train(model, path=None, iterations=7, **options):
    """A script of a user's own; recorded if there is a path."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recorder = gf.record(model, path, **options) if path else None
    losses = []
    if recorder:
        recorder.__enter__()
    for _ in range(iterations):
        x, y = torch.randn(T, B, D), torch.randint(0, 2, (B,))
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        clipping = gf.clip_grad_norm_(model.parameters(), 0.1)
        if recorder:
            recorder.step(loss.item(), clipping)
        optimizer.step()
        losses.append(loss.item())
    if recorder:
        recorder.__exit__(None, None, None)
    return losses


def fresh(kind, **options):
    torch.manual_seed(0)
    return Model(kind(D, H, **options))


@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 3, "dropout": 0.4}],
    ids=["plain", "stacked", "dropout"],
)
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN, gf.LSTM, gf.GRU])
def test_recording_changes_nothing(kind, options, tmp_path):
    """I30: losses and parameters are bit-identical with and without."""
    plain, recorded = fresh(kind, **options), fresh(kind, **options)
    assert train(plain) == train(recorded, tmp_path, every=2)
    for mine, other in zip(recorded.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert not recorded.recurrent._forward_hooks


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN, gf.LSTM, gf.GRU])
def test_log_holds_the_gradients_of_every_example(kind, tmp_path):
    """With sum reduction and all examples, medians of the log are those of autograd, at every lag and iteration."""
    model = fresh(kind)
    with gf.record(model, tmp_path, every=1, examples=B, reduction="sum") as recorder:
        x = torch.randn(T, B, D)
        model(x).sum().backward()
        recorder.step()
    seen = gf.trace(model.recurrent, x)
    model.read_out(seen.output[-1]).sum().backward()
    expected = gf.state_gradients(seen)[0, 0]
    frame = gf.open_run(tmp_path).frame("lag")
    for name, key in (("log_state_gradient", "h"), ("log_cell_gradient", "c"), ("log_joint_gradient", "joint")):
        if key in expected.log_norm:
            columns = summarise(expected.log_norm[key].flip(0).numpy())
            for statistic in ("mean", "q10", "q50", "q90", "zeros"):
                found = frame[f"{name}_{statistic}"].to_numpy()
                assert found == pytest.approx(columns[statistic], nan_ok=True, rel=1e-6)
    dense = isinstance(model.recurrent, gf.GRU)  # norms from the dense matrix are taken of four examples
    norms = seen[0, 0].jacobian.frobenius_norm()[:, [0, 1, 2, 3] if dense else slice(None)]
    frobenius = summarise(norms.log().flip(0).numpy())
    assert frame["log_jacobian_frobenius_q50"].to_numpy() == pytest.approx(frobenius["q50"], rel=1e-5)
    share = summarise(expected.log_weight_share.flip(0).numpy())
    assert frame["log_weight_gradient_q50"].to_numpy() == pytest.approx(share["q50"], nan_ok=True, rel=1e-5)
    relative = (expected.log_norm.get("joint", expected.log_norm["h"])).flip(0)
    median = summarise((relative - relative[0]).numpy())["q50"]
    assert frame["log_relative_gradient_q50"].to_numpy() == pytest.approx(median, rel=1e-4, abs=1e-5)
    assert frame["weight_gradient_share_q50"].iloc[-1] == pytest.approx(1.0)
    assert frame["weight_gradient_share_mean"].is_monotonic_increasing


@pytest.mark.parametrize("reverse", [False, True])
def test_lag_counts_from_each_examples_own_end(reverse, tmp_path):
    """Ragged: lag 0 holds all examples, the last lag only the longest; the time table counts the valid ones."""
    torch.manual_seed(0)
    layer, lengths = nn.LSTM(D, H, bidirectional=True), torch.tensor([2, 6, 4, 6, 1])
    model = nn.ModuleDict({"lstm": layer})
    with gf.record(model, tmp_path, examples=B, reduction="sum") as recorder:
        packed = pack_padded_sequence(torch.randn(T, B, D), lengths, enforce_sorted=False)
        _, (h_n, _) = layer(packed)
        h_n.sum().backward()
        recorder.step()
    lag, time = (gf.open_run(tmp_path).frame(table) for table in ("lag", "time"))
    lag, time = (frame[frame.direction == int(reverse)] for frame in (lag, time))
    assert lag.valid.tolist() == [5, 4, 3, 3, 2, 2]
    assert time.valid.tolist() == [5, 4, 3, 3, 2, 2]
    assert lag.log_relative_gradient_q50.iloc[0] == 0
    assert lag.log_state_gradient_non_finite.sum() == 0
    assert lag.log_direct_gradient_zeros.iloc[0] == 0
    assert lag.log_direct_gradient_zeros.iloc[1:].tolist() == lag.valid.iloc[1:].tolist()
    assert np.isfinite(lag.log_cell_path_q50).all()


def test_cell_path_is_the_product_of_forget_gates(tmp_path):
    """Against the direct definition, over several blocks of the sweep and ragged lengths."""
    torch.manual_seed(0)
    layer, lengths = nn.LSTM(D, H).double(), torch.tensor([3, 6])
    x = torch.randn(T, 2, D).double()
    seen = gf.trace(layer, x, lengths=lengths)
    read = seen.output[lengths - 1, torch.arange(2)]
    read.sum().backward()
    found = gf.state_gradients(seen)[0, 0].value["c_total"]
    with gf.record(layer, tmp_path, examples=2, reduction="sum") as recorder:
        output, _ = layer(x)
        output[lengths - 1, torch.arange(2)].sum().backward()
        recorder.step(lengths=lengths)
    f, rows = seen[0, 0].gates["f"].detach(), []
    for b, length in enumerate(lengths.tolist()):
        rows.append([(f[t + 1 : length, b].prod(0) * found[length - 1, b]).norm().log().item() for t in range(length)])
    frame = gf.open_run(tmp_path).frame("time")
    assert frame.log_cell_path_mean.iloc[:3].tolist() == pytest.approx(np.mean([rows[0], rows[1][:3]], 0), rel=1e-5)
    assert frame.log_cell_path_mean.iloc[3:].tolist() == pytest.approx(rows[1][3:], rel=1e-5)


def test_mean_reduction_gives_rows_per_example(tmp_path):
    """The same gradients, whatever the batch: a mean-reduced loss is multiplied by its number of targets."""
    names, values = ["log_state_gradient", "log_cell_gradient", "log_cell_path", "log_weight_gradient"], []
    for reduction, batch in (("sum", 1), ("mean", 4)):
        model = fresh(nn.LSTM)
        x = torch.ones(T, batch, D)
        with gf.record(model, tmp_path / reduction, reduction=reduction, quantities=names) as recorder:
            getattr(model(x).sum(1), reduction)().backward()
            recorder.step()
        frame = gf.open_run(tmp_path / reduction).frame("lag")
        values.append(frame[[f"{name}_q50" for name in names]].to_numpy())
    assert values[1] == pytest.approx(values[0], abs=1e-5, nan_ok=True)


def test_loss_scale_is_divided_out(tmp_path):
    values = []
    for scale in (1.0, 2.0**16):
        model = fresh(nn.GRU)
        with gf.record(model, tmp_path / str(scale)) as recorder:
            (model(torch.ones(T, B, D)).mean() * scale).backward()
            recorder.step(loss_scale=scale)
        values.append(gf.open_run(tmp_path / str(scale)).frame("lag").log_state_gradient_q50.to_numpy())
    assert values[1] == pytest.approx(values[0], abs=1e-5)


def test_first_and_last_iteration_are_recorded_with_their_own_weights(tmp_path):
    model = fresh(nn.RNN)
    train(model, tmp_path / "a", iterations=8, every=5, spectrum_every=5)
    train(fresh(nn.RNN), tmp_path / "b", iterations=8, every=1, spectrum_every=1)
    sparse, dense = gf.open_run(tmp_path / "a"), gf.open_run(tmp_path / "b")
    assert sparse.frame("time").iteration.unique().tolist() == [0, 5, 7]
    assert sparse.frame("spectrum").iteration.unique().tolist() == [0, 5, 7]
    for table in ("time", "lag", "spectrum"):
        found, expected = sparse.frame(table), dense.frame(table).query("iteration in (0, 5, 7)").reset_index(drop=True)
        due = expected["iteration"] < 7
        assert found[due].equals(expected[due]), table
        # the last was not due, so that its gradients were found by the recursion and not read from the backward pass
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)
    assert len(sparse.scalars) == 8


def test_scalars_and_clipping(tmp_path):
    model = fresh(nn.LSTM)
    losses = train(model, tmp_path)
    scalars = gf.open_run(tmp_path).scalars
    assert scalars.loss.tolist() == pytest.approx(losses)
    ratio = np.exp(scalars.log_grad_norm_after - scalars.log_grad_norm_before)
    assert ratio.to_numpy() == pytest.approx(scalars.coefficient.to_numpy())
    assert (scalars.clipped == (scalars.log_grad_norm_before > math.log(0.1))).all()
    names = [name for name, _ in model.named_parameters()]
    squares = sum(np.exp(2 * scalars[f"log_grad_before.{name}"]) for name in names)
    assert np.sqrt(squares).to_numpy() == pytest.approx(np.exp(scalars.log_grad_norm_before).to_numpy())


def test_norms_keep_their_names_in_any_order_of_parameters(tmp_path):
    """Clipping only some parameters, in another order: each norm is written under its own name, the others as seen."""
    model = fresh(nn.RNN)
    with gf.record(model, tmp_path) as recorder:
        model(torch.randn(T, B, D)).sum().backward()
        chosen = [model.read_out.bias, model.recurrent.weight_hh_l0]
        expected = [float(parameter.grad.norm().log()) for parameter in chosen]
        recorder.step(clipping=gf.clip_grad_norm_(chosen, 1e9))
    row = gf.open_run(tmp_path).scalars.iloc[0]
    names = ["log_grad_before.read_out.bias", "log_grad_before.recurrent.weight_hh_l0"]
    assert row[names].tolist() == pytest.approx(expected, rel=1e-6)
    other = model.recurrent.weight_ih_l0.grad.norm().log().item()
    assert row["log_grad_after.recurrent.weight_ih_l0"] == pytest.approx(other, rel=1e-6)


def test_interruption_half_way_through_a_step(tmp_path, monkeypatch):
    """Ctrl-C while an iteration is being written: the log closes as interrupted and opens."""
    model = fresh(nn.RNN)
    with contextlib.suppress(KeyboardInterrupt), gf.record(model, tmp_path, every=2) as recorder:
        for iteration in range(3):
            if iteration == 2:
                monkeypatch.setattr(recorder._states, "_log_factor", interrupt)
            model(torch.randn(T, B, D)).sum().backward()
            recorder.step(loss=1.0)
    run = gf.open_run(tmp_path)
    assert run.status == "interrupted"
    assert len(run.scalars) == 3


def interrupt(*args):
    raise KeyboardInterrupt


def test_without_clipping_both_norms_are_the_same(tmp_path):
    model = fresh(nn.RNN)
    with gf.record(model, tmp_path) as recorder:
        model(torch.randn(T, B, D)).sum().backward()
        recorder.step(loss=1.0)
    row = gf.open_run(tmp_path).scalars.iloc[0]
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert row.log_grad_norm_before == row.log_grad_norm_after == pytest.approx(math.log(norm), rel=1e-6)
    assert row[["coefficient", "clipped", "clipping_reported"]].tolist() == [1, 0, 0]


def test_non_finite_numbers_are_recorded_and_counted(tmp_path):
    """An exploding run records to its end, is marked with the first iteration whose loss is NaN, and loses nothing."""
    model = fresh(gf.LinearRNN)
    with gf.record(model, tmp_path, every=1, examples=B) as recorder:
        for iteration in range(4):
            if iteration == 2:
                with torch.no_grad():
                    model.recurrent.weight_hh_l0.fill_(1e30)
            model.zero_grad()
            loss = model(torch.randn(T, B, D)).square().mean()
            loss.backward()
            recorder.step(loss.item(), gf.clip_grad_norm_(model.parameters(), 1.0))
    run = gf.open_run(tmp_path)
    assert run.status == "diverged"
    assert run.iteration == 2
    assert run.scalars.non_finite.tolist() == [0, 0, 1, 1]
    assert len(run.frame("time")) == 4 * T
    assert run.frame("time", columns=["log_state_gradient_non_finite"]).log_state_gradient_non_finite.max() == B
    assert run.frame("spectrum").singular_value.notna().all()


def test_status_tells_how_the_block_was_left(tmp_path):
    for error, state in ((KeyboardInterrupt(), "interrupted"), (ZeroDivisionError("by zero"), "failed")):
        model = fresh(nn.RNN)
        with contextlib.suppress(type(error)), gf.record(model, tmp_path / state) as recorder:
            model(torch.randn(T, B, D)).sum().backward()
            recorder.step()
            raise error
        assert gf.open_run(tmp_path / state).status == state
        assert len(gf.open_run(tmp_path / state).scalars) == 1
        assert not model.recurrent._forward_hooks
    assert gf.open_run(tmp_path / "failed").error == "ZeroDivisionError: by zero"


def test_several_layers_shared_calls_and_evaluation(tmp_path):
    """Two layers, one called twice per forward pass; what runs without gradients in between is not seen."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"first": nn.GRU(D, H), "second": nn.LSTM(H, H), "head": nn.Linear(H, 1)})
    with gf.record(model, tmp_path) as recorder:
        hidden, _ = model["first"](torch.randn(T, B, D))
        hidden, _ = model["second"](hidden)
        hidden, _ = model["second"](hidden)
        model["head"](hidden[-1]).sum().backward()
        with torch.no_grad():
            model["first"](torch.randn(T, B, D))
        recorder.step()
    keys = gf.open_run(tmp_path).frame("time")[["module", "call"]].drop_duplicates()
    assert sorted(map(tuple, keys.to_numpy().tolist())) == [("first", 0), ("second", 0), ("second", 1)]


def test_modules_and_quantities_can_be_chosen(tmp_path):
    model = nn.ModuleDict({"first": nn.RNN(D, H), "second": nn.RNN(H, H)})
    with gf.record(model, tmp_path, modules=["second"], quantities=["log_state_gradient"]) as recorder:
        model["second"](model["first"](torch.randn(T, B, D))[0])[0].sum().backward()
        recorder.step()
    frame = gf.open_run(tmp_path).frame("time")
    assert set(frame.module) == {"second"}
    assert [name for name in frame.columns if name.endswith("_q50")] == ["log_state_gradient_q50"]


def test_nothing_is_kept_alive(tmp_path):
    """The outputs of an iteration and their graph are gone after the next."""
    model, seen = fresh(nn.RNN), []
    model.recurrent.register_forward_hook(lambda module, args, output: seen.append(weakref.ref(output[0])))
    train(model, tmp_path, iterations=4, every=2)
    gc.collect()
    assert [ref() for ref in seen] == [None] * 4


def test_steps_in_the_wrong_place_raise(tmp_path):
    model = fresh(nn.RNN)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gf.record(model, tmp_path) as recorder:
        with pytest.raises(RuntimeError, match=r"step: no recurrent layer of the model ran with gradients"):
            recorder.step()
        loss = model(torch.randn(T, B, D)).sum()
        with pytest.raises(RuntimeError, match=r"call loss.backward\(\) before recorder.step"):
            recorder.step()
        loss = model(torch.randn(T, B, D)).sum()
        loss.backward()
        optimizer.step()
        with pytest.raises(RuntimeError, match=r"'recurrent' changed since its forward pass; .* before optimizer.step"):
            recorder.step()
        assert recorder.iteration == 0


def test_clipping_of_torch_is_refused_by_name(tmp_path):
    model = fresh(nn.RNN)
    with gf.record(model, tmp_path) as recorder:
        model(torch.randn(T, B, D)).sum().backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with pytest.raises(TypeError, match=r"clipping: expected what gradflow.clip_grad_norm_ .* got Tensor"):
            recorder.step(clipping=norm)
        recorder.step()


def test_a_folder_that_another_process_records_into_is_refused(tmp_path):
    write = "import sys, time, gradflow.runlog as g; w = g.RunWriter(sys.argv[1], meta={}); print(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-uc", write, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(FileExistsError, match=r"another process records into .* right now"):
            gf.record(fresh(nn.RNN), tmp_path)
        other.kill()


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"model: expected a recurrent layer .* in Linear, found none"):
        gf.record(nn.Linear(2, 2), tmp_path)
    model = fresh(nn.RNN)
    with pytest.raises(ValueError, match=r"every: expected a whole number of at least 1 or a list .*, got 0"):
        gf.record(model, tmp_path, every=0)
    with pytest.raises(ValueError, match=r'reduction: expected "mean" or "sum", got \'max\''):
        gf.record(model, tmp_path, reduction="max")
    with pytest.raises(ValueError, match=r"modules: expected some of recurrent, got 'rnn'"):
        gf.record(model, tmp_path, modules=["rnn"])
    with pytest.raises(ValueError, match=r"quantities: expected some of log_state_gradient, .*, got log_cell_gradient"):
        gf.record(model, tmp_path, quantities=["log_cell_gradient"])
    assert not list(tmp_path.iterdir())
    train(model, tmp_path / "run", iterations=1)
    with pytest.raises(FileExistsError, match=r"expected a folder without a recorded run"):
        gf.record(model, tmp_path / "run")
