"""What arrives directly at the states of one layer and direction: where the backward recursion takes its start.

Shapes: t positions of a block, T all time steps, B examples, H hidden size.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.flow.metrics import all_between, log_norm
from gradflow.flow.replay import Unrolled
from gradflow.flow.scaled import LN2, scaled_sum, times_power_of_two

_NEAR = 20.0  # ln of norms that need no scale at the start
LOWEST = {torch.float32: -60.0, torch.float64: -640.0}  # ln of the smallest norm with digits to spare


@dataclass(frozen=True)
class Direct:
    """Direct gradients g_t of one layer and direction.

    Attributes:
        at_output: [T, B, H] of every state in the output, side by side: what arrives position by position, 0 past an
            example's length; None: nothing does.
        exponent: [T, B] float64, the power of two that `at_output` is multiplied by; None: 0.
        hidden: state name -> [T, B, H], what arrives at states that the output does not show.
        unknown: [T, B] bool, where nobody knows `at_output`, but that it is under the range; None: nowhere.
        finals: state name -> [B, H], what arrives at the last state of this direction.
        later: what comes to the last state beside `finals`, through a call that goes on from it; None: nothing.
        doubtful: [B] bool, the examples of which nobody knows what comes to the last state, but that it is under the
            range; None: none.
        read: state name -> [T, B, H], the total gradients as the backward pass had them; None: they were not read.
        adjoints: the same of a sequence that a script stepped through, as gradients of the state, see :mod:`.chains`.
        between: [T, B, S], by what gradients are multiplied on their way from each state to the one before, NaN where
            nobody knows; None: by 1.
        carried: the recursion holds from step to step, and may take over from what was read; if not, that stays.
    """

    at_output: Tensor | None
    exponent: Tensor | None = None
    hidden: State = field(default_factory=dict)
    unknown: Tensor | None = None
    finals: State = field(default_factory=dict)
    later: "Carried | None" = None
    doubtful: Tensor | None = None
    read: State | None = None
    adjoints: State | None = None
    between: Tensor | None = None
    carried: bool = True

    def part(self, unrolled: Unrolled, positions: slice) -> "Arriving":
        """What arrives at some positions."""
        names, values = unrolled.cell.output_names, {}
        if self.at_output is not None:
            values = dict(zip(names, self.at_output[positions].chunk(len(names), -1), strict=True))
        values |= {name: part[positions] for name, part in self.hidden.items()}
        exponent = None if self.exponent is None else self.exponent[positions]
        unknown = None if self.unknown is None else self.unknown[positions]
        local, examples = ends_within(unrolled, positions) if self.finals else ((), ())
        if not len(examples):
            return Arriving(values, exponent, names, unknown)
        values = {name: part.clone() for name, part in values.items()}
        for name, gradient in self.finals.items():
            added, there = gradient[examples], (local, examples)
            if name not in values:
                values[name] = torch.zeros_like(unrolled.like[positions])
            if name != "h" or exponent is None:
                values[name][there] += added
            else:
                exponent = exponent.clone()
                one = torch.zeros_like(exponent[there])
                values[name][there], exponent[there] = scaled_sum(values[name][there], exponent[there], added, one)
        return Arriving(values, exponent, names, unknown)


@dataclass(frozen=True)
class Arriving:
    """Direct gradients at the positions of a block.

    Attributes:
        values: state name -> [t, B, H]; absent: zero.
        exponent: [t, B] float64, the power of two that those of h are multiplied by; None: 0.
        shown: the states that the layer's output shows.
        unknown: [t, B] bool, where nobody knows them while they are under the range; None: nowhere.
    """

    values: State
    exponent: Tensor | None
    shown: tuple[str, ...]
    unknown: Tensor | None = None

    @cached_property
    def _norms(self) -> State:
        """State name -> natural logs of the norms of its values as they are, [t, B] float64."""
        return {name: log_norm(part) for name, part in self.values.items()}

    def first_exponent(self, order: list[int]) -> Tensor | None:
        """The power of two of the first that is not zero in each example, [B] float64; None: nothing arrives.

        It is not below what its dtype can be scaled by; 0 for zero throughout, and for what is not finite. None as well
        if all of them are near enough to 1 at the first position.
        """
        at_first = [norms[order[0]] for norms in self._norms.values()]
        if self.exponent is None and len(at_first) == 1 and all_between(at_first[0], -_NEAR, _NEAR):
            return None
        exponents = []
        for name, norms in self._norms.items():
            least = LOWEST[self.values[name].dtype]
            exponent = torch.where(norms > -torch.inf, norms.clamp(min=least), norms).div(LN2).ceil()
            exponents.append(exponent if name != "h" or self.exponent is None else exponent + self.exponent)
        if not exponents:
            return None
        found = torch.stack(exponents).amax(0)[order]
        first = (found != -torch.inf).int().argmax(0, keepdim=True)
        return found.gather(0, first).squeeze(0).nan_to_num(0, 0, 0)

    def is_beneath(self, exponent: Tensor) -> bool:
        """Whether one of several states gets what is under the range on the scale 2^exponent, [B], of them all."""
        if len(self.values) < 2:
            return False
        for name, norms in self._norms.items():
            own = exponent if name != "h" or self.exponent is None else exponent - self.exponent
            if is_low(norms - own * LN2, LOWEST[self.values[name].dtype]):
                return True
        return False

    @cached_property
    def log_norm(self) -> Tensor | None:
        """Natural log of the norm of what arrives at the states shown, [t, B] float64; None: nothing does.

        NaN where it is unknown.
        """
        norms = {name: self._norms[name] for name in self.shown if name in self.values}
        if not norms:
            return None
        norm = joint_norm(norms)
        norm = norm if self.exponent is None else norm + self.exponent * LN2
        lowest = LOWEST[self.values[next(iter(norms))].dtype]
        return norm if self.unknown is None else norm.masked_fill(self.unknown & (norm < lowest), torch.nan)


@dataclass(frozen=True)
class Carried:
    """Gradients handed on from step to step: state name -> [B, H], times 2^exponent, [B] float64."""

    values: State
    log_norm: Tensor  # [B] float64, of all states together, scaled
    exponent: Tensor

    def renewed(self, arriving: Arriving, order: list[int]) -> "Carried":
        """On a scale near 1, per example; what is not finite keeps its own, zero takes that of what arrives first."""
        shift = (self.log_norm / LN2).round()
        zero = shift == -torch.inf
        shift = torch.where(shift.isfinite(), shift, 0.0)
        values = {name: times_power_of_two(part.double(), -shift) for name, part in self.values.items()}
        exponent = self.exponent + shift
        first = arriving.first_exponent(order) if bool(zero.any()) else None
        return Carried(values, self.log_norm, exponent if first is None else torch.where(zero, first, exponent))


def ends_within(unrolled: Unrolled, positions: slice) -> tuple[Tensor, Tensor]:
    """Where within `positions` (counted from their start) which examples have the last state of this direction."""
    examples = ((unrolled.ends >= positions.start) & (unrolled.ends < positions.stop)).nonzero().squeeze(1)
    return unrolled.ends[examples] - positions.start, examples


def is_low(norms: Tensor, lowest: float) -> bool:
    """Whether one is under the range, and not zero."""
    if not norms.numel() or float(norms.amin()) >= lowest:
        return False
    return bool(((norms < lowest) & (norms > -torch.inf)).any())


def joint_norm(log_norms: State) -> Tensor:
    """Natural log of the norm of all parts together from those of each."""
    first, *rest = log_norms.values()
    for other in rest:
        first = torch.logaddexp(2 * first, 2 * other) / 2
    return first
