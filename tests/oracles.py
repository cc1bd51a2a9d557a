"""Slow, obviously right answers in float64: a Python loop over steps and autograd, one element at a time.

Nothing here is shared with the code under test but the weights; nothing is to be made faster.
"""

import copy

import torch
from torch import nn

import gradflow as gf


def is_lstm(layer):
    """Torch's or gradflow's."""
    return isinstance(layer, nn.LSTM | gf.LSTM)


def step(layer, index, direction, x_t, h, c=None):
    """One step of one layer and direction in the words of torch's documentation: returns (h, c)."""
    tail = f"_l{index}" + ("_reverse" if direction else "")
    w_ih, w_hh = getattr(layer, "weight_ih" + tail), getattr(layer, "weight_hh" + tail)
    zero = torch.zeros(len(w_ih), dtype=w_ih.dtype)
    b_ih, b_hh = (getattr(layer, name + tail, zero) for name in ("bias_ih", "bias_hh"))
    a, b = x_t @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    if isinstance(layer, gf.LinearRNN):
        return a + b, None
    if isinstance(layer, nn.RNN | gf.RNN):
        return getattr(torch, layer.nonlinearity)(a + b), None
    if is_lstm(layer):
        i, f, g, o = (a + b).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    if isinstance(layer, gf.GRU) and layer.reset == "before":
        size = layer.hidden_size
        n = torch.tanh(a_n + (r * h) @ w_hh[2 * size :].T + b_hh_n(b_hh, size))
    else:
        n = torch.tanh(a_n + r * b_n)
    return (1 - z) * n + z * h, None


def b_hh_n(b_hh, size):
    return b_hh[2 * size :]


def run(layer, x, lengths=None, hx=None, scales=None, hook=None):
    """Every state of every layer and direction, each a leaf of the graph's own with `retain_grad`.

    Args:
        x: [T, B, D].
        lengths: list of ints.
        hx: h_0 or (h_0, c_0), [L·directions, B, H].
        scales: for each layer what dropout multiplies its input by, [T, B, ·], or None.
        hook: on the gradient of every state.

    Returns:
        states[(layer, direction)][b] = list over positions of dicts {"h", "c"}; outputs[b] = [length, directions·H];
        finals: {"h_n", "c_n"} -> [L·directions, B, H].
    """
    time, batch, _ = x.shape
    lengths = [time] * batch if lengths is None else [int(n) for n in lengths]
    sides = 2 if layer.bidirectional else 1
    lstm = is_lstm(layer)
    given = hx if isinstance(hx, tuple) else (hx, None)
    zeros = x.new_zeros(layer.num_layers * sides, batch, layer.hidden_size)
    h_0, c_0 = (zeros if value is None else value for value in given)
    states, outputs, finals = {}, [], {"h_n": [[] for _ in range(layer.num_layers * sides)], "c_n": []}
    finals["c_n"] = [[] for _ in range(layer.num_layers * sides)]
    for b in range(batch):
        inputs = [x[t, b] for t in range(lengths[b])]
        for index in range(layer.num_layers):
            columns = []
            if scales is not None and scales[index] is not None:
                inputs = [value * scales[index][t, b] for t, value in enumerate(inputs)]
            for d in range(sides):
                row = index * sides + d
                h, c = h_0[row, b], (c_0[row, b] if lstm else None)
                seen = [None] * lengths[b]
                for t in reversed(range(lengths[b])) if d else range(lengths[b]):
                    h, c = step(layer, index, d, inputs[t], h, c)
                    for state in (h, c) if lstm else (h,):
                        if state.requires_grad:
                            state.retain_grad()
                        if hook is not None:
                            state.register_hook(hook)
                    seen[t] = {"h": h, "c": c}
                states.setdefault((index, d), []).append(seen)
                finals["h_n"][row].append(h)
                finals["c_n"][row].append(c)
                columns.append([s["h"] for s in seen])
            inputs = [torch.cat(parts) for parts in zip(*columns, strict=True)]
        outputs.append(torch.stack(inputs))
    h_n = torch.stack([torch.stack(rows) for rows in finals["h_n"]])
    c_n = torch.stack([torch.stack(rows) for rows in finals["c_n"]]) if lstm else None
    return states, outputs, h_n, c_n


def step_jacobian(layer, index, direction, x_t, h, c=None):
    """∂(h, c)/∂(h, c) of one step for one example, [S, S], column by column through autograd."""
    size = layer.hidden_size
    lstm = is_lstm(layer)

    def whole(state):
        new = step(layer, index, direction, x_t, state[:size], state[size:] if lstm else None)
        return torch.cat(new) if lstm else new[0]

    state = torch.cat((h, c)) if lstm else h
    return torch.autograd.functional.jacobian(whole, state)


def latest_leftmost(jacobians):
    """J_T … J_1 of dense [T, S, S]."""
    product = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    for jacobian in jacobians:
        product = jacobian @ product
    return product


def double(layer):
    """A copy of a layer in float64."""
    return copy.deepcopy(layer).double()


def to_double(hx):
    """Initial states in float64."""
    return tuple(h.double() for h in hx) if isinstance(hx, tuple) else hx.double()
