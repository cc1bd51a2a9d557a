"""Range, scale and batch invariants of the total gradients."""

import math

import oracles
import pytest
import torch
from test_replay import LAYERS, B, D, H, T, build, close, each_cell, each_dtype, states_like
from torch import nn

import gradflow as gf


def gradients_of_last(layer, x, weight, **kwargs):
    """Total gradients for a loss on the last output of each example."""
    seen = gf.trace(layer, x, **kwargs)
    lengths = kwargs.get("lengths")
    last = seen.output[-1] if lengths is None else seen.output[lengths - 1, torch.arange(len(lengths))]
    (last * weight).sum().backward()
    return seen, gf.state_gradients(seen)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_unlimited_range(dtype):
    """A linear RNN with W = 0.1 I: 2,000 steps of exactly ln 0.1, far below the smallest float64."""
    layer = gf.LinearRNN(D, H, dtype=dtype)
    gf.initialise_(layer, "identity", gain=0.1)
    _, gradients = gradients_of_last(layer, torch.randn(2000, 2, D, dtype=dtype), 1.0)
    norms = gradients[0, 0].log_norm["h"]
    expected = norms[-1] + 1999 * math.log(float(torch.tensor(0.1, dtype=dtype)))
    assert torch.allclose(norms[0], expected, atol=1e-9 if dtype == torch.float64 else 1e-2, rtol=0)
    assert bool((gradients[0, 0].value["h"][0] == 0).all())


