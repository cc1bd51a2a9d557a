"""Total gradients dL/dh_t of a replayed layer from the direct ones, which autograd leaves on its outputs.

The gradient of a fused layer's output is only the *direct* derivative g_t. The total one follows by
δ_{t-1} = J_tᵀ δ_t + g_{t-1} (:mod:`gradflow.flow.recursion`); what arrives at the inputs of one layer is the direct
gradient of the layer below.

Shapes: T time steps, B examples, H hidden size, K gates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradflow.cells.cell import State
from gradflow.checks import check_kind
from gradflow.flow.arriving import Direct
from gradflow.flow.calls import plain_arithmetic
from gradflow.flow.metrics import log_norm
from gradflow.flow.padding import check_padding
from gradflow.flow.recursion import Block, Run, recur
from gradflow.flow.replay import Trace, Unrolled
from gradflow.flow.scaled import scaled_sum, times_power_of_two


@dataclass(frozen=True)
class StateGradients:
    """Gradients of the loss, as it was reduced, at the states of one layer in one direction.

    Keys: ``"h"``, or the states of a cell of the user's own; for an LSTM also ``"c"``, the adjoint of the state (h, c),
    and ``"c_total"``, autograd's gradient of c_t, which holds the path c_t -> h_t of the same step as well.

    Attributes:
        value: key -> [T, B, H] in the layer's dtype; 0 past an example's length, and where it underflows.
        log_norm: key -> [T, B] float64, natural log of the norm without limit of range; also ``"joint"``,
            of all states, if there are several. NaN past an example's length, -inf where exactly zero.
        direct: key -> [T, B, H], the direct derivative: what arrives at the state not through later states.
        log_weight_share: [T, B] float64, ln‖ε_t ⊗ h_{t-1}‖, the share of each step and example in dL/dW_hh; None for a
            cell of the user's own.
        weight_share: [T, K·H, H] float64, that share summed over the examples; or None. Its sum over time is dL/dW_hh,
            but for the share of the padding of a padded tensor, in which its reverse direction begins.
    """

    value: State
    log_norm: State
    direct: State
    log_weight_share: Tensor | None
    weight_share: Tensor | None


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
        h_n_gradient: dL/d h_n, [L·directions, B, H]: of the first state of the cell.
        c_n_gradient: dL/d c_n, for an LSTM: of the second.

    Returns:
        (layer, direction) -> :class:`StateGradients`.

    Raises:
        ValueError: if there is no gradient at all, or one came through the padding of ``trace(..., lengths=...)``.

    >>> from gradflow import trace
    >>> seen = trace(torch.nn.RNN(3, 2), torch.zeros(5, 4, 3))
    >>> seen.output[-1].sum().backward()
    >>> state_gradients(seen)[0, 0].log_norm["h"].shape
    torch.Size([5, 4])
    """
    check_kind("trace", trace, Trace, "what gradflow.trace returned")
    if c_n_gradient is not None and len(trace.call.finals) < 2:
        raise ValueError(f"c_n_gradient: expected None, a {type(trace.call.layer).__name__} has no c_n; leave it out")
    given = {"output": output_gradient}
    given |= dict(zip(trace.call.final_names, (h_n_gradient, c_n_gradient), strict=False))
    arrived = {name: value for name, value in given.items() if value is not None} or trace.call.gradients
    if not arrived:
        raise ValueError("state_gradients: no gradient has arrived at the layer's outputs; call loss.backward() first")
    _check_shapes(trace, given)
    with plain_arithmetic(trace.call.finals[0].device):
        found = {key: [(block, _weight_share(block)) for block in blocks] for key, blocks in descend(trace, arrived)}
        return {key: _assembled(trace[key], *zip(*found[key], strict=True)) for key in trace.keys()}  # noqa: SIM118


def _check_shapes(trace: Trace, given: Mapping[str, Any]) -> None:
    call = trace.call
    outputs = dict(zip(("output", *call.final_names), (call.output, *call.finals), strict=True))
    for name, gradient in given.items():
        if gradient is None or isinstance(gradient, PackedSequence):
            continue
        check_kind(f"{name}_gradient", gradient, Tensor, "a tensor, such as output.grad")
        expected = tuple(outputs[name].data.shape)
        if tuple(gradient.shape) != expected:
            raise ValueError(
                f"{name}_gradient: expected the shape {expected} of the layer's {name}, got {tuple(gradient.shape)}"
            )


def descend(
    trace: Trace,
    arrived: Mapping[str, Any],
    run: Run = recur,
    at: Tensor | None = None,
) -> Iterator[tuple[tuple[int, int], Iterator[Block]]]:
    """(layer, direction) and its backward recursion, from the top layer down; each must be run through.

    Args:
        trace: a forward pass.
        arrived: "output" and state name + "_n" -> the gradient that autograd left there.
        run: the recursion of one layer and direction.
        at: [T, B] bool, the positions whose gradients are taken, those of final states at the last of their direction;
            None: all.
    """
    check_padding(trace.call, arrived)
    layer = trace.call.layer
    sides = 2 if layer.bidirectional else 1
    direct = [Direct(None if part is None else only(part, at)) for part in _at_output(trace, arrived, sides)]
    for index in reversed(range(layer.num_layers)):
        below = []
        for side in range(sides):
            unrolled = trace[index, side]
            at_end = None if at is None else at[unrolled.ends, torch.arange(len(unrolled.ends), device="cpu")]
            finals = {n: only(part, at_end) for n, part in _at_finals(trace, arrived, index * sides + side).items()}
            blocks: list[Block] = []
            given = replace(direct[side], finals=finals, read=trace.read.get((index, side)))
            yield (index, side), kept(run(unrolled, given), blocks, keep=index > 0)
            if index:
                below.append(handed_down(blocks, unrolled))
        if index:
            values, exponents = below[0][:2] if sides == 1 else scaled_sum(*below[0][:2], *below[1][:2])
            direct = [Direct(part, exponents, unknown=below[0][2]) for part in values.chunk(sides, -1)]


