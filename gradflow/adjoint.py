"""Total gradients dL/dh_t of a replayed layer from the direct ones, which autograd leaves on its outputs.

The gradient of a fused layer's output is only the *direct* derivative g_t. The total one follows by
δ_{t-1} = J_tᵀ δ_t + g_{t-1}; what arrives at the inputs of one layer is the direct gradient of the layer below.

Shapes: T time steps, B examples, H hidden size, K gates.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradflow.cells import State
from gradflow.metrics import log_norm
from gradflow.replay import Step, Trace


@dataclass(frozen=True)
class StateGradients:
    """Gradients of the loss, as it was reduced, at the states of one layer in one direction.

    Keys: ``"h"``; for an LSTM also ``"c"``, the adjoint of the state (h, c), and ``"c_total"``, autograd's gradient of
    c_t, which holds the path c_t -> h_t of the same step as well.

    Attributes:
        value: key -> [T, B, H] in the layer's dtype; 0 past an example's length, and where it underflows.
        log_norm: key -> [T, B] float64, natural log of the norm without limit of range; also ``"joint"``, of (h, c).
            NaN past an example's length, -inf where exactly zero.
        direct: key -> [T, B, H], the direct derivative: what arrives at the state not through later states.
        log_weight_share: [T, B] float64, ln‖ε_t ⊗ h_{t-1}‖, the share of each step and example in dL/dW_hh.
    """

    value: State
    log_norm: State
    direct: State
    log_weight_share: Tensor
    _scaled: State
    _log_scale: Tensor
    _step: Step

    def weight_share(self) -> Tensor:
        """Share of each step in dL/dW_hh, summed over the examples, [T, K·H, H] float64; their sum is dL/dW_hh."""
        scale = self._log_scale.exp().unsqueeze(-1)
        epsilon = self._step.jacobian.double().gate_gradients({n: p * scale for n, p in self._scaled.items()})
        inputs = self._step.cell.multiplied(self._step.gates, self._step.previous).double()
        return torch.einsum("tbki,tbkj->tkij", epsilon, inputs.expand_as(epsilon)).flatten(1, 2)


def state_gradients(
    trace: Trace,
    output_gradient: Tensor | PackedSequence | None = None,
    h_n_gradient: Tensor | None = None,
    c_n_gradient: Tensor | None = None,
) -> dict[tuple[int, int], StateGradients]:
    """Total gradients dL/dh_t (and dL/dc_t) of every layer and direction.

    Args:
        trace: a forward pass; without the other arguments, one through which a backward pass went.
        output_gradient: dL/d output as autograd leaves it there (its ``.grad``), in the layer's own layout.
        h_n_gradient: dL/d h_n, [L·directions, B, H].
        c_n_gradient: dL/d c_n, for an LSTM.

    Returns:
        (layer, direction) -> :class:`StateGradients`.

    Raises:
        ValueError: if there is no gradient at all.

    >>> from gradflow import trace
    >>> seen = trace(torch.nn.RNN(3, 2), torch.zeros(5, 4, 3))
    >>> seen.output[-1].sum().backward()
    >>> state_gradients(seen)[0, 0].log_norm["h"].shape
    torch.Size([5, 4])
    """
    given = {"output": output_gradient, "h_n": h_n_gradient, "c_n": c_n_gradient}
    arrived = {name: value for name, value in given.items() if value is not None} or trace.call.gradients
    if not arrived:
        raise ValueError("state_gradients: no gradient has arrived at the layer's outputs; call loss.backward() first")
    with torch.no_grad():
        return _descend(trace, arrived)


def _descend(trace: Trace, arrived: dict[str, Any]) -> dict[tuple[int, int], StateGradients]:
    call, layer = trace.call, trace.call.layer
    sides = 2 if layer.bidirectional else 1
    keys = trace.keys()
    hidden = trace[0, 0].states["h"]
    from_above = hidden.new_zeros(*hidden.shape[:2], sides * hidden.shape[2])
    if "output" in arrived:
        gradient = arrived["output"]
        if isinstance(call.output, PackedSequence) and not isinstance(gradient, PackedSequence):
            gradient = call.output._replace(data=gradient)
        from_above = trace.pick(call.time_major(gradient))
    result = {}
    for index in reversed(range(layer.num_layers)):
        below: list[Tensor] = []
        for side, part in enumerate(from_above.chunk(sides, -1)):
            step, row = trace[index, side], index * sides + side
            finals = {
                name: trace.pick(call.state_major(arrived[name]))[row] for name in ("h_n", "c_n") if name in arrived
            }
            result[index, side] = _step_gradients(step, part, finals)
            if index:
                below.append(_at_input(step, result[index, side]))
        from_above = torch.stack(below).sum(0) if below else from_above
    return {key: result[key] for key in keys}


def _step_gradients(step: Step, at_output: Tensor, finals: dict[str, Tensor]) -> StateGradients:
    """`at_output` [T, B, H] arrives position by position; `finals` at the last state of this direction."""
    direct = {name: torch.zeros_like(step.states["h"]) for name in step.cell.state_names}
    valid = step.valid
    direct["h"] += at_output if valid is None else at_output.masked_fill(~valid.unsqueeze(-1), 0)
    batch = torch.arange(at_output.shape[1])
    ends = 0 if step.reverse else len(at_output) - 1 if step.lengths is None else step.lengths - 1
    for name, gradient in finals.items():
        direct[name[0]][ends, batch] += gradient
    scaled, log_scale = step.jacobian.adjoint(direct, reverse=step.reverse)
    if valid is not None:  # past the end of a reverse direction lies the gradient of its initial state
        scaled = {name: part.masked_fill(~valid.unsqueeze(-1), 0) for name, part in scaled.items()}
    return _gradients(step, direct, scaled, log_scale)


def _gradients(step: Step, direct: State, scaled: State, log_scale: Tensor) -> StateGradients:
    named = dict(scaled)
    if "c" in scaled:
        through = step.gates["o"] * (1 - torch.tanh(step.states["c"]).square())
        named["c_total"] = scaled["c"] + through * scaled["h"]
    norms = {name: log_norm(part) + log_scale for name, part in named.items()}
    if "c" in scaled:
        norms["joint"] = log_norm(torch.cat((scaled["h"], scaled["c"]), -1)) + log_scale
    epsilon = step.jacobian.double().gate_gradients(scaled)
    share = log_norm(epsilon) + log_norm(step.cell.multiplied(step.gates, step.previous))
    share = torch.logsumexp(2 * share, -1) / 2 + log_scale
    valid = step.valid
    if valid is not None:
        norms = {name: part.masked_fill(~valid, torch.nan) for name, part in norms.items()}
        share = share.masked_fill(~valid, torch.nan)
    scale = log_scale.exp().unsqueeze(-1)
    value = {name: (part * scale).to(step.states["h"].dtype) for name, part in named.items()}
    return StateGradients(value, norms, direct, share, scaled, log_scale, step)


def _at_input(step: Step, gradients: StateGradients) -> Tensor:
    """dL/dx_t, [T, B, D]: the direct gradient of the layer below."""
    states = {name: gradients.value[name] for name in step.cell.state_names}
    epsilon = step.jacobian.gate_gradients(states, of_input=True)
    return epsilon.flatten(-2) @ step.cell.weight_ih
