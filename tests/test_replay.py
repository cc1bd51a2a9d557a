"""States, Jacobians and total gradients against the oracle: every cell, stacked, bidirectional, ragged, both dtypes."""

import math

import oracles
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf

LAYERS = {
    "linear": gf.LinearRNN,
    "rnn": nn.RNN,
    "rnn_relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "gru_before": gf.GRU,
    "gru_after": lambda *a, **k: gf.GRU(*a, reset="after", **k),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
each_cell = pytest.mark.parametrize("cell", LAYERS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
each_shape = pytest.mark.parametrize(
    ("num_layers", "bidirectional", "lengths"),
    [(1, False, None), (1, False, [3, 7, 1, 7]), (1, True, [7, 2, 7, 5]), (2, True, None), (3, False, [4, 7, 6, 1])],
)
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
    return (h, c) if isinstance(layer, nn.LSTM) else h


def double(layer):
    import copy

    return copy.deepcopy(layer).double()


def to_double(hx):
    return tuple(h.double() for h in hx) if isinstance(hx, tuple) else hx.double()


def ragged_loss(outputs, h_n, c_n, weights):
    """A loss at every step and at the final states; `outputs` a list over examples of [length, ·]."""
    loss = sum((out * weights["output"][: len(out), b]).sum() for b, out in enumerate(outputs))
    loss = loss + (h_n * weights["h_n"]).sum()
    return loss if c_n is None else loss + (c_n * weights["c_n"]).sum()


def both(layer, lengths, dtype, packed=True):
    """A trace with a loss at every step, and the oracle's states with their gradients."""
    sides = 2 if layer.bidirectional else 1
    x, hx = torch.randn(T, B, D, dtype=dtype), states_like(layer, dtype)
    final = (layer.num_layers * sides, B, H)
    shapes = {"output": (T, B, sides * H), "h_n": final, "c_n": final}
    weights = {name: torch.randn(*shape, dtype=dtype) for name, shape in shapes.items()}
    given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    seen = gf.trace(layer, given, hx)
    padded = seen.call.time_major(seen.output)
    full = [T] * B if lengths is None else lengths
    ragged_loss([padded[:n, b] for b, n in enumerate(full)], seen.h_n, seen.c_n, weights).backward()
    slow = double(layer)
    wide = {name: value.double() for name, value in weights.items()}
    states, outputs, h_n, c_n = oracles.run(slow, x.double(), lengths, to_double(hx))
    loss = ragged_loss(outputs, h_n, c_n, wide)
    loss.backward()
    return seen, states, slow, full


def close(actual, expected, dtype):
    scale = max(1.0, float(expected.abs().max()))
    assert float((actual.double() - expected).abs().max()) <= TOLERANCE[dtype] * scale


@each_dtype
@each_shape
@each_cell
def test_states_gradients_and_weight_shares(cell, num_layers, bidirectional, lengths, dtype):
    """I2, I4: the total gradient is autograd's at every state, and the shares ε_t h_{t-1}ᵀ sum to dL/dW_hh."""
    layer = build(cell, num_layers, bidirectional, dtype)
    seen, states, slow, full = both(layer, lengths, dtype)
    gradients = gf.state_gradients(seen)
    assert set(gradients) == set(states)
    for key, examples in states.items():
        step, found = seen[key], gradients[key]
        for b, positions in enumerate(examples):
            for t, state in enumerate(positions):
                close(step.states["h"][t, b], state["h"].detach(), dtype)
                close(found.value["h"][t, b], state["h"].grad, dtype)
                assert math.isclose(float(found.log_norm["h"][t, b].exp()), float(state["h"].grad.norm()), rel_tol=1e-3)
                if "c" in found.value:
                    close(step.states["c"][t, b], state["c"].detach(), dtype)
                    close(found.value["c_total"][t, b], state["c"].grad, dtype)
            assert bool((found.value["h"][full[b] :, b] == 0).all())
            assert bool(found.log_norm["h"][full[b] :, b].isnan().all())
        tail = f"_l{key[0]}" + ("_reverse" if key[1] else "")
        close(found.weight_share.sum(0), getattr(slow, "weight_hh" + tail).grad, dtype)


@each_dtype
@pytest.mark.parametrize("lengths", [None, [3, 7, 1, 7]])
@each_cell
def test_gate_gradients_sum_to_those_of_all_parameters(cell, lengths, dtype):
    """I4: Σ ε_t x_tᵀ = dL/dW_ih and Σ ε_t = dL/db, of the input's and of the recurrent share."""
    layer = build(cell, dtype=dtype)
    seen, _, slow, _ = both(layer, lengths, dtype)
    found, step = gf.state_gradients(seen)[0, 0], seen[0, 0]
    u = {name: found.value[name] for name in step.cell.state_names}
    of_input, of_state = (step.jacobian.gate_gradients(u, of_input=side).flatten(-2) for side in (True, False))
    close(torch.einsum("tbi,tbj->ij", of_input, step.inputs), slow.weight_ih_l0.grad, dtype)
    close(of_input.sum((0, 1)), slow.bias_ih_l0.grad, dtype)
    close(of_state.sum((0, 1)), slow.bias_hh_l0.grad, dtype)


@each_dtype
@each_shape
@each_cell
def test_step_jacobian(cell, num_layers, bidirectional, lengths, dtype):
    """I1, I7: the closed form is autograd's Jacobian; Frobenius norm and products are those of the matrix."""
    layer = build(cell, num_layers, bidirectional, dtype)
    seen, states, slow, full = both(layer, lengths, dtype)
    for (index, d), examples in states.items():
        step = seen[index, d]
        jacobian = step.jacobian
        dense, norm = jacobian.dense(), jacobian.frobenius_norm()
        v = torch.randn(*jacobian.shape[:3], dtype=dtype)
        forward, backward = jacobian.matvec(v), jacobian.rmatvec(v)
        for b in range(len(examples)):
            for t in range(full[b]):
                c = step.previous["c"][t, b].double() if "c" in step.previous else None
                x_t = step.inputs[t, b].double()
                expected = oracles.step_jacobian(slow, index, d, x_t, step.previous["h"][t, b].double(), c)
                close(dense[t, b], expected, dtype)
                close(norm[t, b], expected.norm(), dtype)
                close(forward[t, b], expected @ v[t, b].double(), dtype)
                close(backward[t, b], expected.T @ v[t, b].double(), dtype)
            assert bool(dense[full[b] :, b].isnan().all())
            assert bool(norm[full[b] :, b].isnan().all())
            assert bool((forward[full[b] :, b] == 0).all())
