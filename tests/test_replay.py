"""What a replay must know of the forward pass: the masks of its dropout, its precision, where its examples end."""

import copy

import oracles
import pytest
import torch
from covering import each_pair
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradflow as gf

LAYERS = {
    "linear": gf.LinearRNN,
    "rnn": nn.RNN,
    "rnn_relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "rnn_sigmoid": lambda *a, **k: gf.RNN(*a, nonlinearity="sigmoid", **k),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "gru_before": gf.GRU,
    "lstm_own": gf.LSTM,
    "gru_after": lambda *a, **k: gf.GRU(*a, reset="after", **k),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
each_cell = pytest.mark.parametrize("cell", LAYERS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
D, H, T, B = 3, 5, 7, 4


def build(cell, num_layers=1, bidirectional=False, dtype=torch.float64, bias=True, scale=2.0):
    torch.manual_seed(7)
    layer = LAYERS[cell](D, H, num_layers, bias=bias, bidirectional=bidirectional).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(scale)
    return layer


def states_like(layer, dtype=torch.float64):
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    h, c = torch.randn(2, rows, B, layer.hidden_size, dtype=dtype).unbind(0)
    return (h, c) if oracles.is_lstm(layer) else h


def close(actual, expected, dtype):
    scale = max(1.0, float(expected.abs().max()))
    assert float((actual.double() - expected).abs().max()) <= TOLERANCE[dtype] * scale


def dropped(cell, packed=False, bidirectional=False, batch_first=False, dtype=torch.float32):
    """A stack of three in training mode with dropout, and an input."""
    torch.manual_seed(7)
    layer = LAYERS[cell](D, H, 3, dropout=0.4, bidirectional=bidirectional, batch_first=batch_first).to(dtype)
    x = torch.randn(*((B, T) if batch_first else (T, B)), D, dtype=dtype)
    if packed:
        x = pack_padded_sequence(x, torch.tensor([3, 7, 1, 5]), batch_first=batch_first, enforce_sorted=False)
    return layer, x


def alone(layer, index):
    """One layer of a stack as a layer of its own."""
    columns = getattr(layer, f"weight_ih_l{index}").shape[1]
    options = {"nonlinearity": layer.nonlinearity} if hasattr(layer, "nonlinearity") else {}
    options |= {"reset": layer.reset} if hasattr(layer, "reset") else {}
    single = type(layer)(columns, H, bidirectional=layer.bidirectional, **options).to(layer.weight_ih_l0.dtype)
    parameters = dict(layer.named_parameters())
    single.load_state_dict({name: parameters[name.replace("_l0", f"_l{index}")] for name in single.state_dict()})
    return single


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@each_pair(
    cell=[*LAYERS],
    layout=["tensor", "packed", "batch_first"],
    bidirectional={"one way": False, "both ways": True},
    one_dnn={"oneDNN": True, "native": False},
)
def test_dropout_is_that_of_the_forward_pass_bit_for_bit(cell, layout, bidirectional, one_dnn):
    """Each layer alone, on the inputs as replayed, gives the inputs of the next and at last the output of the stack."""
    layer, x = dropped(cell, layout == "packed", bidirectional, layout == "batch_first")
    with torch.backends.mkldnn.flags(enabled=one_dnn), torch.no_grad():
        seen = gf.trace(layer, x)
        before = torch.get_rng_state()
        steps = [seen[index, 0] for index in range(3)]
        assert torch.equal(before, torch.get_rng_state())
        for index, step in enumerate(steps):
            inputs, lengths = step.inputs, step.lengths
            if lengths is not None:
                inputs = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
            output, _ = alone(layer, index)(inputs)
            hidden = output if lengths is None else pad_packed_sequence(output)[0]
            if index < 2:
                assert torch.equal(hidden * steps[index + 1].input_scale, steps[index + 1].inputs)
    assert torch.equal(hidden, seen.call.time_major(seen.output))
    assert {0.0, float(1 / torch.tensor(0.6))} == set(steps[1].input_scale.unique().tolist())


@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_dropout_follows_the_mode_and_the_moment_of_the_forward_pass(cell):
    layer, x = dropped(cell)
    first, second = gf.trace(layer, x), gf.trace(layer, x)
    layer.eval()
    still = gf.trace(layer, x)
    assert not torch.equal(first[1, 0].input_scale, second[1, 0].input_scale)
    assert still[1, 0].input_scale is None
    assert first[0, 0].input_scale is None
    layer.train()
    single = LAYERS[cell](D, H)
    single.dropout = 0.4
    assert gf.trace(single, x)[0, 0].input_scale is None


def test_dropout_where_masks_cannot_be_drawn_again():
    layer = nn.LSTM(D, H, 2, dropout=0.4, device="meta")
    with pytest.raises(NotImplementedError, match=r"layer: dropout=0.4 between layers cannot be replayed on meta.*use"):
        gf.trace(layer, torch.zeros(T, B, D, device="meta"))


each_precision = pytest.mark.parametrize("precision", ["autocast", "bfloat16", "float16"])
half_cells = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "linear", "gru_before"])


