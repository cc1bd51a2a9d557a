"""Gradient flossing: exponents against dense Jacobians triangularised one by one, gradients against differences."""

import copy
import math

import oracles
import pytest
import torch
from test_replay import B, D, H, T, build, each_cell, states_like
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf

each_count = pytest.mark.parametrize("exponents", [1, 3, "all"])


def leading(dense, count):
    """λ of [T, S, S] from the first columns of the library's first Q: Gram-Schmidt, one vector at a time."""
    size = dense.shape[-1]
    random = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, logs = torch.linalg.qr(random).Q[:, :count], torch.zeros(count, dtype=torch.float64)
    for jacobian in dense:
        columns = []
        for i, vector in enumerate((jacobian @ q).unbind(1)):
            for other in columns:
                vector = vector - (other @ vector) * other
            logs[i] += vector.norm().log()
            columns.append(vector / vector.norm())
        q = torch.stack(columns, 1)
    return logs / len(dense)


def expected_loss(layer, x, count, lengths=None, hx=None):
    """From autograd's step Jacobians, example by example."""
    seen = gf.trace(layer, x if lengths is None else packed(x, lengths), hx)
    losses = []
    for key in seen.keys():  # noqa: SIM118
        step = seen[key]
        for b in range(B):
            length = T if lengths is None else lengths[b]
            order = reversed(range(length)) if step.reverse else range(length)
            dense = []
            for t in order:
                c = step.previous["c"][t, b] if "c" in step.previous else None
                dense.append(oracles.step_jacobian(layer, *key, step.inputs[t, b], step.previous["h"][t, b], c))
            losses.append(leading(torch.stack(dense), count).square().mean())
    return float(torch.stack(losses).mean())


def packed(x, lengths):
    return pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)


def size_of(layer):
    return H * (2 if oracles.is_lstm(layer) else 1)


def built(cell):
    """A layer; of ReLU units all are on, since one that is off makes J singular."""
    layer = build(cell, scale=1.2)
    if cell == "rnn_relu":
        with torch.no_grad():
            layer.weight_hh_l0.abs_()
            layer.bias_ih_l0.add_(5.0)
    return layer


@pytest.fixture(autouse=True)
def detached(monkeypatch):
    """The oracle differentiates single steps, at states without the graph of the layer."""
    jacobian = oracles.step_jacobian
    monkeypatch.setattr(oracles, "step_jacobian", lambda *args: jacobian(*args).detach())


@each_count
@each_cell
def test_loss_against_dense_jacobians(cell, exponents):
    layer, x = built(cell), torch.randn(T, B, D, dtype=torch.float64)
    count = size_of(layer) if exponents == "all" else exponents
    hx = states_like(layer)
    hx = hx.abs() if cell == "rnn_relu" else hx
    found = gf.lyapunov_loss(layer, x, count, hx)
    assert found.item() == pytest.approx(expected_loss(layer, x, count, hx=hx), rel=1e-9)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "lstm_own", "gru", "gru_before"])
def test_all_exponents_are_those_of_the_library(cell):
    layer, x = build(cell, scale=1.2), torch.randn(40, B, D, dtype=torch.float64)
    exponents = gf.lyapunov_exponents(gf.trace(layer, x)[0, 0].jacobian)
    found = gf.lyapunov_loss(layer, x, size_of(layer))
    assert found.item() == pytest.approx(exponents.square().mean().item(), rel=1e-9)


def test_leading_exponents_are_the_largest_once_they_have_settled():
    torch.manual_seed(3)
    layer, x = nn.GRU(D, 12).double(), torch.randn(500, 2, D).double()
    exponents = gf.lyapunov_exponents(gf.trace(layer, x)[0, 0].jacobian)
    assert gf.lyapunov_loss(layer, x, 3).item() == pytest.approx(exponents[:, :3].square().mean().item(), rel=1e-9)


@pytest.mark.parametrize(("num_layers", "bidirectional"), [(3, False), (2, True)])
@pytest.mark.parametrize("lengths", [None, (3, 7, 1, 5)], ids=["whole", "ragged"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_before"])
def test_stacks_directions_and_lengths(cell, lengths, num_layers, bidirectional):
    layer, x = build(cell, num_layers, bidirectional, scale=1.2), torch.randn(T, B, D, dtype=torch.float64)
    found = gf.lyapunov_loss(layer, x if lengths is None else packed(x, lengths), 2)
    assert found.item() == pytest.approx(expected_loss(layer, x, 2, lengths), rel=1e-9)


@each_cell
def test_gradient_against_differences(cell):
    """Along a random direction of each parameter, and of the input: through the factors and through the trajectory."""
    layer, x = built(cell), torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    gf.lyapunov_loss(layer, x, 3).backward()
    for tensor in (*layer.parameters(), x):
        direction = torch.randn_like(tensor)
        ends = []
        for side in (1, -1):
            with torch.no_grad():
                tensor.add_(direction, alpha=side * 1e-6)
                ends.append(gf.lyapunov_loss(layer, x, 3).item())
                tensor.add_(direction, alpha=-side * 1e-6)
        gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        found = (gradient * direction).sum().item()
        assert found == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN, gf.LSTM, gf.GRU])
