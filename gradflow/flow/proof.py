"""Does a record agree with the pass it is of? Two identities that hold for the right numbers, and for no others.

*Forward*: one step of the cell from (x_t, s_{t-1}) gives the s_t that was seen. *Backward*: Σ ε_t ⊗ h_{t-1} over all
positions, examples and calls of a backward pass is what that pass added to the gradient of W_hh. What the record knows
is on one side, what autograd did on the other, so that no list of special cases is needed.

Shapes: T time steps, B examples, H hidden size, K gates.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gradflow.flow.added import Added, places, recurrent_weight
from gradflow.flow.calls import plain_arithmetic
from gradflow.flow.joining import Chain
from gradflow.flow.metrics import log_norm
from gradflow.flow.recursion import Block
from gradflow.flow.replay import Unrolled
from gradflow.flow.scaled import times_power_of_two
from gradflow.flow.seen import Seen
from gradflow.flow.stepping import Marked

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""The largest relative residual of a record that agrees, by the dtype of the pass; others cannot be asked."""

_SHIFT = 120  # powers of two, whose inverse float32 holds as well

_STRETCH = 2**18  # numbers of a state, 1 MB in float32, that are computed again at once
ROUNDINGS = 4  # of each product, that a gradient may be off where numbers cancel

CAUSES = {
    "forward": "a subclass whose forward does more than torch's, a hook that replaces its input or output, weights "
    "changed through .data between the passes",
    "backward": "hooks that change gradients, W_hh used beside the recorded layers (a penalty, a layer that shares "
    "it), a second derivative through the layer (a gradient penalty, MAML), weights changed through .data",
}
"""What usually makes an identity fail."""


@dataclass(frozen=True)
class Residual:
    """How far one layer and direction of a call is from an identity, relative; NaN where it could not be asked.

    Attributes:
        module: name of the layer.
        call: its number.
        layer: index in the stack.
        direction: 0 forward, 1 reverse.
        forward: max_b of max_t ‖step(x_t, s_{t-1}) - s_t‖ / max_t ‖s_t‖, of the worst state.
        backward: ‖Σ ε ⊗ h - ΔdL/dW_hh‖ over the larger of ‖ΔdL/dW_hh‖ and (Σ ‖ε ⊗ h‖²)^½.

            Where what is compared has few digits itself (a GRU whose z is nearly 1), either is over so much that
            ROUNDINGS of the numbers that cancel in it make the tolerance.
        tolerance: the largest of a record that agrees.
        read: the gradients were read from the backward pass; otherwise the recursion found them.
    """

    module: str
    call: int
    layer: int
    direction: int
    forward: float
    backward: float
    tolerance: float
    read: bool

    def row(self) -> dict[str, Any]:
        """As the table `proof` takes it."""
        place = {"module": self.module, "call": self.call, "layer": self.layer, "direction": self.direction}
        return place | {
            "forward_residual": self.forward,
            "backward_residual": self.backward,
            "steps_read": float(self.read),
        }


@dataclass
class _Claim:
    """What the records of all layers that use a weight say of its gradient.

    Attributes:
        weight: W_hh.
        passes: numbers of the backward passes that it is about.
        landed: they ended in ``.grad`` by themselves.
        total: Σ ε ⊗ h, float64 [K·H, H].
        squares: Σ ‖ε ⊗ h‖².
        cancelled: the same of ε before numbers cancelled in it, whose rounding it has.
        places: of those layers in the list of residuals.
    """

    weight: Tensor
    passes: list[int]
    landed: bool
    total: Tensor = field(init=False)
    squares: float = 0.0
    cancelled: float = 0.0
    places: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.total = torch.zeros_like(self.weight, dtype=torch.float64, requires_grad=False)

    def take(self, block: Block) -> None:
        """Add what a block says."""
        unrolled = block.unrolled
        assert unrolled.torch_cell is not None
        multiplied = unrolled.torch_cell.multiplied(unrolled.gates, unrolled.previous)
        kind = torch.promote_types(multiplied.dtype, block.epsilon.dtype)  # float64 where float32 had no digits left
        multiplied, of_h = _near_one(multiplied.to(kind))
        epsilon, largest = block.epsilon.to(kind), block.exponent.amax()
        if bool((block.exponent != largest).any()):
            epsilon = times_power_of_two(epsilon, (block.exponent - largest).unsqueeze(-1))
        if unrolled.valid is not None:
            epsilon = epsilon.masked_fill(~unrolled.valid[..., None, None], 0)
        epsilon, of_epsilon = _near_one(epsilon)
        scale = float(torch.exp2(largest + of_h + of_epsilon))  # infinite where float64 ends
        self.total += _outer(epsilon, multiplied).double().mul_(scale)
        self.squares += _squares(epsilon, multiplied) * scale * scale
        cancels = unrolled.torch_cell.cancels(unrolled.gates)
        if cancels is not None:
            self.cancelled += _squares(epsilon * cancels.unsqueeze(-2), multiplied) * scale * scale