@each_precision
@half_cells
def test_half_precision(cell, precision):
    """Replayed in float32: the gradients of the rounded weights in float64, to the accuracy of half precision."""
    torch.manual_seed(3)
    layer = LAYERS[cell](D, H, 2, bidirectional=True)
    dtype = torch.bfloat16 if precision == "autocast" else getattr(torch, precision)
    x, weight = torch.randn(T, B, D).to(dtype), torch.randn(T, B, 2 * H).to(dtype)
    slow = copy.deepcopy(layer).to(dtype).double()
    if precision == "autocast":
        x = x.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            seen = gf.trace(layer, x)
            (seen.output * weight).float().sum().backward()
            found = gf.state_gradients(seen)
    else:
        seen = gf.trace(layer.to(dtype), x)
        (seen.output * weight).float().sum().backward()
        found = gf.state_gradients(seen)
    states, outputs, _, _ = oracles.run(slow, x.double())
    sum((out * weight[:, b].double()).sum() for b, out in enumerate(outputs)).backward()
    for key, examples in states.items():
        expected = torch.stack([torch.stack([state["h"].grad for state in seq]) for seq in examples], 1)
        error = (found[key].value["h"] - expected).abs().max() / expected.abs().max()
        assert float(error) < 8 * torch.finfo(dtype).eps
        assert seen[key].jacobian.frobenius_norm().isfinite().all()
        assert found[key].value["h"].dtype == seen[key].states["h"].dtype == torch.float32
        tail = f"_l{key[0]}" + ("_reverse" if key[1] else "")
        of_weight = getattr(slow, "weight_hh" + tail).grad
        assert (
            float((found[key].weight_share.sum(0) - of_weight).abs().max() / of_weight.abs().max())
            < 8 * torch.finfo(dtype).eps
        )


def padded(lengths=(3, 7, 1, 5), **options):
    torch.manual_seed(5)
    layer = nn.GRU(D, H, **options).double()
    return gf.trace(layer, torch.randn(T, B, D).double(), lengths=torch.tensor(lengths))


def test_gradients_through_padding_are_refused():
    """With `lengths` a padded tensor has no state at its end: torch's h_n is the one after the padding."""
    seen = padded()
    with pytest.raises(
        ValueError, match=r"lengths: a gradient arrives at h_n past the end of example 0.* 3 of 7.*pack"
    ):
        gf.state_gradients(seen, h_n_gradient=torch.ones_like(seen.h_n))
    with pytest.raises(ValueError, match=r"lengths: a gradient arrives at output past .*read output at lengths - 1"):
        gf.state_gradients(seen, torch.ones_like(seen.output))
    with pytest.raises(ValueError, match=r"lengths: the reverse direction of a padded tensor .* of this GRU .*pack"):
        gf.state_gradients(padded(num_layers=2, bidirectional=True), torch.zeros(T, B, 2 * H).double())
    gradient = torch.zeros_like(seen.h_n)
    gradient[:, 1] = 1  # that example fills all positions
    gradient[:, 0] = torch.nan  # a diverged loss is recorded
    assert bool(gf.state_gradients(seen, h_n_gradient=gradient)[0, 0].log_norm["h"][:, 1].isfinite().all())
    both = padded(bidirectional=True)
    gradient = torch.zeros_like(both.h_n)
    gradient[1] = 1  # the last state of the reverse direction is no padding
    assert bool(gf.state_gradients(both, h_n_gradient=gradient)[0, 1].log_norm["h"][0].isfinite().all())