def test_flossing_brings_exponents_to_zero(kind):
    torch.manual_seed(0)
    layer, x = kind(D, 10), torch.randn(15, 2, D)

    def exponents():
        return gf.lyapunov_exponents(gf.trace(layer, x)[0, 0].jacobian)[:, :4]

    before = exponents()
    losses = gf.floss_(layer, x, iterations=25, lr=2e-2, exponents=4)
    assert len(losses) == 25
    assert losses[-1] < 0.3 * losses[0]
    assert bool((exponents().abs().mean(0) < before.abs().mean(0)).all())


def test_flossing_leaves_gradients_and_frozen_parameters_alone():
    layer, x = nn.RNN(D, H), torch.randn(T, B, D)
    layer.weight_ih_l0.requires_grad_(False)
    layer.weight_hh_l0.grad = torch.ones(H, H)
    before = copy.deepcopy(layer.state_dict())
    gf.floss_(layer, x, 3, 1e-2, 2)
    assert torch.equal(layer.weight_hh_l0.grad, torch.ones(H, H))
    assert layer.bias_hh_l0.grad is None
    assert torch.equal(layer.weight_ih_l0, before["weight_ih_l0"])
    assert not torch.equal(layer.weight_hh_l0, before["weight_hh_l0"])


def test_flossing_is_deterministic_and_draws_no_random_numbers():
    layers = [nn.LSTM(D, H, 2, dropout=0.5) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    x, state = torch.randn(T, B, D), torch.get_rng_state()
    results = [gf.floss_(layer, x, 3, 1e-2, 2) for layer in layers]
    assert results[0] == results[1]
    assert torch.equal(state, torch.get_rng_state())


def test_layouts():
    layer, x = nn.LSTM(D, H).double(), torch.randn(T, 1, D).double()
    whole = gf.lyapunov_loss(layer, x, 2).item()
    assert gf.lyapunov_loss(layer, x[:, 0], 2).item() == pytest.approx(whole)
    hx = (torch.zeros(1, H).double(), torch.zeros(1, H).double())
    assert gf.lyapunov_loss(layer, x[:, 0], 2, hx).item() == pytest.approx(whole)
    layer.batch_first = True
    assert gf.lyapunov_loss(layer, x.transpose(0, 1), 2).item() == pytest.approx(whole)
    own, indices = gf.RNN(7, H).double(), torch.randint(0, 7, (T, B))
    hot = nn.functional.one_hot(indices, 7).double()
    assert gf.lyapunov_loss(own, indices, 2).item() == pytest.approx(gf.lyapunov_loss(own, hot, 2).item())


class Leaky(gf.Cell):
    """h_t = a h_{t-1} + x_t: every exponent is ln a."""

    def __init__(self):
        super().__init__()
        self.hidden_size, self.a = H, nn.Parameter(torch.tensor(0.5))

    def step(self, x_t, state):
        return {"h": self.a * state["h"] + x_t}


def test_cells_of_ones_own():
    layer = gf.Recurrent(Leaky())
    loss = gf.lyapunov_loss(layer, torch.randn(T, B, H), 2)
    assert loss.item() == pytest.approx(math.log(0.5) ** 2, rel=1e-6)
    loss.backward()
    assert layer.cell.a.grad.item() == pytest.approx(2 * math.log(0.5) / 0.5, rel=1e-5)


def test_mistakes_by_name():
    layer, x = nn.LSTM(D, H), torch.randn(T, B, D)
    with pytest.raises(ValueError, match=rf"exponents: expected 1 to {2 * H}, the size of the state, got {2 * H + 1}"):
        gf.lyapunov_loss(layer, x, 2 * H + 1)
    with pytest.raises(ValueError, match=r"exponents: expected a whole number of at least 1, got 0"):
        gf.lyapunov_loss(layer, x, 0)
    with pytest.raises(TypeError, match=r"layer: expected torch.nn.RNN, LSTM or GRU.* got Linear"):
        gf.lyapunov_loss(nn.Linear(2, 2), x, 1)
    with pytest.raises(ValueError, match=r"x: expected sequences as LSTM takes them, got shape \(3,\)"):
        gf.lyapunov_loss(layer, torch.zeros(3), 1)


def test_singular_jacobians_stop_flossing_before_they_do_harm():
    layer = nn.RNN(D, H, nonlinearity="relu")
    with torch.no_grad():
        layer.bias_ih_l0.fill_(-100)
    before = copy.deepcopy(layer.state_dict())
    assert gf.lyapunov_loss(layer, torch.zeros(T, B, D), 1).item() == math.inf
    with pytest.raises(
        FloatingPointError, match=r"floss_: the loss is inf at iteration 0: .*ask for fewer exponents, or"
    ):
        gf.floss_(layer, torch.zeros(T, B, D), 3, 0.1, 1)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
