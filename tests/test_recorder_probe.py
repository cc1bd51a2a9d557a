"""The probe: its rows are those of a fixed batch, and training never knows that it was run."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradflow as gf

T, B, D, H = 6, 5, 3, 4


class Restless(nn.Module):
    """Everything that a forward pass may leave behind: buffers, attributes, random numbers of three kinds, dropout."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        torch.manual_seed(0)
        self.recurrent, self.norm, self.read_out = kind(D, H), nn.BatchNorm1d(H), nn.Linear(H, 2)
        self.memory, self.passes = torch.zeros(H), 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        h = F.dropout(self.recurrent(x)[0][-1], 0.3, self.training)
        self.seen = self.seen + 1
        self.passes += 1
        answer = self.read_out(self.norm(h) + self.memory) * (1 + random.random() + np.random.random())  # noqa: NPY002
        self.memory = h.detach().mean(0)
        return answer


def batch(seed, size=B):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(T, size, D, generator=generator), torch.randint(0, 2, (size,), generator=generator)


PROBE = {"probe": batch(99, 7), "criterion": F.cross_entropy}


def train(model, path=None, iterations=5, evaluate=False, **options):
    """Losses of a script with momentum, so that any change shows."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    with gf.record(model, path, **options) if path else torch.enable_grad() as recorder:
        for seed in range(iterations):
            x, y = batch(seed)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            before = [p.grad.clone() for p in model.parameters()]
            if path:
                recorder.step(loss.item())
            assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))
            optimizer.step()
            losses.append(loss.item())
        if evaluate:
            model.eval()
    return [*losses, torch.rand(1).item(), random.random(), np.random.random()]  # noqa: NPY002


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN, gf.LSTM, gf.GRU])
def test_a_probe_changes_nothing(kind, tmp_path):
    """I30, with buffers, attributes and random states among what must be the same."""
    plain, recorded = Restless(kind), Restless(kind)
    assert train(plain) == train(recorded, tmp_path, every=2, **PROBE)
    for one, other in zip(plain.state_dict().values(), recorded.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(plain.memory, recorded.memory)
    assert (plain.passes, recorded.training) == (recorded.passes, True)
    if isinstance(recorded.recurrent, nn.RNNBase):
        assert all(
            a is b for a, b in zip(recorded.recurrent._flat_weights, recorded.recurrent.parameters(), strict=True)
        )


class Plain(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.recurrent, self.read_out, self.dropout = nn.GRU(D, H), nn.Linear(H, 2), nn.Dropout(dropout)

    def forward(self, x, scale=1.0, last=-1):
        return self.read_out(self.dropout(self.recurrent(x)[0][last, torch.arange(x.shape[1])])) * scale


def test_rows_are_those_of_the_probe_at_the_weights_of_their_iteration(tmp_path):
    """Against autograd on models trained for as long; of the last iteration too, which was not due."""
    train(Plain(), tmp_path, iterations=6, every=4, evaluate=True, **PROBE)
    run = gf.open_run(tmp_path)
    frame = run.frame("time")
    assert frame.iteration.unique().tolist() == [0, 4, 5]
    assert frame.valid.unique().tolist() == [7]
    assert run.meta["batch"] == "probe"
    assert len(run.scalars) == 6
    x, y = PROBE["probe"]
    for iteration in (0, 4, 5):
        model = Plain()
        train(model, iterations=iteration)
        seen = gf.trace(model.recurrent, x)
        F.cross_entropy(model.read_out(seen.output[-1]), y, reduction="sum").backward()
        expected = gf.state_gradients(seen)[0, 0].log_norm["h"].mean(1).numpy()
        found = frame[frame.iteration == iteration].log_state_gradient_mean.to_numpy()
        assert found == pytest.approx(expected, abs=1e-5)


def test_the_mode_is_that_of_the_model(tmp_path):
    """In training the dropout mask is always the same; the last iteration is as it was, although evaluation came."""
    model = Plain(dropout=0.5)
    x, y = batch(1)
    with gf.record(model, tmp_path, every=10, examples="all", **PROBE) as recorder:
        for _ in range(3):
            F.cross_entropy(model(x), y).backward()
            recorder.step()
        model.eval()
    frame = gf.open_run(tmp_path).frame("time").drop(columns="iteration")
    assert frame[:T].equals(frame[T:].reset_index(drop=True))
    with gf.record(model, tmp_path / "eval", **PROBE) as recorder:
        F.cross_entropy(model(x), y).backward()
        recorder.step()
    evaluated = gf.open_run(tmp_path / "eval").frame("time").log_state_gradient_mean.to_numpy()
    assert np.abs(evaluated - frame.log_state_gradient_mean[:T]).max() > 1e-3


def test_lengths_targets_and_several_arguments(tmp_path):
    x, y = batch(1)
    lengths = torch.tensor([1, 2, 6, 3, 6])
    values = []
    for name, targets in (("a", None), ("b", 5 * 10)):
        model = Plain()
        probe = ((x, torch.tensor(2.0), lengths - 1), y, lengths, targets)
        with gf.record(model, tmp_path / name, probe=probe, criterion=F.cross_entropy) as recorder:
            model(x).sum().backward()
            recorder.step(targets=3)
        frame = gf.open_run(tmp_path / name).frame("time")
        assert frame.valid.tolist() == [5, 4, 3, 2, 2, 2]
        values.append(frame.log_state_gradient_mean.to_numpy())
    assert values[1] - values[0] == pytest.approx(np.full(T, np.log(10)), abs=1e-5)


def test_a_frozen_layer_and_hooks_of_the_script(tmp_path):
    """Hooks on parameters, and gradients of parameters, belong to training."""
    model, seen = Plain(), []
    model.read_out.weight.register_hook(lambda gradient: seen.append(1))
    x, y = batch(1)
    with gf.record(model, tmp_path, every=1, **PROBE) as recorder:
        for _ in range(2):
            F.cross_entropy(model(x), y).backward()
            recorder.step()
        with pytest.raises(RuntimeError, match=r"no recurrent layer of the model ran"):  # the probe does not count
            recorder.step()
    assert len(seen) == 2
    assert len(gf.open_run(tmp_path).frame("time")) == 2 * T


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": batch(1)}, r"criterion: expected the loss function of probe=\(x, y\), .* got None"),
        ({"criterion": F.cross_entropy}, r"criterion: expected together with probe"),
        ({"probe": torch.zeros(2), "criterion": len}, r"probe: expected \(x, y\), .* got Tensor"),
        ({"probe": (1,), "criterion": len}, r"probe: expected \(x, y\), .* got tuple of 1"),
        ({"probe": (1, 2, None, 0), "criterion": len}, r"probe targets: expected a whole number of at least 1, got 0"),
    ],
)
def test_bad_probes(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gf.record(Plain(), tmp_path, **options)


@pytest.mark.parametrize(
    ("criterion", "got"), [(lambda answer, y: answer, r"shape \(5, 2\)"), (lambda answer, y: 1.0, "float")]
)
def test_a_criterion_that_gives_no_loss(criterion, got, tmp_path):
    model = Plain()
    with gf.record(model, tmp_path, probe=batch(1), criterion=criterion) as recorder:
        model(batch(1)[0]).sum().backward()
        with pytest.raises(ValueError, match=rf"criterion: expected a loss of one number .* got {got}") as caught:
            recorder.step()
        assert "record(probe=...)" in caught.value.__notes__[0]
        assert recorder.iteration == 0
