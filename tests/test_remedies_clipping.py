"""State gradients clamped at every step: against hooks on every state of an unrolled loop."""

import math

import oracles
import pytest
import torch
from covering import each_pair
from test_replay import LAYERS, TOLERANCE, B, D, H, T, build, dropped, each_cell, each_dtype, states_like
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradflow as gf


def unrolled(layer, loss, x, clip_value, **given):
    """Gradients by name, how many entries of state gradients were clamped, and how many there were."""
    counts = [0, 0]

    def clamp(gradient):
        counts[0] += int((gradient.abs() > clip_value).sum())
        counts[1] += gradient.numel()
        return gradient.clamp(-clip_value, clip_value)

    layer.zero_grad()
    _, outputs, h_n, c_n = oracles.run(layer, x, hook=clamp, **given)
    loss(outputs, h_n, c_n).backward()
    return {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}, *counts


def same(layer, expected, tolerance=1e-12):
    scale = max(1.0, *(float(gradient.abs().max()) for gradient in expected.values()))
    for name, parameter in layer.named_parameters():
        assert float((parameter.grad - expected[name]).abs().max()) <= tolerance * scale, name


@each_pair(
    cell=[*LAYERS],
    shape={"one": (1, False), "three": (3, False), "two, both ways": (2, True)},
    lengths={"whole": None, "ragged": (3, 7, 1, 5)},
    clip_value=[0.05, 0.6, math.inf],
)
def test_against_hooks_on_every_state(cell, shape, lengths, clip_value):
    """A loss on the outputs and the final states, from given initial states."""
    num_layers, bidirectional = shape
    layer = build(cell, num_layers, bidirectional)
    x, hx = torch.randn(T, B, D, dtype=torch.float64), states_like(layer)
    weight = torch.randn(T, B, H * (2 if bidirectional else 1), dtype=torch.float64)
    of_final = torch.randn(2, num_layers * (2 if bidirectional else 1), B, H, dtype=torch.float64)

    def loss(outputs, h_n, c_n):
        each = zip(outputs, weight.unbind(1), strict=True)
        total = sum((w[: len(out)] * out).sum() for out, w in each) + (of_final[0] * h_n).sum()
        return total if c_n is None else total + (of_final[1] * c_n).sum()

    expected, clipped, entries = unrolled(layer, loss, x, clip_value, lengths=lengths, hx=hx)
    layer.zero_grad()
    packed = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    with gf.watch_backward(layer) as backward:
        output, finals = layer(packed, hx)
        output = output if lengths is None else pad_packed_sequence(output)[0]
        h_n, c_n = finals if isinstance(finals, tuple) else (finals, None)
        loss([output[:size, b] for b, size in enumerate(lengths or (T,) * B)], h_n, c_n).backward()
        by_autograd = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
        done = gf.clip_state_gradients_(backward.take(), clip_value)
    same(layer, expected)
    assert (done.clipped, done.entries, done.non_finite) == (clipped, entries, False)
    if clip_value == math.inf:
        same(layer, by_autograd)
        assert done.share == 0
    if clip_value == 0.05:
        assert done.share > 0.1


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_before"])
@pytest.mark.parametrize("clip_value", [0.05, math.inf])
def test_a_padded_tensor_is_clamped_in_its_padding_too_and_only_the_rest_is_counted(cell, clip_value):
    """The reverse direction begins in the padding, from which the gradients of its weights have a share."""
    layer, x, lengths = build(cell, 1, True), torch.randn(T, B, D, dtype=torch.float64), torch.tensor((3, 7, 1, 5))
    weight = torch.randn(T, B, 2 * H, dtype=torch.float64) * (torch.arange(T).unsqueeze(1) < lengths).unsqueeze(-1)
    expected, clipped, _ = unrolled(layer, lambda outputs, *_: (torch.stack(outputs, 1) * weight).sum(), x, clip_value)
    layer.zero_grad()
    seen = gf.trace(layer, x, lengths=lengths)
    (seen.output * weight).sum().backward()
    done = gf.clip_state_gradients_([seen], clip_value)
    same(layer, expected)
    assert done.entries == int(lengths.sum()) * 2 * H * (2 if cell == "lstm" else 1)
    assert done.clipped <= clipped


@each_dtype
@each_cell
def test_without_effect_it_gives_the_gradients_of_autograd(cell, dtype):
    layer, x = build(cell, 2, dtype=dtype, scale=1.0), torch.randn(T, B, D, dtype=dtype)
    with gf.watch_backward(layer) as backward:
        layer(x)[0].square().sum().backward()
        expected = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
        assert gf.clip_state_gradients_(backward.take(), math.inf).clipped == 0
    same(layer, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "lstm_own", "gru_before"])
@pytest.mark.parametrize("packed", [False, True], ids=["tensor", "packed"])
def test_masks_of_dropout_are_those_of_the_forward_pass(cell, packed):
    layer, x = dropped(cell, packed, bidirectional=not packed, dtype=torch.float64)
    with gf.watch_backward(layer) as backward:
        output, _ = layer(x)
        (output.data if packed else output).square().sum().backward()
        expected = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
        gf.clip_state_gradients_(backward.take(), math.inf)
    same(layer, expected)


