"""Cells and layers: drop-in for torch, proved over shapes."""

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradflow as gf
from gradflow.cells.gru import GRUCell
from gradflow.cells.lstm import LSTMCell
from gradflow.cells.rnn import LinearCell, ReLUCell, TanhCell

shapes = st.fixed_dictionaries(
    {
        "time": st.integers(1, 6),
        "batch": st.integers(1, 4),
        "features": st.integers(1, 4),
        "hidden": st.integers(1, 5),
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "packed": st.booleans(),
        "given": st.booleans(),
    }
)


@pytest.mark.parametrize(
    ("kind", "own", "extra"),
    [
        (nn.GRU, gf.GRU, {"reset": "after"}),
        (nn.LSTM, gf.LSTM, {}),
        (nn.RNN, gf.RNN, {}),
        (nn.RNN, gf.RNN, {"nonlinearity": "relu"}),
    ],
)
@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_own_kernels_are_torch(kind, own, extra, shape):
    """I28: load_state_dict from torch.nn; outputs, final states and every gradient agree."""
    torch.manual_seed(0)
    options = {name: shape[name] for name in ("num_layers", "bidirectional", "bias", "batch_first")}
    both = {name: value for name, value in extra.items() if name != "reset"}
    theirs = kind(shape["features"], shape["hidden"], **options, **both).double()
    ours = own(shape["features"], shape["hidden"], **options, **extra).double()
    ours.load_state_dict(theirs.state_dict())
    time, batch = shape["time"], shape["batch"]
    x = torch.randn(*((batch, time) if shape["batch_first"] else (time, batch)), shape["features"]).double()
    rows = shape["num_layers"] * (2 if shape["bidirectional"] else 1)
    h, c = torch.randn(2, rows, batch, shape["hidden"]).double()
    hx = None if not shape["given"] else (h, c) if kind is nn.LSTM else h
    if shape["packed"]:
        lengths = torch.randint(1, time + 1, (batch,))
        x = pack_padded_sequence(x, lengths, batch_first=shape["batch_first"], enforce_sorted=False)
    for (out, finals), layer in ((ours(x, hx), ours), (theirs(x, hx), theirs)):
        out = pad_packed_sequence(out)[0] if shape["packed"] else out
        finals = torch.stack(finals) if kind is nn.LSTM else finals
        (out.square().sum() + finals.sum()).backward()
        layer.seen = (out.detach(), finals.detach(), *(p.grad for p in layer.parameters()))
    for mine, other in zip(ours.seen, theirs.seen, strict=True):
        assert torch.allclose(mine, other, atol=1e-12)


PAIRS = [(nn.RNN, gf.RNN), (nn.LSTM, gf.LSTM), (nn.GRU, lambda *a, **k: gf.GRU(*a, reset="after", **k))]


@pytest.mark.parametrize(("kind", "own"), PAIRS)
def test_the_same_seed_starts_with_the_same_bits_and_drops_the_same(kind, own):
    for hidden in range(1, 30):
        layers = []
        for make in (kind, own):
            torch.manual_seed(hidden)
            layers.append(make(3, hidden, 2, bidirectional=True, dropout=0.5))
        theirs, ours = (layer.state_dict() for layer in layers)
        assert list(theirs) == list(ours)
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    outputs = []
    for layer in layers:
        torch.manual_seed(0)
        outputs.append(layer(torch.ones(5, 2, 3))[0])
    assert torch.allclose(*outputs, atol=1e-6)


@pytest.mark.parametrize(("kind", "own"), PAIRS)
def test_unbatched_is_a_batch_of_one(kind, own):
    theirs, ours = kind(3, 4, 2).double(), own(3, 4, 2).double()
    ours.load_state_dict(theirs.state_dict())
    x, hx = torch.randn(5, 3).double(), torch.randn(2, 2, 4).double()
    hx = tuple(hx) if kind is nn.LSTM else hx[0]
    for mine, other in zip(ours(x, hx), theirs(x, hx), strict=True):
        assert len(mine) == len(other)
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(mine, other, strict=True))


@pytest.mark.parametrize(("own"), [gf.LinearRNN, *(own for _, own in PAIRS), gf.GRU])
def test_every_step_is_a_node_of_the_graph(own):
    """A prehook on it is given the total gradient, as `retain_grad` of a loop over the steps would keep it."""
    layer = own(3, 4).double()
    output, _ = layer(torch.randn(5, 2, 3).double())
    seen = {}
    for t, (node, _) in enumerate(output.grad_fn.next_functions):
        node.register_prehook(lambda gradients, t=t: seen.update({t: gradients[0].clone()}))
    output[-1].sum().backward()
    assert sorted(seen) == list(range(5))
    assert torch.equal(seen[4], torch.ones(2, 4).double())
    assert all(0 < float(seen[t].norm()) != float(seen[t + 1].norm()) for t in range(4))


@pytest.mark.parametrize(
    "layer",
    [
        gf.LinearRNN(3, 4, 2, bidirectional=True),
        gf.RNN(3, 4, 2, bidirectional=True, nonlinearity="sigmoid"),
        gf.LSTM(3, 4, 2, bidirectional=True),
        gf.GRU(3, 4, 2, bidirectional=True),
    ],
)
def test_own_layers_are_the_slide(layer):
    layer = layer.double()
    x, lengths = torch.randn(5, 3, 3).double(), [5, 2, 4]
    _, outputs, *finals = oracles.run(layer, x, lengths)
    out, mine = layer(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))
    padded = pad_packed_sequence(out)[0]
    for final, expected in zip(mine if isinstance(mine, tuple) else (mine,), finals, strict=False):
        assert torch.allclose(final, expected, atol=1e-14)
    for b, expected in enumerate(outputs):
        assert torch.allclose(padded[: lengths[b], b], expected, atol=1e-14)
        assert bool((padded[lengths[b] :, b] == 0).all())


