"""A sequence that a layer ran in several calls, each from the states that the one before gave out: one in time.

Each call has its exact gradients already; here they are put in their places, and what arrives at the last state of a
call is told apart into what came through the next call and what arrives directly.

Shapes: T time steps of all calls, t of one block, B examples, H hidden size.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.flow.apart import told_apart
from gradflow.flow.arriving import Arriving
from gradflow.flow.between import Between
from gradflow.flow.chains import began_anew
from gradflow.flow.recursion import Block, Descent
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
        for found in zip(*(part.descend(examples) for part in self._parts), strict=True):
            unrolled = [each[1] for each in found]
            blocks = [each[2] for each in found]
            (layer, _), *_ = found[0]
            factors = [
                _factors(*pair, part.between, layer, examples, known=not before.is_hooked)
                for pair, (before, part) in zip(pairwise(unrolled), pairwise(self._parts), strict=True)
            ]
            carried = all(bool(known) and all(bool((f == 1).all()) for f in fs.values()) for fs, known in factors)
            whole = _joined(unrolled, carried=carried and all(part.carried for part in unrolled))
            whole = whole if whole.carried else replace(whole, cut=_cut(unrolled, factors))
            yield found[0][0], whole, _in_one(whole, unrolled, blocks, factors), found[-1][3]


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


def _factors(
    before: Unrolled, after: Unrolled, between: Between, layer: int, examples: Sequence[int] | None, *, known: bool
) -> tuple[State, bool]:
    """State name -> [B, H], by what gradients are multiplied between two calls; and whether no more was done."""
    found = State()
    for place, (name, states) in enumerate(before.states.items()):
        left, entered = states[-1], after.previous[name][0]
        found[name] = factor = between.factor(place, left, layer, examples)
        rounding = 64 * torch.finfo(left.dtype).eps * left.abs().amax(-1, keepdim=True)  # of states found anew
        known = known and bool(((entered - factor * left).abs() <= rounding).all())
    return found, known


def _cut(parts: Sequence[Unrolled], factors: Sequence[tuple[State, bool]]) -> Tensor | None:
    """Where examples begin anew at the first step of a call, [T, B]; None if more is done between calls."""
    if not all(part.carried for part in parts):
        return None
    cuts = [torch.zeros(part.like.shape[:2], dtype=torch.bool, device=part.like.device) for part in parts]
    for cut, (between, known) in zip(cuts[1:], factors, strict=True):
        anew = began_anew(between) if known else None
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
    whole: Unrolled, parts: Sequence[Unrolled], blocks: Sequence[Iterator[Block]], factors: Sequence[tuple[State, bool]]
) -> Iterator[Block]:
    """The blocks of all calls, the last one first, each in its place in the whole."""
    start, later = len(whole.like), None
    for index in reversed(range(len(parts))):
        start -= len(parts[index].like)
        is_last = True
        for block in blocks[index]:
            placed = _placed(block, start, whole.ends)
            if is_last and later is not None:
                placed = replace(placed, direct=_without_later(block, later, *factors[index]))
            yield placed
            is_last, last = False, block
        later = last


def _placed(block: Block, start: int, ends: Tensor) -> Block:
    unrolled = copy(block.unrolled)  # with the Jacobian that is known already
    object.__setattr__(unrolled, "ends", ends)
    return replace(
        block, positions=slice(start + block.positions.start, start + block.positions.stop), unrolled=unrolled
    )


def _without_later(block: Block, later: Block, factor: State, known: bool) -> Arriving:
    """What arrives directly at the states of a block, of whose last ones a later call begins."""
    direct, values = block.direct, {}
    total = torch.cat([later.total[name][0] for name in later.unrolled.cell.state_names], -1)
    back = later.unrolled.jacobian.split(later.unrolled.jacobian[0].rmatvec(total))
    own = torch.zeros_like(later.exponent[0]) if direct.exponent is None else direct.exponent[-1]
    for name, part in direct.values.items():
        through = times_power_of_two(factor[name] * back[name], later.exponent[0] - (own if name == "h" else 0))
        at_end = told_apart(part[-1], through) if known else torch.full_like(part[-1], torch.nan)
        values[name] = torch.cat((part[:-1], at_end.unsqueeze(0)))
    return Arriving(values, direct.exponent, direct.shown)
