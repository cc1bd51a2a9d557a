"""The backward recursion δ_{t-1} = J_tᵀ δ_t + g_{t-1} of one layer and direction, through blocks of time.

A block stays in the processor's cache. Each example has a scale, a power of two that is renewed at every block; a block
that still leaves the range of its dtype is done again in float64 with a scale for every step.

Shapes: t positions of a block, T all time steps, B examples, H hidden size, K gates.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.flow.arriving import LOWEST, Arriving, Carried, Direct, is_low, joint_norm
from gradflow.flow.lost import Faded, Lost
from gradflow.flow.metrics import all_between, log_norm
from gradflow.flow.replay import Unrolled
from gradflow.flow.scaled import LN2, power_of_two, scaled_sum

_BLOCK_NUMBERS = 2**19  # coefficients of a block: about 2 MB in float32
_BLOCK_STEPS = 32  # enough to be quick, few enough to seldom leave the range of float32


@dataclass(frozen=True)
class Block:
    """A stretch of time of the backward recursion; what it holds times exp(log_scale) is the gradient.

    Attributes:
        positions: where it lies in the sequence.
        unrolled: states, gates and Jacobian of these positions.
        direct: direct gradients, with a scale of their own.
        total: state name -> [t, B, H], total gradients, scaled.
        epsilon: [t, B, K, H], gradient at each gate's share W_hh h of its pre-activation, scaled.
        exponent: [t, B] float64, the power of two of the scale.
        log_norms: state name -> [t, B] float64, natural log of the norm of the total gradient at that state.
        unknown: [t, B] bool, where the total gradients are under the range and nobody knows them, though they are not
            zero; `log_norms` is NaN there. None: nowhere.
        onward: gives what goes on from its last step; None: nobody asks.
    """

    positions: slice
    unrolled: Unrolled
    direct: Arriving
    total: State
    epsilon: Tensor
    exponent: Tensor
    log_norms: State
    unknown: Tensor | None = None
    onward: Callable[[], Carried] | None = None

    @cached_property
    def log_scale(self) -> Tensor:
        """Natural log of the scale, [t, B] float64."""
        return self.exponent * LN2

    @cached_property
    def log_joint_norm(self) -> Tensor:
        """Natural log of the norm of the gradients at all states together, [t, B] float64."""
        return joint_norm(self.log_norms)

    @property
    def log_output_norm(self) -> Tensor:
        """The same of the states that the layer's output shows, [t, B] float64."""
        return joint_norm({name: self.log_norms[name] for name in self.unrolled.cell.output_names})

    @cached_property
    def log_direct_norm(self) -> Tensor:
        """Natural log of the norm of the direct gradient at those, [t, B] float64."""
        norm = self.direct.log_norm
        return self.masked(torch.full_like(self.log_scale, -torch.inf) if norm is None else norm)

    def cell_total(self, where: tuple[Tensor, Tensor] | slice = slice(None)) -> Tensor:
        """Autograd's gradient of c_t, scaled: the adjoint of c, and the path c_t -> h_t of the same step."""
        shown = self.unrolled.jacobian.shown
        assert shown is not None
        return self.total["c"][where] + shown[where] * self.total["h"][where]

    @cached_property
    def log_weight_share(self) -> Tensor:
        """ln‖ε_t ⊗ h_{t-1}‖, [t, B] float64: the norm of the share of each step and example in dL/dW_hh."""
        cell = self.unrolled.torch_cell
        assert cell is not None
        multiplied = cell.multiplied(self.unrolled.gates, self.unrolled.previous)
        if multiplied.shape[-2] == 1:
            share = log_norm(self.epsilon.flatten(-2)) + log_norm(multiplied.squeeze(-2))
        else:
            share = torch.logsumexp(2 * (log_norm(self.epsilon) + log_norm(multiplied)), -1) / 2
        return self.masked(share + self.log_scale)

    @cached_property
    def input_epsilon(self) -> Tensor:
        """Gradient at each gate's share W_ih x of its pre-activation, [t, B, K, H], scaled."""
        cell, jacobian = self.unrolled.torch_cell, self.unrolled.jacobian
        assert cell is not None
        rows = cell.input_rows(self.unrolled.gates, jacobian.rows)
        return self.epsilon if rows is jacobian.rows else jacobian.gate_gradients(self.total, rows)

    def at_input(self) -> Tensor:
        """dL/dx_t, [t, B, D], scaled: the direct gradient of the layer below."""
        cell, epsilon = self.unrolled.torch_cell, self.input_epsilon
        assert cell is not None
        gradient = epsilon.flatten(-2) @ cell.weight_ih.to(epsilon.dtype)
        if self.unrolled.valid is not None:
            gradient = gradient.masked_fill(~self.unrolled.valid.unsqueeze(-1), 0)
        return gradient if self.unrolled.input_scale is None else gradient * self.unrolled.input_scale

    def masked(self, values: Tensor) -> Tensor:
        """NaN past an example's length."""
        return values if self.unrolled.valid is None else values.masked_fill(~self.unrolled.valid, torch.nan)

    def known(self, values: Tensor) -> Tensor:
        """NaN where the total gradient is unknown."""
        return values if self.unknown is None else values.masked_fill(self.unknown, torch.nan)


