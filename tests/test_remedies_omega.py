"""Pascanu's Ω against its definition: total gradients by autograd, a Python loop over steps, autograd once more."""

import math
from itertools import pairwise

import pytest
import torch
from covering import each_pair
from test_replay import B, D, H, T, build
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf

PLAIN = ["linear", "rnn", "rnn_relu", "rnn_sigmoid"]
each_plain = pytest.mark.parametrize("cell", PLAIN)
each_power = pytest.mark.parametrize("squared", [False, True], ids=["norms", "squared norms"])


def activation(layer):
    return (lambda a: a) if isinstance(layer, gf.LinearRNN) else getattr(torch, layer.nonlinearity)


def slope(layer, a):
    a = a.detach().requires_grad_()
    return torch.autograd.grad(activation(layer)(a).sum(), a)[0]


def pre_activations(layer, x, lengths):
    """a[layer, direction][b] = list over the steps in the direction of the layer; the outputs [length, ·] of each b."""
    sides, found, outputs = 2 if layer.bidirectional else 1, {}, []
    for b, length in enumerate(lengths):
        inputs = list(x[:length, b])
        for index in range(layer.num_layers):
            columns = []
            for side in range(sides):
                tail = f"_l{index}" + ("_reverse" if side else "")
                w_ih, w_hh, b_ih, b_hh = (
                    getattr(layer, n + tail) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                h, seen, states = x.new_zeros(layer.hidden_size), [], []
                for value in reversed(inputs) if side else inputs:
                    a = w_ih @ value + b_ih + w_hh @ h + b_hh
                    a.retain_grad()
                    h = activation(layer)(a)
                    seen.append(a)
                    states.append(h)
                found.setdefault((index, side), []).append(seen)
                columns.append(states[::-1] if side else states)
            inputs = [torch.cat(parts) for parts in zip(*columns, strict=True)]
        outputs.append(torch.stack(inputs))
    return found, outputs


def omega(layer, found, squared):
    """Ω as a function of the weights with ε and φ' held fixed; in the graph of the weights."""
    total = 0
    for (index, side), examples in found.items():
        weight = getattr(layer, f"weight_hh_l{index}" + ("_reverse" if side else ""))
        for steps in examples:
            for now, later in pairwise(steps):
                epsilon = later.grad.detach()
                if epsilon.norm() == 0:
                    continue
                ratio = ((epsilon @ weight) * slope(layer, now)).norm() / epsilon.norm()
                total = total + ((ratio**2 if squared else ratio) - 1) ** 2 / len(examples)
    return total


@each_pair(
    cell=PLAIN,
    shape={"one": (1, False), "three": (3, False), "two, both ways": (2, True)},
    lengths={"whole": None, "ragged": (3, 7, 1, 5)},
    last_only={"a loss at every step": False, "a loss at the last step": True},
    squared={"norms": False, "squared norms": True},
)
def test_against_autograd(cell, shape, lengths, last_only, squared):
    num_layers, bidirectional = shape
    layer = build(cell, num_layers, bidirectional, scale=1.5)
    x = torch.randn(T, B, D, dtype=torch.float64)
    weight = torch.randn(T, B, H * (2 if bidirectional else 1), dtype=torch.float64)
    sizes = lengths or (T,) * B

    def loss(outputs):
        each = zip(outputs, weight.unbind(1), strict=True)
        return sum((w[len(o) - 1] * o[-1]).sum() if last_only else (w[: len(o)] * o).sum() for o, w in each)

    found, outputs = pre_activations(layer, x, sizes)
    loss(outputs).backward()
    of_loss = {name: parameter.grad for name, parameter in layer.named_parameters()}
    layer.zero_grad()
    expected = omega(layer, found, squared)
    (0.7 * expected).backward()
    of_omega = {name: parameter.grad for name, parameter in layer.named_parameters()}

    layer.zero_grad()
    packed = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    with gf.watch_backward(layer) as backward:
        output, _ = layer(packed)
        if lengths is not None:
            output, _ = nn.utils.rnn.pad_packed_sequence(output)
        loss([output[:size, b] for b, size in enumerate(sizes)]).backward()
        value = gf.add_omega_gradient_(backward.take(), weight=0.7, squared=squared)
    assert value == pytest.approx(expected.item(), rel=1e-10)
    for name, parameter in layer.named_parameters():
        wanted = of_loss[name] if of_omega[name] is None else of_loss[name] + of_omega[name]
        assert torch.allclose(parameter.grad, wanted, atol=1e-10, rtol=1e-10), name
        assert of_omega[name] is None or "weight_hh" in name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_vanished_gradients_count_however_small(dtype):
    """W = 0.1 I: every ratio is 0.1, and ‖ε‖ falls to 1e-1999; ∂Ω/∂W is the sum of -1.8 u ⊗ u."""
    layer = gf.LinearRNN(D, H, dtype=dtype)
    gf.initialise_(layer, "identity", gain=0.1)
    seen = gf.trace(layer, torch.randn(2000, 1, D, dtype=dtype))
    weight = torch.randn(H, dtype=dtype)
    (seen.output[-1, 0] * weight).sum().backward()
    before = layer.weight_hh_l0.grad.clone()
    assert gf.add_omega_gradient_([seen], 1.0) == pytest.approx(1999 * 0.81, rel=1e-6)
    unit = weight / weight.norm()
    expected = -1.8 * 1999 * torch.outer(unit, unit)
    assert torch.allclose(layer.weight_hh_l0.grad - before, expected, rtol=1e-5, atol=1e-2)


def test_exploded_gradients_count():
    layer = gf.LinearRNN(D, H)
    gf.initialise_(layer, "identity", gain=3.0)
    seen = gf.trace(layer, torch.zeros(200, 1, D))
    seen.output[-1].sum().backward()
    assert not torch.isfinite(seen.call.gradients["output"].sum() * 3.0**200)
    assert gf.add_omega_gradient_([seen], 1.0, squared=True) == pytest.approx(199 * 64, rel=1e-5)


def test_ratios_are_those_of_pre_activations_not_of_states():
    """One unit: ε_{k+1} ∂a_{k+1}/∂a_k = w φ'(a_k) ε_{k+1}; with states it would be w φ'(a_{k+1})."""
    layer = nn.RNN(1, 1).double()
    x = torch.randn(3, 1, 1).double()
    seen = gf.trace(layer, x)
    seen.output[-1].sum().backward()
    h, w = seen.output.detach().flatten(), layer.weight_hh_l0.item()
    expected = sum((abs(w) * float(1 - h[k] ** 2) - 1) ** 2 for k in (0, 1))
    assert gf.add_omega_gradient_([seen], 0.0) == pytest.approx(expected, rel=1e-12)


@each_power
def test_training_on_it_pulls_the_ratios_to_one(squared):
    """A loss at the last step only, whose own gradient is thrown away."""
    torch.manual_seed(0)
    layer, x = nn.RNN(D, 20), torch.randn(30, 16, D)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    values = []
    for _ in range(150):
        seen = gf.trace(layer, x)
        seen.output[-1].sum().backward()
        optimizer.zero_grad()
        values.append(gf.add_omega_gradient_([seen], 0.05, squared))
        assert layer.weight_hh_l0.grad.abs().max() > 0
        optimizer.step()
    assert values[0] > 2  # of 29 steps
    assert values[-1] < 0.2 * values[0]


def test_weight_zero_only_measures():
    layer = nn.RNN(D, H)
    seen = gf.trace(layer, torch.randn(T, B, D))
    seen.output.sum().backward()
    before = layer.weight_hh_l0.grad.clone()
    assert gf.add_omega_gradient_([seen], 0.0) > 0
    assert torch.equal(layer.weight_hh_l0.grad, before)


def test_traces_add_up_and_examples_are_averaged():
    layer, x = nn.RNN(D, H).double(), torch.randn(T, B, D).double()

    def of(*inputs):
        traces = [gf.trace(layer, part) for part in inputs]
        for seen in traces:
            seen.output.sum().backward()
        return gf.add_omega_gradient_(traces, 0.0)

    whole = of(x)
    assert of(x[:, :1], x[:, 1:2], x[:, 2:3], x[:, 3:]) == pytest.approx(B * whole)
    assert of(x[:4], x[4:]) < of(x[:4]) + of(x[4:]) + 1e-12


def test_zero_gradients_count_nothing():
    layer, x = nn.RNN(D, H), torch.randn(T, B, D)
    seen = gf.trace(layer, x)
    (seen.output * 0).sum().backward()
    before = layer.weight_hh_l0.grad.clone()
    assert gf.add_omega_gradient_([seen], 1.0) == 0
    assert torch.equal(layer.weight_hh_l0.grad, before)
    early = gf.trace(layer, x)
    early.output[2].sum().backward()
    short = gf.trace(layer, x[:3])
    short.output[2].sum().backward()
    assert gf.add_omega_gradient_([early], 0.0) == pytest.approx(gf.add_omega_gradient_([short], 0.0), rel=1e-6)


@pytest.mark.parametrize("bias", [-50.0, -87.0, -88.5, -92.0, -200.0])
def test_units_saturated_to_the_last_digit(bias):
    """Slopes of e^bias, beneath float32's normal numbers at last: ratios of 0, or nothing to count, and no NaN."""
    layer = gf.RNN(D, H, nonlinearity="sigmoid")
    with torch.no_grad():
        layer.bias_ih_l0.fill_(bias)
    seen = gf.trace(layer, torch.randn(T, B, D))
    seen.output.sum().backward()
    layer.zero_grad()
    omega = gf.add_omega_gradient_([seen], 1.0)
    assert 0 <= omega <= T - 1
    assert bias < -80 or omega == pytest.approx(T - 1)
    assert layer.weight_hh_l0.grad.isfinite().all()


def test_dead_units_keep_a_gradient_of_zero():
    """A ratio of zero has no direction to grow in: it counts 1, and adds nothing."""
    layer = nn.RNN(D, H, nonlinearity="relu")
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.bias_ih_l0.fill_(10)
    seen = gf.trace(layer, torch.zeros(T, B, D))
    seen.output[-1].sum().backward()
    layer.zero_grad(set_to_none=True)
    assert gf.add_omega_gradient_([seen], 1.0) == 1.0
    assert not layer.weight_hh_l0.grad.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_left_out_and_shows(bad):
    layer, x = nn.RNN(D, H).double(), torch.randn(T, B, D).double()
    whole = gf.trace(layer, x[:, 1:])
    whole.output.sum().backward()
    layer.zero_grad()
    gf.add_omega_gradient_([whole], 1.0)
    expected = layer.weight_hh_l0.grad.clone()
    layer.zero_grad()
    seen = gf.trace(layer, x)
    seen.call.gradients["output"] = torch.ones_like(seen.output)
    seen.call.gradients["output"][:, 0] = bad
    assert math.isnan(gf.add_omega_gradient_([seen], 1.0))
    assert torch.allclose(layer.weight_hh_l0.grad * B / (B - 1), expected, atol=1e-12)
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = bad
    broken = gf.trace(layer, x)
    broken.output.sum().backward()
    assert math.isnan(gf.add_omega_gradient_([broken], 1.0))


def test_frozen_recurrent_weights_stay_so():
    layer = nn.RNN(D, H)
    layer.weight_hh_l0.requires_grad_(False)
    seen = gf.trace(layer, torch.randn(T, B, D))
    seen.output.sum().backward()
    assert gf.add_omega_gradient_([seen], 1.0) > 0
    assert layer.weight_hh_l0.grad is None


@pytest.mark.filterwarnings("ignore")
def test_mistakes_by_name():
    with pytest.raises(ValueError, match=r"traces: no gradient has reached a recurrent layer; call loss.backward"):
        gf.add_omega_gradient_([], 1.0)
    with pytest.raises(ValueError, match=r"traces: no gradient has reached a recurrent layer; call loss.backward"):
        gf.add_omega_gradient_([gf.trace(nn.RNN(D, H), torch.zeros(T, B, D))], 1.0)
    with pytest.raises(TypeError, match=r"traces: expected those of take\(\) or gradflow.trace, got RNN"):
        gf.add_omega_gradient_([nn.RNN(D, H)], 1.0)

    def seen(layer):
        trace = gf.trace(layer, torch.zeros(T, B, D))
        trace.output.sum().backward()
        return [trace]

    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"weight: expected a finite number of at least 0, got {wrong}"):
            gf.add_omega_gradient_(seen(nn.RNN(D, H)), wrong)
    for gated in (nn.LSTM(D, H), nn.GRU(D, H), gf.GRU(D, H)):
        with pytest.raises(TypeError, match=rf"traces: Ω is that of cells without gates .* got {type(gated).__name__}"):
            gf.add_omega_gradient_(seen(gated), 1.0)
    normed = parametrizations.weight_norm(nn.RNN(D, H), "weight_hh_l0")
    with gf.watch_backward(normed) as backward:
        normed(torch.zeros(T, B, D))[0].sum().backward()
        with pytest.raises(NotImplementedError, match=r"traces: weight_hh_l0 of this ParametrizedRNN is parametrized"):
            gf.add_omega_gradient_(backward.take(), 1.0)


@pytest.mark.parametrize("remedy", [gf.add_omega_gradient_, gf.clip_state_gradients_])
def test_remedies_come_before_the_optimiser_moves_the_weights(remedy):
    layer = nn.RNN(3, 2)
    trace = gf.trace(layer, torch.randn(5, 4, 3))
    trace.output[-1].sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    with pytest.raises(RuntimeError, match=r"the weights of the RNN changed .* before optimizer.step\(\)"):
        remedy([trace], 1.0)
    with pytest.raises(TypeError, match=r"traces: expected a list of traces, got one; write \[trace\]"):
        remedy(trace, 1.0)