def kept(blocks: Iterator[Block], into: list[Block], *, keep: bool) -> Iterator[Block]:
    """The same blocks, which are left behind as well if asked for."""
    for block in blocks:
        if keep:
            into.append(block)
        yield block


def _at_output(trace: Trace, arrived: Mapping[str, Any], sides: int) -> Sequence[Tensor | None]:
    """What arrives at the output of each direction, [T, B, H], 0 past an example's length."""
    gradient, output = arrived.get("output"), trace.call.output
    if gradient is None:
        return [None] * sides
    if isinstance(output, PackedSequence) and not isinstance(gradient, PackedSequence):
        gradient = output._replace(data=gradient)
    picked = trace.pick(trace.call.time_major(gradient))
    valid = trace[0, 0].valid
    return (picked if valid is None else picked.masked_fill(~valid.unsqueeze(-1), 0)).chunk(sides, -1)


def arriving_at(trace: Trace, arrived: Mapping[str, Any]) -> Tensor:
    """Where the loss reads the layer, [directions, T, B] bool: a gradient arrives that is not exactly zero.

    At the output of a direction, or, at its last position, at the final states of any of its layers.

    Args:
        trace: a forward pass.
        arrived: as for :func:`descend`.
    """
    sides = 2 if trace.call.layer.bidirectional else 1
    found = []
    for side, part in enumerate(_at_output(trace, arrived, sides)):
        unrolled = trace[0, side]
        nowhere = torch.zeros(unrolled.like.shape[:2], dtype=torch.bool, device="cpu")
        at = nowhere if part is None else (part != 0).any(-1).cpu()
        for row in range(side, trace.call.layer.num_layers * sides, sides):
            for final in _at_finals(trace, arrived, row).values():
                at[unrolled.ends, torch.arange(at.shape[1], device="cpu")] |= (final != 0).any(-1).cpu()
        found.append(at)
    return torch.stack(found)


def only(gradients: Tensor, at: Tensor | None) -> Tensor:
    """Zero where `at` is False."""
    return gradients if at is None else gradients.masked_fill(~at.to(gradients.device).unsqueeze(-1), 0)


def _at_finals(trace: Trace, arrived: Mapping[str, Any], row: int) -> State:
    """What arrives at the final states of one layer and direction: state name -> [B, H]."""
    call = trace.call
    names = [name for name in call.final_names if name in arrived]
    return {name.removesuffix("_n"): trace.pick(call.state_major(arrived[name]))[row] for name in names}


def handed_down(blocks: Sequence[Block], unrolled: Unrolled) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the blocks of one layer hand to the one below: dL/dx_t [T, B, D], its powers of two and where it is unknown.

    The latter are [T, B]; unknown is None where it is nowhere, as in both of two directions.
    """
    values, exponent = (
        in_time(part, unrolled) for part in ([b.at_input() for b in blocks], [b.exponent for b in blocks])
    )
    if all(block.unknown is None for block in blocks):
        return values, exponent, None
    none = torch.zeros_like(exponent, dtype=torch.bool)
    unknown = [none[b.positions] if b.unknown is None else b.unknown for b in blocks]
    return values, exponent, in_time(unknown, unrolled)


def in_time(parts: Sequence[Tensor], unrolled: Unrolled) -> Tensor:
    """Blocks of the backward recursion put together by position."""
    return torch.cat(list(parts if unrolled.reverse else reversed(parts)))


def _weight_share(block: Block) -> Tensor | None:
    cell = block.unrolled.torch_cell
    if cell is None:
        return None
    inputs = cell.multiplied(block.unrolled.gates, block.unrolled.previous).double()
    epsilon = times_power_of_two(block.epsilon.double(), block.exponent.unsqueeze(-1))
    return torch.einsum("tbki,tbkj->tkij", epsilon, inputs.expand_as(epsilon)).flatten(1, 2)


def _assembled(unrolled: Unrolled, blocks: Sequence[Block], shares: Sequence[Any]) -> StateGradients:
    def joined(parts: list[Tensor]) -> Tensor:
        return in_time(parts, unrolled)

    names, dtype = unrolled.cell.state_names, unrolled.like.dtype
    scaled = {name: [block.total[name] for block in blocks] for name in names}
    norms = {name: joined([block.log_norms[name] for block in blocks]) for name in names}
    if unrolled.is_lstm:
        scaled["c_total"] = [block.cell_total() for block in blocks]
        norms["c_total"] = joined([b.masked(log_norm(b.cell_total()) + b.log_scale) for b in blocks])
    if len(names) > 1:
        norms["joint"] = joined([block.log_joint_norm for block in blocks])
    exponent = joined([block.exponent for block in blocks])
    value = {name: _unscaled(joined(parts), exponent, dtype) for name, parts in scaled.items()}
    direct = {name: joined([_direct(block, name) for block in blocks]) for name in names}
    known = unrolled.torch_cell is not None
    log_share, share = (joined([b.log_weight_share for b in blocks]), joined(list(shares))) if known else (None, None)
    return StateGradients(value, norms, direct, log_share, share)


def _direct(block: Block, name: str) -> Tensor:
    like, exponent = block.unrolled.like, block.direct.exponent
    if name not in block.direct.values:
        return torch.zeros_like(like)
    values = block.direct.values[name]
    return values if name != "h" or exponent is None else _unscaled(values, exponent, like.dtype)


def _unscaled(values: Tensor, exponent: Tensor, dtype: torch.dtype) -> Tensor:
    return times_power_of_two(values.double(), exponent).to(dtype)
