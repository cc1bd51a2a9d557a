"""Clipping of state gradients inside the backward pass, step by step, instead of parameter gradients after it.

Shapes: T time steps, B examples, H hidden size, K gates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from gradflow.cells.cell import State, TorchCell
from gradflow.cells.layers import suffix
from gradflow.checks import real_number
from gradflow.flow.adjoint import descend
from gradflow.flow.arriving import Direct
from gradflow.flow.backward import check_traces, leaf_weight
from gradflow.flow.calls import plain_arithmetic, torch_cell_class
from gradflow.flow.recursion import Block
from gradflow.flow.replay import Trace, Unrolled
from gradflow.flow.scaled import times_power_of_two


@dataclass(frozen=True)
class StateClipping:
    """What one clipping of state gradients did.

    Attributes:
        clipped: how many entries of state gradients were clamped: of h, and of the c of an LSTM, at all steps within
            the examples' lengths, in all layers and directions.
        entries: how many there are.
        non_finite: whether any was NaN, which stays NaN, or infinite, which is clamped.
    """

    clipped: int
    entries: int
    non_finite: bool

    @property
    def share(self) -> float:
        """`clipped` over `entries`."""
        return self.clipped / self.entries


def clip_state_gradients_(traces: Sequence[Trace], clip_value: float) -> StateClipping:
    """Let the layers' parameter gradients be those of a backward pass that clamps every state gradient on its way.

    The total gradient of each h_t, and of each c_t of an LSTM (autograd's, with the path c_t -> h_t of the same step),
    is clamped elementwise to ±clip_value before it goes on to the step before and to the layer below, as with
    ``h_t.register_hook(lambda g: g.clamp(-c, c))`` in an unrolled loop: what explodes is bounded at every step. (Graves
    2013, section 2.1, clamps in this way the gradients at the pre-activations of his LSTM.) The layers run on torch's
    own kernels; the backward recursion is done a second time here.

    Call it right after ``loss.backward()``, before anything else changes ``.grad``: that of the layer's weights and
    biases is *overwritten*, so it must hold nothing but what these traces left there. Gradients beside the layer
    (read-out) stay. Gradients are as the loss was reduced: of a mean over B examples, 1/B of each example's.

    Args:
        traces: all calls of the layer since ``optimizer.zero_grad()``: what ``take()`` of
            :func:`gradflow.watch_backward` gave, or those of :func:`gradflow.trace` after the backward pass.
        clip_value: largest absolute value that is left alone; ``math.inf`` clamps nothing.

    Returns:
        What was done.

    Raises:
        TypeError: for a cell of your own.
        ValueError: if no gradient has reached the traces, or `clip_value` is not positive.
        NotImplementedError: if something below the layer is trained as well, which has got its gradients already; for
            parametrized weights (weight_norm, pruning, ...).

    With a GradScaler call it before ``scaler.unscale_``, with ``clip_value * scaler.get_scale()``; in each of several
    processes that train together, average ``.grad`` over them afterwards.

    >>> from gradflow import trace
    >>> layer = torch.nn.RNN(3, 2)
    >>> seen = trace(layer, torch.zeros(5, 4, 3))
    >>> seen.output.sum().mul(100).backward()
    >>> clip_state_gradients_([seen], clip_value=1.0).share
    1.0
    """
    check_traces(traces)
    real_number("clip_value", clip_value, above=0, infinite=True)
    reached = [trace for trace in traces if trace.call.gradients]
    for trace in reached:
        _check_layer(trace)
    tallies: list[Tensor] = []
    sums: dict[Tensor, Tensor] = {}
    for trace in reached:
        with plain_arithmetic(trace.output.data.device):
            run = partial(_clipped_recursion, trace[0, 0].valid, clip_value=clip_value, tallies=tallies)
            for (layer, direction), blocks in descend(trace.whole, trace.call.gradients, run):
                for name, gradient in _shares(next(blocks)).items():
                    weight = leaf_weight(trace, name + suffix(layer, direction))
                    sums[weight] = sums[weight] + gradient if weight in sums else gradient
                next(blocks, None)
    for weight, gradient in sums.items():
        if weight.requires_grad:
            weight.grad = torch.empty_like(weight) if weight.grad is None else weight.grad
            weight.grad.copy_(gradient)
    clipped, entries, non_finite = torch.stack(tallies).sum(0).tolist()
    return StateClipping(clipped, entries, bool(non_finite))


def _check_layer(trace: Trace) -> None:
    call = trace.call
    torch_cell_class(call.layer, "traces")
    if call.trained_below:
        raise NotImplementedError(
            f"traces: something below this {type(call.layer).__name__} is trained as well (its input or initial state "
            f"requires grad), and has got the gradients of the unclipped backward pass; detach or freeze it, or clip "
            f"parameter gradients with gradflow.clip_grad_norm_"
        )
    for name in call.weights:
        leaf_weight(trace, name)


def _clipped_recursion(
    counts: Tensor | None, unrolled: Unrolled, direct: Direct, clip_value: float, tallies: list[Tensor]
) -> Iterator[Block]:
    """All steps as one block, each clamped; what :func:`_tally` says of those that count goes to `tallies`."""
    time, batch, _ = unrolled.like.shape
    arriving, total = direct.part(unrolled, slice(0, time)), {}
    for name in unrolled.cell.state_names:
        total[name] = unrolled.like.new_zeros(time + 1, *unrolled.like.shape[1:])
        if name in arriving.values:
            total[name][:time] = arriving.values[name]
    if arriving.exponent is not None:
        total["h"][:time] = times_power_of_two(total["h"][:time], arriving.exponent)
    before = {name: torch.empty_like(unrolled.like) for name in total}
    clamp = partial(_clamp_lstm if unrolled.is_lstm else _clamp, unrolled, total, before, clip_value)
    order = list(range(time)) if unrolled.reverse else list(range(time - 1, -1, -1))
    epsilon = unrolled.jacobian.backward_(total, order, clamp)
    tallies.append(_tally(torch.stack(list(before.values())), counts, clip_value))
    clamped = {name: part[:time] for name, part in total.items()}
    if unrolled.valid is not None:  # past the end of a reverse direction lies the gradient of its initial state
        clamped = {name: part.masked_fill(~unrolled.valid.unsqueeze(-1), 0) for name, part in clamped.items()}
    no_scale = unrolled.like.new_zeros(time, batch, dtype=torch.float64)
    yield Block(slice(0, time), unrolled, arriving, clamped, epsilon, no_scale, {})


def _clamp(unrolled: Unrolled, total: State, before: State, clip_value: float, t: int) -> None:
    h = total["h"][t]
    before["h"][t] = h
    h.clamp_(-clip_value, clip_value)


def _clamp_lstm(unrolled: Unrolled, total: State, before: State, clip_value: float, t: int) -> None:
    """The gradient of c_t holds the path to h_t of the same step; the adjoint of (h, c), which is kept, does not."""
    _clamp(unrolled, total, before, clip_value, t)
    shown, h, c = cast(Tensor, unrolled.jacobian.shown)[t], total["h"][t], total["c"][t]
    torch.addcmul(c, shown, h, out=before["c"][t])
    torch.clamp(before["c"][t], -clip_value, clip_value, out=c)
    c.addcmul_(shown, h, value=-1)


def _tally(before: Tensor, counts: Tensor | None, clip_value: float) -> Tensor:
    """Of the gradients that arrived, [states, T, B, H]: how many are clamped, there are, and are not finite.

    Of those that count, [T, B] bool; None: all.
    """
    if counts is not None:
        before = before[:, counts]
    outside = before.abs() > clip_value
    return torch.stack((outside.sum(), torch.tensor(before.numel(), device=before.device), (~before.isfinite()).sum()))


def _shares(block: Block) -> State:
    """Parameter name without its tail -> gradient, in the dtype of the replay."""
    unrolled, cell = block.unrolled, cast(TorchCell, block.unrolled.cell)
    multiplied = cell.multiplied(unrolled.gates, unrolled.previous)
    of_hidden, of_input = block.epsilon.flatten(0, 1), block.input_epsilon.flatten(0, 1)
    if multiplied.shape[-2] == 1:
        weight_hh = of_hidden.flatten(1).t() @ multiplied.flatten(0, 2)
    else:
        weight_hh = torch.einsum("nki,nkj->kij", of_hidden, multiplied.flatten(0, 1)).flatten(0, 1)
    shares = {
        "weight_hh": weight_hh,
        "weight_ih": _input_share(of_input.flatten(1), unrolled.inputs.flatten(0, 1), cell),
    }
    if cell.bias_ih is not None:
        shares |= {"bias_ih": of_input.sum(0).flatten(), "bias_hh": of_hidden.sum(0).flatten()}
    return shares


def _input_share(epsilon: Tensor, inputs: Tensor, cell: TorchCell) -> Tensor:
    """Of ``weight_ih``, [K·H, D]; inputs [N, D], or indices [N]."""
    if inputs.is_floating_point():
        return epsilon.t() @ inputs.to(epsilon.dtype)
    return epsilon.new_zeros(cell.weight_ih.shape[1], epsilon.shape[1]).index_add_(0, inputs, epsilon).t()
