"""A sequence that a layer ran in several calls, each from the states that the one before gave out: one in time.

Each call has its exact gradients already; here they are put in their places, and what arrives at the last state of a
call is told apart into what came through the next call and what arrives directly.

Shapes: T time steps of all calls, t of one block, B examples, H hidden size.
"""

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.flow.apart import told_apart
from gradflow.flow.arriving import Carried, Direct
from gradflow.flow.between import Between
from gradflow.flow.chains import began_anew
from gradflow.flow.metrics import all_between, log_norm
from gradflow.flow.recursion import Block, Descent, Run, recur
from gradflow.flow.replay import Unrolled
from gradflow.flow.scaled import times_power_of_two


class Parts:
    """Calls that are one sequence, as one call.

    Args:
        parts: in time.
    """

    def __init__(self, parts: Sequence[Any]):
        self._parts, self.name, self.call = parts, parts[0].name, parts[0].call

    def descend(self, examples: Sequence[int] | None) -> Descent:
        """See :meth:`gradflow.flow.seen.Seen.descend`."""
        joints = [_Joint() for _ in self._parts[1:]]
        runs: list[Run] = [*(joint.run for joint in joints), recur]
        for found in zip(
            *(part.descend(examples, run) for part, run in zip(self._parts, runs, strict=True)), strict=True
        ):
            unrolled = [each[1] for each in found]
            blocks = [each[2] for each in found]
            (layer, _), *_ = found[0]
            for joint, pair, (before, part) in zip(joints, pairwise(unrolled), pairwise(self._parts), strict=True):
                known = not (before.is_hooked or part.between.is_hooked)
                joint.enter(*pair, part.between, layer, examples, known=known)
                joint.shared = before.is_shared
            whole = _joined(unrolled, carried=all(j.as_left for j in joints) and all(part.carried for part in unrolled))
            whole = whole if whole.carried else replace(whole, cut=_cut(unrolled, joints))
            yield found[0][0], whole, _in_one(whole, unrolled, blocks, joints), found[-1][3]


class _Joint:
    """Where one call ends and the next one begins, of the layer that is gone through.

    Attributes:
        factors: state name -> [B, H], by what gradients are multiplied on the way.
        known: no more is done there.
        shared: still another call goes on from the same states.
        later: the first block of the next call, once that has been gone through.
    """

    factors: State
    known: bool
    shared: bool
    later: Block

    def enter(
        self,
        before: Unrolled,
        after: Unrolled,
        between: Between,
        layer: int,
        examples: Sequence[int] | None,
        *,
        known: bool,
    ) -> None:
        """Go on to the next layer, of the two calls."""
        self.factors, self.known = State(), known
        for place, (name, states) in enumerate(before.states.items()):
            left, entered = states[-1], after.previous[name][0]
            self.factors[name] = factor = between.factor(place, left, layer, examples)
            rounding = 64 * torch.finfo(left.dtype).eps * left.abs().amax(-1, keepdim=True)  # of states found anew
            self.known = self.known and bool(((entered - factor * left).abs() <= rounding).all())

    @property
    def as_left(self) -> bool:
        """Whether the states enter as they left."""
        return self.known and all(bool((factor == 1).all()) for factor in self.factors.values())

    def run(self, unrolled: Unrolled, direct: Direct) -> Iterator[Block]:
        """The recursion of the call before."""
        assert self.later.onward is not None
        handed = self.later.onward()
        through = {name: self.factors[name] * part for name, part in handed.values.items()}
        arrived = {name: direct.finals.get(name, torch.zeros_like(unrolled.like[-1])) for name in through}
        rests = {name: self._rest(part, through[name], handed.exponent) for name, part in arrived.items()}
        apart = replace(
            direct, finals=rests if self.known else {n: torch.full_like(p, torch.nan) for n, p in rests.items()}
        )
        for block in recur(unrolled, self._beneath(direct, arrived, rests, through, handed.exponent)):
            if block.positions.stop == len(unrolled.like):
                own = replace(apart.part(unrolled, block.positions), unknown=block.direct.unknown)
                block = replace(block, direct=own)
            yield block

    def _rest(self, arrived: Tensor, through: Tensor, exponent: Tensor) -> Tensor:
        """What arrives directly at one of the last states."""
        if not self.known:
            return torch.full_like(arrived, torch.nan)
        rest = told_apart(arrived, times_power_of_two(through.double(), exponent)).to(arrived.dtype)
        return rest.masked_fill((arrived == 0).all(-1, keepdim=True) & (rest.abs() < torch.finfo(rest.dtype).tiny), 0)

    def _beneath(self, direct: Direct, arrived: State, rests: State, through: State, exponent: Tensor) -> Direct:
        """What arrives, where the gradient that autograd brought to the last states may be under the range.

        There that which comes through the next call is taken on its own scale. Where nobody knows that, the example is
        doubtful.
        """
        norms = {name: log_norm(part) for name, part in arrived.items()}
        least = math.log(torch.finfo(self.later.unrolled.like.dtype).tiny)
        if all(all_between(norm, least, math.inf) for norm in norms.values()):
            return direct
        comes = self.later.log_joint_norm[0] != -torch.inf
        known = ~torch.cat(list(through.values()), -1).isnan().any(-1) & (self.known and not self.shared)
        if self.later.unknown is not None:
            known &= ~self.later.unknown[0]
        finals, later, doubtful = State(), State(), torch.zeros_like(comes)
        for name, part in through.items():
            low = comes & (norms[name] < least)
            doubtful |= low & ~known
            taken = (low & known & part.any(-1)).unsqueeze(-1)
            finals[name] = torch.where(taken, rests[name], arrived[name])
            later[name] = part.double().masked_fill(~taken, 0)
        norm = log_norm(torch.cat(list(later.values()), -1))
        return replace(
            direct,
            finals=finals,
            later=Carried(later, norm, exponent) if bool((norm > -torch.inf).any()) else None,
            doubtful=doubtful if bool(doubtful.any()) else None,
        )


