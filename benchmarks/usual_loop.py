"""The usual way to see state gradients and Jacobians: a loop over torch's cells, and automatic differentiation.

Written as fairly as one can: the layer's own parameters, the input unbound once (``x[t]`` inside the loop costs a
backward pass that is quadratic in T), Jacobians of all examples of a step at once. T steps, B examples, D inputs, H
hidden units, S = H, or 2H for the (h, c) of an LSTM. Layers have one layer, one direction and are time first.

    output, states = usual_iteration(cell, x)
    loss_of(output).backward()
    state_gradient_norms(states)
    spectral_norms(dense_jacobians(cell, x, states))
"""

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn import functional as F

Cell = nn.RNNCell | nn.LSTMCell | nn.GRUCell
CELLS: dict[str, type[Cell]] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


def usual_cell(kind: str, layer: nn.Module) -> Cell:
    """The cell of torch (`kind` is rnn, lstm or gru) on the parameters of a torch.nn.RNN, LSTM or GRU."""
    cell = CELLS[kind.removeprefix("gf.").lower()](layer.input_size, layer.hidden_size)
    for name, _ in list(cell.named_parameters()):
        setattr(cell, name, getattr(layer, f"{name}_l0"))
    return cell


def usual_iteration(cell: Cell, x: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """Run x [T, B, D] step by step.

    Returns:
        Output [T, B, H], and "h" (and "c") -> the T states [B, H], in whose ``grad`` backward leaves the total
        gradients.
    """
    zeros = x.new_zeros(x.shape[1], cell.hidden_size)
    state = (zeros, zeros) if isinstance(cell, nn.LSTMCell) else (zeros,)
    states: dict[str, list[Tensor]] = {name: [] for name in ("h", "c")[: len(state)]}
    for x_t in x.unbind(0):
        new = cell(x_t, state if len(state) == 2 else state[0])
        state = new if isinstance(new, tuple) else (new,)
        for kept, tensor in zip(states.values(), state, strict=True):
            tensor.retain_grad()
            kept.append(tensor)
    return torch.stack(states["h"]), states


def state_gradient_norms(states: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """‖dL/dh_t‖ (and autograd's ‖dL/dc_t‖), [T, B]."""
    return {name: torch.stack([s.grad for s in kept]).norm(dim=-1) for name, kept in states.items()}


def dense_jacobians(cell: Cell, x: Tensor, states: dict[str, list[Tensor]]) -> Tensor:
    """∂s_t/∂s_{t-1} of every step and example by reverse mode, [T, B, S, S]."""
    weights = {name: weight.detach() for name, weight in cell.named_parameters()}

    def step(state: Tensor, x_t: Tensor) -> Tensor:
        return _STEPS[type(cell)](weights, state, x_t)

    jacobians = vmap(jacrev(step))
    after = torch.cat([torch.stack(kept).detach() for kept in states.values()], -1)
    before = torch.cat((torch.zeros_like(after[:1]), after[:-1]))
    return torch.stack([jacobians(state, x_t) for state, x_t in zip(before, x, strict=True)])


def spectral_norms(jacobians: Tensor) -> Tensor:
    """The largest singular value of each, [T, B], by a full decomposition."""
    return torch.linalg.svdvals(jacobians)[..., 0]


def _both(weights: dict[str, Tensor], h: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
    of_input = F.linear(x_t, weights["weight_ih"], weights["bias_ih"])
    return of_input, F.linear(h, weights["weight_hh"], weights["bias_hh"])


def _rnn(weights: dict[str, Tensor], h: Tensor, x_t: Tensor) -> Tensor:
    return torch.tanh(sum(_both(weights, h, x_t)))


def _lstm(weights: dict[str, Tensor], state: Tensor, x_t: Tensor) -> Tensor:
    h, c = state.chunk(2)
    i, f, g, o = sum(_both(weights, h, x_t)).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return torch.cat((o.sigmoid() * c.tanh(), c))


def _gru(weights: dict[str, Tensor], h: Tensor, x_t: Tensor) -> Tensor:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (part.chunk(3) for part in _both(weights, h, x_t))
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    return (1 - z) * (x_n + r * h_n).tanh() + z * h


_STEPS = {nn.RNNCell: _rnn, nn.LSTMCell: _lstm, nn.GRUCell: _gru}