Descent = Iterator[tuple[tuple[int, int], Unrolled, Iterator[Block], State]]
"""(layer, direction), its steps, their blocks against its direction, and the last states that the layer gave.

From the top layer down; the blocks of each must be run through.
"""

Run = Callable[[Unrolled, Direct], Iterator[Block]]
"""The backward recursion of one layer and direction."""


@dataclass(frozen=True)
class _Recurred:
    total: State
    epsilon: Tensor
    exponents: Tensor  # [t, B] float64, of 2
    log_norms: State  # [t, B] float64 each, scaled
    onward: Callable[[], Carried]


def recur(unrolled: Unrolled, direct: Direct) -> Iterator[Block]:
    """The total gradients of one layer and direction, block by block against its direction.

    Those that were read are taken as they are, up to the first block where they leave the range of their dtype. Where
    the recursion may not take over, those under the range are unknown.
    """
    time, batch, hidden = unrolled.like.shape
    size = min(_BLOCK_STEPS, max(1, _BLOCK_NUMBERS // max(1, batch * hidden * max(1, len(unrolled.gates)))))
    size = -(-time // -(-time // size))  # in blocks of about one size
    starts = range(0, time, size)
    none = unrolled.like.new_zeros(batch, dtype=torch.float64)
    first = direct.later or Carried({}, none.log(), none)
    onward: Callable[[], Carried] = lambda: first  # noqa: E731
    read = direct.adjoints or (None if direct.read is None else _adjoints(unrolled, direct))
    read = read if direct.later is None or not direct.carried else None  # which is out of range at the last state
    known = direct.carried and direct.doubtful is None
    lost, faded = Lost(direct, first, unrolled.like.dtype), Faded(batch, unrolled.like.dtype, none.device)
    for start in starts if unrolled.reverse else reversed(starts):
        positions = slice(start, min(start + size, time))
        part, arriving = unrolled if size >= time else unrolled.part(positions), direct.part(unrolled, positions)
        order = _order(part, len(part.like))
        if direct.exponent is None:  # autograd brought it
            gone = faded.among(arriving.log_norm, order)
            arriving = arriving if gone is None else replace(arriving, unknown=gone)
        known = known and arriving.unknown is None
        between = None if direct.between is None else direct.between[positions]
        between = None if between is None or bool((between == 1).all()) else between
        recurred = None
        if read is not None:
            total = {name: whole[positions] for name, whole in read.items()}
            recurred = _as_read(part, total, between, onward, stays=not direct.carried)
        if recurred is None:
            read = None
            carried = onward().renewed(arriving, order)
            recurred = None if between is not None else _on_one_scale(part, arriving, carried)
            recurred = recurred or _step_by_step(part, arriving, between, carried)
        unknown = None
        if not known:
            norms = {name: norm + recurred.exponents * LN2 for name, norm in recurred.log_norms.items()}
            unknown = lost.among(norms, order, arriving, between)
        yield _block(positions, part, arriving, recurred, unknown)
        onward = recurred.onward


def _adjoints(unrolled: Unrolled, direct: Direct) -> State:
    """The total gradients that were read, as those of the state: autograd's of c_t holds the path c_t -> h_t as well.

    The adjoint of the c of an LSTM at t is f · (autograd's gradient of c) at the step after.
    """
    assert direct.read is not None
    arrived, names = direct.read, unrolled.cell.state_names
    read = {name: arrived[name] if name in arrived else torch.zeros_like(unrolled.like) for name in names}
    if "c" not in read:
        return read
    total, keep = read["c"], unrolled.gates["f"]
    if unrolled.valid is not None:
        keep = keep.masked_fill(~unrolled.valid.unsqueeze(-1), 0)
    handed, (now, after) = torch.zeros_like(total), (slice(None, -1), slice(1, None))
    if unrolled.reverse:
        now, after = after, now
    torch.mul(keep[after], total[after], out=handed[now])
    if "c" in direct.finals:
        handed[unrolled.ends, torch.arange(handed.shape[1], device="cpu")] += direct.finals["c"]
    return read | {"c": handed}


def _as_read(
    unrolled: Unrolled, total: State, between: Tensor | None, before: Callable[[], Carried], *, stays: bool
) -> _Recurred | None:
    """All steps of a block as the backward pass had them; None if they leave the range of their dtype and may not."""
    order, lowest = _order(unrolled, len(unrolled.like)), LOWEST[unrolled.like.dtype]
    norms = {name: log_norm(part) for name, part in total.items()}
    joint = joint_norm(norms)
    if not stays and not all_between(joint, lowest, -lowest):
        in_order = joint[order] if unrolled.valid is None else _within(unrolled, joint)[order]
        anew = None if between is None else (between[order[:-1]] == 0).all(-1)
        if _lost_digits(torch.cat((before().log_norm.unsqueeze(0), in_order)), lowest, anew):
            return None
    if not stays and len(norms) > 1 and any(is_low(_within(unrolled, norm), lowest) for norm in norms.values()):
        return None
    zero = torch.zeros_like(joint)

    def onward() -> Carried:
        last = order[-1]
        flat, jacobian = _together({name: part[last] for name, part in total.items()}), unrolled.jacobian[last]
        handed = jacobian.rmatvec(flat)
        norm = log_norm(handed)
        if not all_between(norm, lowest, -lowest):
            handed = jacobian.double().rmatvec(flat.double())
            norm = log_norm(handed)
        if between is not None:
            handed = handed * between[last]
            norm = log_norm(handed)
        return Carried(unrolled.jacobian.split(handed), norm, zero[0])

    return _Recurred(total, unrolled.jacobian.gate_gradients(total), zero, norms, onward)


def _block(
    positions: slice, unrolled: Unrolled, direct: Arriving, recurred: _Recurred, unknown: Tensor | None
) -> Block:
    total, log_scale = recurred.total, recurred.exponents * LN2
    norms = {name: norm + log_scale for name, norm in recurred.log_norms.items()}
    if unrolled.valid is not None:  # past the end of a reverse direction lies the gradient of its initial state
        total = {name: part.masked_fill(~unrolled.valid.unsqueeze(-1), 0) for name, part in total.items()}
        norms = {name: norm.masked_fill(~unrolled.valid, torch.nan) for name, norm in norms.items()}
    onward = recurred.onward
    block = Block(positions, unrolled, direct, total, recurred.epsilon, recurred.exponents, norms, unknown, onward)
    return replace(block, log_norms={name: block.known(norm) for name, norm in norms.items()})


def _order(unrolled: Unrolled, length: int) -> list[int]:
    return list(range(length)) if unrolled.reverse else list(range(length - 1, -1, -1))


def _on_one_scale(unrolled: Unrolled, direct: Arriving, carried: Carried) -> _Recurred | None:
    """All steps of a block on one scale, in the dtype of the layer; None if that leaves its range."""
    like = unrolled.like
    length, order, lowest = len(like), _order(unrolled, len(like)), LOWEST[like.dtype]
    own = -carried.exponent
    shifts = {name: own if name != "h" or direct.exponent is None else own + direct.exponent for name in direct.values}
    # What arrives, on the scale of what is carried, may overflow at once; a zero there does not.
    for name, part in direct.values.items():
        too_large = shifts[name] * LN2 > -lowest
        if bool(too_large.any()) and bool((part.ne(0).any(-1) & too_large).any()):
            return None
    if direct.is_beneath(carried.exponent):
        return None
    total = {name: like.new_empty(length + 1, *like.shape[1:]) for name in unrolled.cell.state_names}
    for name, room in total.items():
        if name in direct.values:
            factor = power_of_two(shifts[name], like.dtype)
            torch.mul(direct.values[name], factor, out=room[:length])
            room[length].zero_()
        else:
            room.zero_()
    for name, part in carried.values.items():
        total[name][order[0]] += part
    epsilon = unrolled.jacobian.backward_(total, order)
    norms = {name: log_norm(part) for name, part in total.items()}
    joint = joint_norm(norms)
    # Only where a norm is out of range is it worth asking whether digits were lost: zeros and NaN lose none.
    if not all_between(joint, lowest, -lowest) and _leaves_range(unrolled, joint[[*order, length]], lowest):
        return None
    within = {name: norm[:length] for name, norm in norms.items()}
    if len(norms) > 1 and any(is_low(_within(unrolled, norm), lowest) for norm in within.values()):
        return None
    onward = Carried({name: part[length] for name, part in total.items()}, joint[length], carried.exponent)
    steps = {name: part[:length] for name, part in total.items()}
    return _Recurred(steps, epsilon, carried.exponent.expand(length, -1), within, lambda: onward)


def _leaves_range(unrolled: Unrolled, in_order: Tensor, lowest: float) -> bool:
    """Whether norms overflow, or are under the range without being zero from the start; NaN throughout is neither."""
    if unrolled.valid is not None:
        order = _order(unrolled, len(unrolled.valid))
        in_order = in_order.masked_fill(~unrolled.valid[[*order, order[-1]]], torch.nan)
    return _lost_digits(in_order, lowest)


def _within(unrolled: Unrolled, norms: Tensor) -> Tensor:
    """NaN past an example's length."""
    return norms if unrolled.valid is None else norms.masked_fill(~unrolled.valid, torch.nan)


def _lost_digits(in_order: Tensor, lowest: float, anew: Tensor | None = None) -> bool:
    """Whether norms [t, B] overflow, or are under the range after one that is not zero.

    From where an example begins anew, [t - 2, B] for the third norm and on, zeros are none that were lost.
    """
    place = torch.arange(1, len(in_order) + 1, device=in_order.device).unsqueeze(1)
    came = (place * (in_order > -torch.inf)).cummax(0).values  # the last one that is not zero, so far
    begun = torch.ones_like(came)
    if anew is not None:
        begun[2:] = (place[2:] * anew).cummax(0).values.clamp(min=1)
    return bool(((in_order < lowest) & (came >= begun) | (in_order > -lowest)).any())


def _step_by_step(unrolled: Unrolled, direct: Arriving, between: Tensor | None, carried: Carried) -> _Recurred:
    """A scale for every step and example, in float64."""
    jacobian, (stacked, scale) = unrolled.jacobian.double(), _stacked(unrolled, direct)
    flat = _together(carried.values).double() if carried.values else torch.zeros_like(stacked[0])
    exponent, total, exponents = carried.exponent, torch.zeros_like(stacked), torch.zeros_like(scale)
    for t in _order(unrolled, len(stacked)):
        flat, exponent = scaled_sum(flat, exponent, stacked[t], scale[t])
        total[t], exponents[t] = flat, exponent
        flat = jacobian[t].rmatvec(flat)
        flat = flat if between is None else flat * between[t]
    split = jacobian.split(total)
    norms = {name: log_norm(part) for name, part in split.items()}
    onward = Carried(jacobian.split(flat), log_norm(flat), exponent)
    return _Recurred(split, jacobian.gate_gradients(split), exponents, norms, lambda: onward)


def _stacked(unrolled: Unrolled, direct: Arriving) -> tuple[Tensor, Tensor]:
    """What arrives at all states side by side, [t, B, S] float64, and its power of two, [t, B]."""

    def of(names: set[str]) -> Tensor:
        given = {name: direct.values[name].double() for name in names if name in direct.values}
        return _together({name: given.get(name, zeros) for name in unrolled.cell.state_names})

    zeros = torch.zeros_like(unrolled.like, dtype=torch.float64)
    none, names = torch.zeros_like(zeros[..., 0]), set(direct.values)
    if direct.exponent is None or names <= {"h"}:
        return of(names), none if direct.exponent is None else direct.exponent
    return scaled_sum(of({"h"}), direct.exponent, of(names - {"h"}), none)


def _together(parts: State) -> Tensor:
    return torch.cat(list(parts.values()), -1) if len(parts) > 1 else next(iter(parts.values()))