def _near_one(values: Tensor) -> tuple[Tensor, int]:
    """Numbers, the largest of them about 1, and the power of two that they are to be multiplied by.

    So products of them, and of their squares, stay within the range of their dtype, which has the digits that the proof
    of a block needs, and takes half the time of float64.
    """
    least, most = torch.aminmax(values)
    largest = max(-float(least), float(most))
    exponent = math.frexp(largest)[1] if 0 < largest < math.inf else 0
    exponent = max(-_SHIFT, min(_SHIFT, exponent))
    return (values * 2.0**-exponent if exponent else values), exponent


def _outer(epsilon: Tensor, multiplied: Tensor) -> Tensor:
    """Σ ε ⊗ h over positions and examples, [K·H, H]; one product where all gates multiply the same."""
    flat, by_gate = epsilon.flatten(0, 1), multiplied.flatten(0, 1)  # [t·B, K, H], [t·B, 1 or K, H]
    if by_gate.shape[1] == 1:
        return flat.flatten(1).t() @ by_gate.squeeze(1)
    return (flat.permute(1, 2, 0) @ by_gate.transpose(0, 1)).flatten(0, 1)


def _squares(epsilon: Tensor, multiplied: Tensor) -> float:
    """Σ ‖ε ⊗ h‖²."""
    norms = torch.linalg.vector_norm(epsilon, dim=-1), torch.linalg.vector_norm(multiplied, dim=-1)
    return float((norms[0] * norms[1]).square().sum())


def prove(calls: Iterable[tuple[int, Seen | Chain]], added: Added) -> list[Residual]:
    """Ask both identities of every layer and direction of some calls; all examples are gone through once.

    Args:
        calls: number and call of all that one backward pass reached, with all examples of what was read.
        added: what backward passes added to the gradients of the weights.
    """
    found: list[Residual] = []
    claims: dict[int, _Claim] = {}
    for number, seen in calls:
        with plain_arithmetic(seen.call.device):
            found += _asked(number, seen, claims, len(found))
    for claim in claims.values():
        backward = _backward_residual(claim, added.by(claim.weight, claim.passes) if claim.landed else None)
        for place in claim.places:
            unsure = backward > found[place].tolerance and id(claim.weight) in added.beside
            found[place] = replace(found[place], backward=math.nan if unsure else backward)
    return _worst_of_parts(found)


def _worst_of_parts(residuals: list[Residual]) -> list[Residual]:
    """One residual of each sequence that ran in several calls."""
    worst: dict[tuple[str, int, int, int], Residual] = {}
    for one in residuals:
        key = one.module, one.call, one.layer, one.direction
        other = worst.get(key, one)
        forward = _worse(other.forward, one.forward, one.tolerance)
        backward = _worse(other.backward, one.backward, one.tolerance)
        worst[key] = replace(one, forward=forward, backward=backward, read=one.read and other.read)
    return list(worst.values())


def _worse(one: float, other: float, tolerance: float) -> float:
    """A failure is worse than what could not be asked, and that is worse than what agrees."""
    largest = max((value for value in (one, other) if not math.isnan(value)), default=math.nan)
    return largest if largest > tolerance or not (math.isnan(one) or math.isnan(other)) else math.nan