def test_calls_of_a_step_add_up():
    """Chunks with a detached state between them, and accumulated gradients: .grad is the sum of all."""
    layer, x = build("lstm"), torch.randn(2, 3, T, B, D, dtype=torch.float64)

    def run(after_each):
        for micro in x:
            state, loss = None, 0
            for chunk in micro:
                output, state = layer(chunk, state)
                loss = loss + output.square().sum()
                state = tuple(part.detach() for part in state)
            loss.backward()
            after_each()

    layer.zero_grad()
    with gf.watch_backward(layer) as backward:
        run(lambda: None)
        expected = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
        traces = backward.take()
        gf.clip_state_gradients_(traces, math.inf)
    assert len(traces) == 6
    same(layer, expected)


def test_indices_are_one_hot_vectors():
    layer, indices = gf.RNN(7, H).double(), torch.randint(0, 7, (T, B))
    gradients = []
    for x in (indices, nn.functional.one_hot(indices, 7).double()):
        seen = gf.trace(layer, x)
        (10 * seen.output).sum().backward()
        gf.clip_state_gradients_([seen], 0.5)
        gradients.append([parameter.grad.clone() for parameter in layer.parameters()])
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("layout", ["unbatched", "batch_first", "no bias"])
def test_layouts(layout):
    options = {"batch_first": layout == "batch_first", "bias": layout != "no bias"}
    layer = nn.GRU(D, H, **options).double()
    x = torch.randn(T, D) if layout == "unbatched" else torch.randn(T, B, D)
    with gf.watch_backward(layer) as backward:
        layer(x.double())[0].square().sum().backward()
        expected = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
        gf.clip_state_gradients_(backward.take(), math.inf)
    same(layer, expected)


@pytest.mark.parametrize("cell", ["linear", "rnn_relu"])
def test_what_explodes_is_bounded(cell):
    """W = 3 I over 100 steps in float32: autograd's gradients are infinite, these are sums of 100 ones."""
    layer = build(cell, dtype=torch.float32)
    gf.initialise_(layer, "identity", gain=3.0)
    with gf.watch_backward(layer) as backward:
        layer(torch.zeros(100, 1, D), torch.full((1, 1, H), 1e-37))[0][-1].mul(2).sum().backward()
        assert not layer.bias_ih_l0.grad.isfinite().all()
        done = gf.clip_state_gradients_(backward.take(), 1.0)
    assert layer.bias_ih_l0.grad.tolist() == [100.0] * H
    assert done == gf.StateClipping(100 * H, 100 * H, False)


def test_an_entry_at_the_limit_is_not_clipped():
    layer = nn.RNN(D, H)
    seen = gf.trace(layer, torch.zeros(1, B, D))
    seen.output.sum().backward()
    assert gf.clip_state_gradients_([seen], 1.0).clipped == 0


def test_what_is_not_finite_shows():
    layer = nn.GRU(D, H)
    for bad in (math.nan, math.inf):
        seen = gf.trace(layer, torch.randn(T, B, D))
        weight = torch.ones(T, B, 1)
        weight[3, 1] = bad
        (seen.output * weight).sum().backward()
        assert gf.clip_state_gradients_([seen], 1.0).non_finite
        assert bool(layer.weight_hh_l0.grad.isfinite().all()) == (bad == math.inf)


def test_frozen_weights_stay_so_and_the_read_out_is_left_alone():
    layer, read_out = nn.LSTM(D, H), nn.Linear(H, 2)
    layer.weight_ih_l0.requires_grad_(False)
    with gf.watch_backward(layer) as backward:
        read_out(layer(torch.randn(T, B, D))[0]).sum().backward()
        before = read_out.weight.grad.clone()
        gf.clip_state_gradients_(backward.take(), 1e-3)
    assert layer.weight_ih_l0.grad is None
    assert torch.equal(read_out.weight.grad, before)


@pytest.mark.filterwarnings("ignore")
def test_mistakes_by_name():
    layer, x = nn.LSTM(D, H), torch.randn(T, B, D)
    with pytest.raises(ValueError, match=r"traces: no gradient has reached a recurrent layer; call loss.backward"):
        gf.clip_state_gradients_([gf.trace(layer, x)], 1.0)
    seen = gf.trace(layer, x)
    seen.output.sum().backward()
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=rf"clip_value: expected a positive number, got {wrong}"):
            gf.clip_state_gradients_([seen], wrong)
    below = nn.Embedding(5, D)
    seen = gf.trace(layer, below(torch.zeros(T, B, dtype=torch.long)))
    seen.output.sum().backward()
    before = layer.weight_hh_l0.grad.clone()
    with pytest.raises(NotImplementedError, match=r"traces: something below this LSTM is trained as well .*detach or"):
        gf.clip_state_gradients_([seen], 1.0)
    assert torch.equal(layer.weight_hh_l0.grad, before)
    _, state = layer(x)
    seen = gf.trace(layer, x, state)
    seen.output.sum().backward()
    with pytest.raises(NotImplementedError, match=r"traces: something below this LSTM .*initial state"):
        gf.clip_state_gradients_([seen], 1.0)
    normed = parametrizations.weight_norm(nn.RNN(D, H), "weight_hh_l0")
    with gf.watch_backward(normed) as backward:
        normed(torch.zeros(T, B, D))[0].sum().backward()
        with pytest.raises(NotImplementedError, match=r"traces: weight_hh_l0 of this ParametrizedRNN is parametrized"):
            gf.clip_state_gradients_(backward.take(), 1.0)
