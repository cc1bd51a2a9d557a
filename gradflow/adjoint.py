"""Total gradients dL/dh_t of a replayed layer from the direct ones, which autograd leaves on its outputs.

The gradient of a fused layer's output is only the *direct* derivative g_t. The total one follows by
δ_{t-1} = J_tᵀ δ_t + g_{t-1}; what arrives at the inputs of one layer is the direct gradient of the layer below.

The sweep goes backward through blocks of time that stay in the processor's cache. Each example has a scale, a power of
two that is renewed at every block; a block that still leaves the range of its dtype is done again in float64 with a
scale for every step. So 1e-2000 is as exact as 1.

Shapes: T time steps, B examples, H hidden size, K gates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradflow.cells import State
from gradflow.metrics import log_norm
from gradflow.replay import Step, Trace

_LN2 = 0.6931471805599453
_BLOCK_NUMBERS = 2**19  # coefficients of a block: about 2 MB in float32
_BLOCK_STEPS = 32  # enough to be quick, few enough to seldom leave the range of float32
_LOWEST = {torch.float32: -60.0, torch.float64: -640.0}  # ln of the smallest norm with digits to spare


@dataclass(frozen=True)
class Direct:
    """Direct gradients g_t of one layer and direction.

    Attributes:
        at_output: [T, B, H], what arrives position by position, 0 past an example's length; None: nothing does.
        finals: state name -> [B, H], what arrives at the last state of this direction.
    """

    at_output: Tensor | None
    finals: State

    def part(self, step: Step, positions: slice) -> State:
        """State name -> [t, B, H] at some positions, fresh tensors."""
        like = step.states["h"][positions]
        direct = {name: torch.zeros_like(like) for name in step.cell.state_names}
        if self.at_output is not None:
            direct["h"] += self.at_output[positions]
        local, examples = ends_within(step, positions)
        for name, gradient in self.finals.items():
            direct[name][local, examples] += gradient[examples]
        return direct


def ends_within(step: Step, positions: slice) -> tuple[Tensor, Tensor]:
    """Where within `positions` (counted from their start) which examples have the last state of this direction."""
    examples = ((step.ends >= positions.start) & (step.ends < positions.stop)).nonzero().squeeze(1)
    return step.ends[examples] - positions.start, examples


@dataclass(frozen=True)
class Block:
    """A stretch of time of the backward sweep; what it holds times exp(log_scale) is the gradient.

    Attributes:
        positions: where it lies in the sequence.
        step: states, gates and Jacobian of these positions.
        direct: state name -> [t, B, H], not scaled.
        total: state name -> [t, B, H], total gradients, scaled.
        epsilon: [t, B, K, H], gradient at each gate's share W_hh h of its pre-activation, scaled.
        log_scale: [t, B] float64.
        log_norms: state name -> [t, B] float64, natural log of the norm of the total gradient at that state.
    """

    positions: slice
    step: Step
    direct: State
    total: State
    epsilon: Tensor
    log_scale: Tensor
    log_norms: State

    @cached_property
    def log_joint_norm(self) -> Tensor:
        """The same of all states together, [t, B] float64."""
        return _joint(self.log_norms)

    def cell_total(self) -> Tensor:
        """Autograd's gradient of c_t, scaled: the adjoint of c, and the path c_t -> h_t of the same step."""
        through = self.step.gates["o"] * (1 - torch.tanh(self.step.states["c"]).square())
        return self.total["c"] + through * self.total["h"]

    @cached_property
    def log_weight_share(self) -> Tensor:
        """ln‖ε_t ⊗ h_{t-1}‖, [t, B] float64: the norm of the share of each step and example in dL/dW_hh."""
        multiplied = self.step.cell.multiplied(self.step.gates, self.step.previous)
        if multiplied.shape[-2] == 1:
            share = log_norm(self.epsilon.flatten(-2)) + log_norm(multiplied.squeeze(-2))
        else:
            share = torch.logsumexp(2 * (log_norm(self.epsilon) + log_norm(multiplied)), -1) / 2
        return self.masked(share + self.log_scale)

    def at_input(self) -> Tensor:
        """dL/dx_t, [t, B, D]: the direct gradient of the layer below."""
        epsilon = self.step.jacobian.gate_gradients(self.total, of_input=True) * self.log_scale.exp()[..., None, None]
        return epsilon.flatten(-2).to(self.step.cell.weight_ih.dtype) @ self.step.cell.weight_ih

    def masked(self, values: Tensor) -> Tensor:
        """NaN past an example's length."""
        return values if self.step.valid is None else values.masked_fill(~self.step.valid, torch.nan)