@pytest.mark.parametrize("cell", ["lstm", "gru_before", "gru"])
def test_explosion_beyond_float64_and_recovery(cell):
    """Gradients that leave the range and meet a direct gradient on the way agree with sums of the two alone."""
    layer = build(cell, scale=30.0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(100.0 if oracles.is_lstm(layer) else 1.0)
    x = torch.randn(400, 2, D, dtype=torch.float64)
    seen = gf.trace(layer, x)
    gradient = torch.zeros_like(seen.output)
    gradient[-1], gradient[100] = 1.0, 1e-150
    both = gf.state_gradients(seen, output_gradient=gradient)[0, 0]
    late, early = (gf.state_gradients(seen, output_gradient=part)[0, 0] for part in split(gradient))
    larger = torch.maximum(late.log_norm["h"][0], early.log_norm["h"][0])
    assert bool((both.log_norm["h"][0] <= larger + math.log(2) + 1e-9).all())
    apart = (late.log_norm["h"][0] - early.log_norm["h"][0]).abs() > 40
    assert torch.allclose(both.log_norm["h"][0][apart], larger[apart], atol=1e-9)


def split(gradient):
    late, early = torch.zeros_like(gradient), torch.zeros_like(gradient)
    late[-1], early[100] = gradient[-1], gradient[100]
    return late, early


@each_dtype
@each_cell
def test_product_of_jacobians(cell, dtype):
    """I3: J_T … J_1, latest leftmost, is autograd's dh_T/dh_0."""
    layer = build(cell, dtype=dtype)
    x = torch.randn(T, 1, D, dtype=dtype)
    size = H * (2 if oracles.is_lstm(layer) else 1)

    def last(state):
        hx = state.view(-1, 1, 1, H)
        _, finals = layer(x, (hx[0], hx[1]) if oracles.is_lstm(layer) else hx[0])
        return torch.cat([final.flatten() for final in finals]) if oracles.is_lstm(layer) else finals.flatten()

    start = torch.randn(size, dtype=dtype)
    expected = torch.autograd.functional.jacobian(last, start)
    parts = start.view(-1, 1, 1, H)
    hx = (parts[0], parts[1]) if oracles.is_lstm(layer) else parts[0]
    product = oracles.latest_leftmost(gf.trace(layer, x, hx)[0, 0].jacobian.dense()[:, 0])
    close(product.detach(), expected.double(), dtype)


@each_dtype
@each_cell
def test_example_of_a_batch_is_the_example_alone(cell, dtype):
    """I23: B times the gradients of a mean-reduced loss are those of each example alone."""
    layer, x, weight = build(cell, dtype=dtype), torch.randn(T, B, D, dtype=dtype), torch.randn(B, H, dtype=dtype)
    _, together = gradients_of_last(layer, x, weight / B)
    for b in range(B):
        _, alone = gradients_of_last(layer, x[:, b : b + 1], weight[b : b + 1])
        close(B * together[0, 0].value["h"][:, b], alone[0, 0].value["h"][:, 0].double(), dtype)


@each_dtype
@each_cell
def test_padding_changes_nothing(cell, dtype):
    """I24: whatever stands past the read-out, gradients of valid steps are the same and those of padding are masked."""
    layer, lengths = build(cell, dtype=dtype), torch.tensor([3, 7, 1, 5])
    x, weight = torch.randn(T, B, D, dtype=dtype), torch.randn(B, H, dtype=dtype)
    _, found = gradients_of_last(layer, x, weight, lengths=lengths)
    for b, length in enumerate(lengths.tolist()):
        _, alone = gradients_of_last(layer, x[:length, b : b + 1], weight[b : b + 1])
        close(found[0, 0].value["h"][:length, b], alone[0, 0].value["h"][:, 0].double(), dtype)
        assert bool((found[0, 0].value["h"][length:, b] == 0).all())
        assert bool(found[0, 0].log_norm["h"][length:, b].isnan().all())


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_before"])
def test_scaling_the_loss_adds_to_every_log_norm(cell):
    """I31: a loss times 1e-33 in float32 creates no zeros."""
    layer, x = build(cell, dtype=torch.float32), torch.randn(T, B, D)
    _, plain = gradients_of_last(layer, x, 1.0)
    _, small = gradients_of_last(layer, x, 1e-33)
    difference = small[0, 0].log_norm["h"] - plain[0, 0].log_norm["h"]
    assert torch.allclose(difference, torch.full_like(difference, math.log(1e-33)), atol=1e-3)


def test_lstm_without_hidden_path_is_the_product_of_forget_gates():
    """I12: with W_hh = 0 the gradient of c goes through the forget gates alone."""
    layer = build("lstm")
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    seen = gf.trace(layer, torch.randn(T, B, D, dtype=torch.float64))
    seen.c_n.sum().backward()
    found = gf.state_gradients(seen)[0, 0].value["c"]
    for t in range(T):
        assert torch.allclose(found[t], seen[0, 0].gates["f"][t + 1 :].prod(0).detach(), atol=1e-14)


@pytest.mark.parametrize("layout", ["unbatched", "batch_first", "no bias"])
@each_cell
def test_layouts(cell, layout):
    """The same numbers in every layout of torch."""
    x, weight = torch.randn(T, 1, D, dtype=torch.float64), torch.randn(T, 1, H, dtype=torch.float64)
    options = {"bias": False} if layout == "no bias" else {}
    torch.manual_seed(1)
    layer = LAYERS[cell](D, H, **options).double()
    seen = gf.trace(layer, x)
    (seen.output * weight).sum().backward()
    expected = gf.state_gradients(seen)[0, 0].value["h"]
    if layout == "batch_first":
        layer.batch_first = True
        other = gf.trace(layer, x.transpose(0, 1))
        (other.output * weight.transpose(0, 1)).sum().backward()
    elif layout == "unbatched":
        other = gf.trace(layer, x[:, 0])
        (other.output * weight[:, 0]).sum().backward()
    else:
        other = seen
    assert torch.allclose(gf.state_gradients(other)[0, 0].value["h"], expected, atol=1e-14)


@each_cell
def test_non_finite_states_never_raise(cell):
    """NaN inputs and infinite weights give NaN or Inf numbers, counted elsewhere, and no exception."""
    layer = build(cell, dtype=torch.float32)
    x = torch.randn(T, B, D)
    x[3, 1] = torch.nan
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = torch.inf
    seen = gf.trace(layer, x, states_like(layer, torch.float32))
    seen.output.sum().backward()
    found = gf.state_gradients(seen)[0, 0]
    assert not bool(found.log_norm["h"][:3, 1].isfinite().all())
    assert seen[0, 0].jacobian.frobenius_norm().shape == (T, B)
    assert bool(seen[0, 0].jacobian.singular_values().isnan().any())


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match=r"layer: expected torch.nn.RNN, LSTM or GRU.* got Linear"):
        gf.trace(nn.Linear(2, 2), torch.zeros(1, 1, 2))
    with pytest.raises(NotImplementedError, match=r"proj_size=2 is not supported"):
        gf.trace(nn.LSTM(2, 4, proj_size=2), torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match=r"lengths: expected 2 numbers from 1 to 4.* to 5"):
        gf.trace(nn.RNN(2, 3), torch.zeros(4, 2, 2), lengths=torch.tensor([5, 1]))
    with pytest.raises(ValueError, match=r"lengths: expected whole numbers, got torch.float32"):
        gf.trace(nn.RNN(2, 3), torch.zeros(4, 2, 2), lengths=torch.tensor([2.5, 1]))
    seen = gf.trace(nn.RNN(2, 3), torch.zeros(4, 2, 2))
    with pytest.raises(ValueError, match=r"call loss.backward\(\) first"):
        gf.state_gradients(seen)
    with pytest.raises(ValueError, match=r"output_gradient: expected the shape \(4, 2, 3\) of the layer's output, got"):
        gf.state_gradients(seen, torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"c_n_gradient: expected None, a RNN has no c_n"):
        gf.state_gradients(seen, c_n_gradient=torch.ones(1, 2, 3))
    with pytest.raises(KeyError, match=r"expected \(layer, direction\) among"):
        seen[1, 0]
    with pytest.raises(KeyError, match=r"block: expected two of the states"):
        seen[0, 0].jacobian.block("c", "h")