def _asked(number: int, seen: Seen | Chain, claims: dict[int, _Claim], start: int) -> list[Residual]:
    """The forward residuals of a call; what it says of the gradients of its weights is added to the claims."""
    call: Any = seen.call
    found: list[Residual] = []
    unknown = Residual(seen.name, number, 0, 0, math.nan, math.nan, math.inf, read=seen.reading is not None)
    if call.kernel_dtype not in TOLERANCE:
        return [replace(unknown, layer=layer, direction=direction) for layer, direction in places(call.layer)]
    for (layer, direction), unrolled, blocks, finals in seen.descend_whole():
        weight = recurrent_weight(call, layer, direction)
        claim = None
        if weight is not None and unrolled.torch_cell is not None:
            claim = claims.setdefault(id(weight), _Claim(weight, seen.counted, seen.landed))
        for block in blocks:
            if claim is not None:
                claim.take(block)
        if claim is not None:
            claim.places.append(start + len(found))
        marked = isinstance(call.layer, Marked)
        tolerance, kind = TOLERANCE[call.kernel_dtype], call.kernel_dtype
        forward = seen.again if isinstance(seen, Chain) and marked else _forward_residual(unrolled, finals, kind)
        found.append(replace(unknown, layer=layer, direction=direction, forward=forward, tolerance=tolerance))
    return found


def failed(residuals: Iterable[Residual]) -> dict[str, Residual]:
    """The worst residual of each identity that is over the tolerance."""
    worst: dict[str, Residual] = {}
    for residual in residuals:
        for identity in CAUSES:
            value = getattr(residual, identity)
            if value > residual.tolerance and not (identity in worst and getattr(worst[identity], identity) >= value):
                worst[identity] = residual
    return worst


def _backward_residual(claim: _Claim, added: Tensor | None) -> float:
    """NaN where nobody knows what was added, and where there is nothing to tell: no gradient, or one without digits."""
    if added is None or not bool(added.isfinite().all() & claim.total.isfinite().all()):
        return math.nan
    kind = claim.weight.dtype
    scale = max(float(added.norm()), math.sqrt(claim.squares), _rounding(kind) * math.sqrt(claim.cancelled))
    difference = float((claim.total - added).norm())
    return difference / scale if scale > torch.finfo(kind).tiny / TOLERANCE.get(kind, 1.0) else math.nan


def _rounding(kind: torch.dtype) -> float:
    """ROUNDINGS of a number over what the tolerance is of it."""
    return ROUNDINGS * torch.finfo(kind).eps / TOLERANCE[kind] if kind in TOLERANCE else 0.0


def _forward_residual(unrolled: Unrolled, finals: dict[str, Tensor], kind: torch.dtype) -> float:
    largest: dict[str, tuple[Tensor, Tensor]] = {}
    for part in _stretches(unrolled):
        for name, found in _of_stretch(part, kind).items():
            so_far = largest.get(name, found)
            largest[name] = torch.maximum(so_far[0], found[0]), torch.maximum(so_far[1], found[1])
    worst = 0.0
    for name, (size, apart) in largest.items():
        if name in finals:
            state = unrolled.states[name]
            last = state[unrolled.ends, torch.arange(state.shape[1], device="cpu")]
            apart = torch.maximum(apart, (finals[name].double() - last.double()).norm(dim=-1))
        relative = torch.where(size > 0, apart / size, apart)
        if not bool(size.isfinite().all() & apart.isfinite().all()):
            return math.nan
        worst = max(worst, float(relative.max()))
    return worst


def _stretches(unrolled: Unrolled) -> Iterator[Unrolled]:
    """Parts of the steps of a cell with torch's weights, so that what is computed again takes little memory."""
    time, batch, hidden = unrolled.like.shape
    size = time if unrolled.torch_cell is None else max(1, _STRETCH // max(1, batch * hidden))
    for start in range(0, time, size):
        yield unrolled if size >= time else unrolled.part(slice(start, start + size))


def _of_stretch(unrolled: Unrolled, kind: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """State name -> how large the states are, and how far what the step gives again is apart, [B] float64."""
    cell = unrolled.torch_cell
    if cell is not None and unrolled.gates_are_own:  # which a step would compute again
        again = cell.update(unrolled.gates, unrolled.previous)
    else:
        again = unrolled.cell.step(unrolled.inputs, unrolled.previous)
    summands = cell.summands(unrolled.gates) if cell is not None else {}
    found = {}
    for name, state in unrolled.states.items():
        size = _norms(unrolled, state)
        if name in summands:
            size = torch.maximum(size, _rounding(kind) * _norms(unrolled, summands[name]))
        found[name] = size, _norms(unrolled, again[name] - state)
    return found


def _norms(unrolled: Unrolled, vectors: Tensor) -> Tensor:
    """The largest norm over time, [B] float64."""
    norms = log_norm(vectors).exp()
    return (norms if unrolled.valid is None else norms.masked_fill(~unrolled.valid, 0)).amax(0)