def sweep(step: Step, direct: Direct) -> Iterator[Block]:
    """The total gradients of one layer and direction, block by block against its direction."""
    time, batch, hidden = step.states["h"].shape
    numbers = batch * hidden * len(step.cell.gate_names) * len(step.cell.state_names)
    size = min(_BLOCK_STEPS, max(1, _BLOCK_NUMBERS // numbers))
    starts = range(0, time, size)
    carried: State = {}
    exponent = torch.zeros(batch, dtype=torch.float64, device=step.states["h"].device)
    for start in starts if step.reverse else reversed(starts):
        positions = slice(start, min(start + size, time))
        part, arriving = step.part(positions), direct.part(step, positions)
        if carried:
            carried, exponent = _renewed(carried, exponent, arriving["h"].dtype)
        swept = _on_one_scale(part, arriving, carried, exponent) or _step_by_step(part, arriving, carried, exponent)
        block = _block(positions, part, arriving, swept)
        carried, exponent = swept.onward, swept.exponents[-1 if step.reverse else 0]
        yield block


@dataclass(frozen=True)
class _Swept:
    total: State
    onward: State  # [B, H], handed on to the next block
    epsilon: Tensor
    exponents: Tensor  # [t, B] float64, of 2
    log_norms: State  # [t, B] float64 each, scaled


def _block(positions: slice, step: Step, direct: State, swept: _Swept) -> Block:
    total, log_scale = swept.total, swept.exponents * _LN2
    norms = {name: norm + log_scale for name, norm in swept.log_norms.items()}
    if step.valid is not None:  # past the end of a reverse direction lies the gradient of its initial state
        total = {name: part.masked_fill(~step.valid.unsqueeze(-1), 0) for name, part in total.items()}
        norms = {name: norm.masked_fill(~step.valid, torch.nan) for name, norm in norms.items()}
    return Block(positions, step, direct, total, swept.epsilon, log_scale, norms)


def _order(step: Step, length: int) -> list[int]:
    return list(range(length)) if step.reverse else list(range(length - 1, -1, -1))


def _on_one_scale(step: Step, direct: State, carried: State, exponent: Tensor) -> _Swept | None:
    """All steps of a block on one scale, in the dtype of the layer; None if that leaves its range."""
    length, order = len(direct["h"]), _order(step, len(direct["h"]))
    total = {name: torch.cat((part, torch.zeros_like(part[:1]))) for name, part in direct.items()}
    if bool(exponent.any()):
        total = {name: _times_power_of_two(part, -exponent).to(part.dtype) for name, part in total.items()}
    for name, part in carried.items():
        total[name][order[0]] += part
    epsilon = step.jacobian.backward_(total, order)
    norms = {name: log_norm(part) for name, part in total.items()}
    lowest = _LOWEST[total["h"].dtype]
    in_order = _joint(norms)[[*order, length]]
    lost = (in_order < lowest) & (in_order.cummax(0).values > lowest)
    if bool((lost | (in_order > -lowest)).any()):
        return None
    steps, onward = {n: p[:length] for n, p in total.items()}, {n: p[length] for n, p in total.items()}
    within = {name: norm[:length] for name, norm in norms.items()}
    return _Swept(steps, onward, epsilon, exponent.expand(length, -1), within)


def _step_by_step(step: Step, direct: State, carried: State, exponent: Tensor) -> _Swept:
    """A scale for every step and example, in float64."""
    jacobian, stacked = step.jacobian.double(), _together(direct).double()
    flat = _together(carried).double() if carried else torch.zeros_like(stacked[0])
    total, exponents = torch.zeros_like(stacked), torch.zeros(stacked.shape[:2], dtype=torch.float64)
    exponents = exponents.to(stacked.device)
    for t in _order(step, len(stacked)):
        flat, exponent = _rescaled_sum(flat, exponent, stacked[t])
        total[t], exponents[t] = flat, exponent
        flat = jacobian[t].rmatvec(flat)
    split = jacobian.split(total)
    norms = {name: log_norm(part) for name, part in split.items()}
    return _Swept(split, jacobian.split(flat), jacobian.gate_gradients(split), exponents, norms)


def _joint(log_norms: State) -> Tensor:
    """Natural log of the norm of all parts together from those of each."""
    first, *rest = log_norms.values()
    for other in rest:
        first = torch.logaddexp(2 * first, 2 * other) / 2
    return first


def _together(parts: State) -> Tensor:
    return torch.cat(list(parts.values()), -1) if len(parts) > 1 else next(iter(parts.values()))


def _renewed(carried: State, exponent: Tensor, dtype: torch.dtype) -> tuple[State, Tensor]:
    """The same on a scale near 1, per example; nothing carried has scale 1, NaN and Inf keep theirs."""
    flat = _together(carried)
    shift = _exponent(flat.double())
    shift = torch.where(shift.isfinite(), shift, 0.0)
    scaled = {name: _times_power_of_two(part.double(), -shift).to(dtype) for name, part in carried.items()}
    return scaled, torch.where(flat.eq(0).all(-1), 0.0, exponent + shift)


def _rescaled_sum(carried: Tensor, exponent: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """Carried·2^exponent + added, as numbers near 1 and an exponent, per example; NaN and Inf keep the old scale."""
    new = torch.maximum(_exponent(carried) + exponent, _exponent(added))
    new = torch.where(new.isfinite(), new, exponent)
    shifted = _times_power_of_two(carried, exponent - new) + _times_power_of_two(added, -new)
    return shifted, new


def _times_power_of_two(vectors: Tensor, exponent: Tensor) -> Tensor:
    """Vectors [..., B, S] times 2^exponent [B]; only zeros meet a power beyond float64, and stay zeros."""
    return torch.ldexp(vectors, exponent.clamp(max=1023).unsqueeze(-1))


def _exponent(vector: Tensor) -> Tensor:
    """The power of two above the largest element, [..., S] -> [...]; -inf for zero and for what is not finite."""
    largest = vector.abs().amax(-1)
    exponent = torch.frexp(largest).exponent.to(vector.dtype)
    return torch.where(largest.isfinite() & (largest > 0), exponent, -torch.inf)


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
        weight_share: [T, K·H, H] float64, that share summed over the examples; its sum over time is dL/dW_hh.
    """

    value: State
    log_norm: State
    direct: State
    log_weight_share: Tensor
    weight_share: Tensor


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
        found = {key: [(block, _weight_share(block)) for block in blocks] for key, blocks in descend(trace, arrived)}
        return {key: _assembled(trace[key], *zip(*found[key], strict=True)) for key in trace.keys()}  # noqa: SIM118


def descend(trace: Trace, arrived: Mapping[str, Any]) -> Iterator[tuple[tuple[int, int], Iterator[Block]]]:
    """(layer, direction) and its backward sweep, from the top layer down; each sweep must be run through.

    Args:
        trace: a forward pass.
        arrived: "output", "h_n", "c_n" -> the gradient that autograd left there.
    """
    call, layer = trace.call, trace.call.layer
    sides = 2 if layer.bidirectional else 1
    from_above = _at_output(trace, arrived)
    for index in reversed(range(layer.num_layers)):
        below: dict[int, list[Block]] = {}
        parts = [None] * sides if from_above is None else from_above.chunk(sides, -1)
        for side, part in enumerate(parts):
            step, row = trace[index, side], index * sides + side
            finals: State = {
                name[0]: trace.pick(call.state_major(arrived[name]))[row] for name in ("h_n", "c_n") if name in arrived
            }
            if part is not None and step.valid is not None:
                part = part.masked_fill(~step.valid.unsqueeze(-1), 0)
            swept = sweep(step, Direct(part, finals))
            yield (index, side), _kept(swept, below.setdefault(side, [])) if index else swept
        arriving = [_in_time([b.at_input() for b in blocks], trace[index, side]) for side, blocks in below.items()]
        from_above = torch.stack(arriving).sum(0) if arriving else None


def _kept(blocks: Iterator[Block], into: list[Block]) -> Iterator[Block]:
    for block in blocks:
        into.append(block)
        yield block


def _at_output(trace: Trace, arrived: Mapping[str, Any]) -> Tensor | None:
    gradient, output = arrived.get("output"), trace.call.output
    if gradient is None:
        return None
    if isinstance(output, PackedSequence) and not isinstance(gradient, PackedSequence):
        gradient = output._replace(data=gradient)
    return trace.pick(trace.call.time_major(gradient))


def _in_time(parts: Sequence[Tensor], step: Step) -> Tensor:
    """Blocks of the backward sweep put together by position."""
    return torch.cat(list(parts if step.reverse else reversed(parts)))


def _weight_share(block: Block) -> Tensor:
    inputs = block.step.cell.multiplied(block.step.gates, block.step.previous).double()
    epsilon = block.epsilon.double() * block.log_scale.exp()[..., None, None]
    return torch.einsum("tbki,tbkj->tkij", epsilon, inputs.expand_as(epsilon)).flatten(1, 2)


def _assembled(step: Step, blocks: Sequence[Block], shares: Sequence[Tensor]) -> StateGradients:
    def joined(parts: list[Tensor]) -> Tensor:
        return _in_time(parts, step)

    names, dtype = step.cell.state_names, step.states["h"].dtype
    scaled = {name: [block.total[name] for block in blocks] for name in names}
    norms = {name: joined([block.log_norms[name] for block in blocks]) for name in names}
    if "c" in names:
        scaled["c_total"] = [block.cell_total() for block in blocks]
        norms["c_total"] = joined([b.masked(log_norm(b.cell_total()) + b.log_scale) for b in blocks])
        norms["joint"] = joined([block.log_joint_norm for block in blocks])
    scales = [block.log_scale.exp().unsqueeze(-1) for block in blocks]
    value = {n: joined([p * s for p, s in zip(parts, scales, strict=True)]).to(dtype) for n, parts in scaled.items()}
    direct = {name: joined([block.direct[name] for block in blocks]) for name in names}
    return StateGradients(value, norms, direct, joined([b.log_weight_share for b in blocks]), joined(list(shares)))