def test_one_step_of_every_cell_is_torch():
    """I28 for the step on the slide."""
    torch.manual_seed(0)
    x, h, c = torch.randn(3, 4).double(), torch.randn(3, 5).double(), torch.randn(3, 5).double()
    pairs = [
        (TanhCell, nn.RNNCell(4, 5).double()),
        (ReLUCell, nn.RNNCell(4, 5, nonlinearity="relu").double()),
        (LSTMCell, nn.LSTMCell(4, 5).double()),
        (GRUCell, nn.GRUCell(4, 5).double()),
    ]
    for kind, theirs in pairs:
        cell = kind(theirs.weight_ih, theirs.weight_hh, theirs.bias_ih, theirs.bias_hh)
        new = cell.step(x, {"h": h, "c": c} if "c" in cell.state_names else {"h": h})
        expected = theirs(x, (h, c) if kind is LSTMCell else h)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, value in zip(cell.state_names, expected, strict=True):
            assert torch.allclose(new[name], value, atol=1e-15)


@pytest.mark.parametrize("steps", [2, 5])  # fewer positions than columns, and more
def test_indices_are_one_hot_vectors(steps):
    """Looking columns of W_ih up equals multiplying by one-hot vectors, gradients too."""
    kinds = (gf.RNN, gf.LinearRNN, gf.LSTM, gf.GRU)
    for layer in (*(kind(7, 4) for kind in kinds), gf.GRU(7, 4, bias=False, reset="after")):
        indices = torch.randint(0, 7, (steps, 3))
        gradients = []
        for x in (indices, nn.functional.one_hot(indices, 7).float()):
            layer.zero_grad()
            output, _ = layer(x)
            output.square().sum().backward()
            gradients.append((output.detach(), *(p.grad.clone() for p in layer.parameters())))
        for looked_up, multiplied in zip(*gradients, strict=True):
            assert torch.allclose(looked_up, multiplied, atol=1e-6)


def test_linear_cell_at_rest_has_the_jacobian_of_a_tanh_cell():
    """I29: h = x = b = 0 makes J = W exactly."""
    layer = nn.RNN(2, 3, bias=False)
    jacobian = gf.trace(layer, torch.zeros(2, 1, 2))[0, 0].jacobian.dense()[1, 0]
    assert torch.equal(jacobian, layer.weight_hh_l0.detach())
    assert torch.equal(LinearCell.derivative(torch.ones(2)), torch.ones(2))


def test_gru_with_open_update_gate_keeps_everything():
    """I14: z = 1 makes J the identity."""
    for layer in (nn.GRU(2, 3), gf.GRU(2, 3)):
        gf.initialise_(layer, update_bias=60.0)
        dense = gf.trace(layer.double(), torch.randn(4, 2, 2).double())[0, 0].jacobian.dense()
        assert torch.allclose(dense, torch.eye(3).double().expand_as(dense), atol=1e-15)


def test_errors():
    with pytest.raises(ValueError, match=r'reset: expected "before" or "after", got \'never\''):
        gf.GRU(2, 3, reset="never")
    with pytest.raises(ValueError, match=r'nonlinearity: expected "tanh", "relu" or "sigmoid", got \'gelu\''):
        gf.RNN(2, 3, nonlinearity="gelu")
    with pytest.raises(ValueError, match=r"hidden_size: expected a whole number of at least 1, got 0"):
        gf.LinearRNN(2, 0)
    with pytest.raises(ValueError, match=r"dropout: expected a finite number from 0 to 1, got 2"):
        gf.LinearRNN(2, 2, dropout=2)
    with pytest.raises(ValueError, match=r"input: expected 2 features in the last dimension, got 3"):
        gf.LinearRNN(2, 3)(torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=r"input: expected \[T, B, 2\].* got shape \(2,\)"):
        gf.LinearRNN(2, 3)(torch.zeros(2))
    with pytest.raises(ValueError, match=r"hx: expected a tensor \(1, 4, 3\) for each of the states \['h', 'c'\], got"):
        gf.LSTM(2, 3)(torch.zeros(5, 4, 2), torch.zeros(1, 4, 3))


def test_spectrum_identities():
    """I10: Σσ² = ‖W‖², Σ ln σ = ln|det W|, ρ ≤ σ_1; NaN weights are reported as NaN."""
    layer = nn.RNN(2, 8).double()
    spectrum, weight = gf.recurrent_spectrum(layer), layer.weight_hh_l0.detach()
    sigma, modulus = spectrum.singular_value, (spectrum.eigenvalue_re**2 + spectrum.eigenvalue_im**2) ** 0.5
    assert (sigma**2).sum() == pytest.approx(float(weight.square().sum()))
    assert sum(torch.tensor(sigma.to_numpy()).log()) == pytest.approx(float(weight.det().abs().log()))
    assert modulus.max() <= sigma.max() + 1e-12
    assert modulus.is_monotonic_decreasing
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = torch.nan
    assert gf.recurrent_spectrum(layer).singular_value.isna().all()