def grouped(calls: Sequence[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Numbered calls, of which those that go on with one another are one.

    Raises:
        ValueError: if such calls were given lengths.
    """
    groups: dict[int, list[tuple[int, Any]]] = {}
    head_of: dict[int, int] = {}
    for number, seen in calls:
        before = None if seen.follows is None else head_of.get(id(seen.follows))
        head_of[id(seen)] = id(seen) if before is None else before
        groups.setdefault(head_of[id(seen)], []).append((number, seen))
    for group in groups.values():
        if len(group) > 1 and any(seen.call.lengths is not None for _, seen in group):
            raise ValueError(
                f"lengths: {group[0][1].name!r} runs one sequence in {len(group)} calls, of which nobody knows where "
                f"examples end; pack the sequences, or leave lengths out so that padding counts as well"
            )
    return [group[0] if len(group) == 1 else (group[0][0], Parts([s for _, s in group])) for group in groups.values()]


def _cut(parts: Sequence[Unrolled], joints: Sequence[_Joint]) -> Tensor | None:
    """Where examples begin anew at the first step of a call, [T, B]; None if more is done between calls."""
    if not all(part.carried for part in parts):
        return None
    cuts = [torch.zeros(part.like.shape[:2], dtype=torch.bool, device=part.like.device) for part in parts]
    for cut, joint in zip(cuts[1:], joints, strict=True):
        anew = began_anew(joint.factors) if joint.known else None
        if anew is None:
            return None
        cut[0] = anew
    return torch.cat(cuts)


def _joined(parts: Sequence[Unrolled], *, carried: bool) -> Unrolled:
    first = parts[0]

    def each(name: str) -> State:
        named = [getattr(part, name) for part in parts]
        return {key: torch.cat([each[key] for each in named]) for key in named[0] if all(key in each for each in named)}

    scales = [part.input_scale for part in parts]
    return Unrolled(
        first.cell,
        torch.cat([part.inputs for part in parts]),
        each("states"),
        each("previous"),
        each("gates"),
        None,
        first.ends.new_full(first.ends.shape, sum(len(part.like) for part in parts) - 1),
        None,
        False,
        None if any(scale is None for scale in scales) else torch.cat(scales),  # type: ignore[arg-type]
        carried,
    )


def _in_one(
    whole: Unrolled, parts: Sequence[Unrolled], blocks: Sequence[Iterator[Block]], joints: Sequence[_Joint]
) -> Iterator[Block]:
    """The blocks of all calls, the last one first, each in its place in the whole."""
    start = len(whole.like)
    for index in reversed(range(len(parts))):
        start -= len(parts[index].like)
        for block in blocks[index]:
            if index:
                joints[index - 1].later = block
            yield _placed(block, start, whole.ends)


def _placed(block: Block, start: int, ends: Tensor) -> Block:
    unrolled = copy(block.unrolled)  # with the Jacobian that is known already
    object.__setattr__(unrolled, "ends", ends)
    return replace(
        block, positions=slice(start + block.positions.start, start + block.positions.stop), unrolled=unrolled
    )
