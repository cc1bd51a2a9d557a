"""A batch that a script runs as many calls, one for each example, put together to the one call that it might have been.

Shapes: n calls, T_i time steps of each, L layers, H hidden size.
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from gradflow.flow.calls import LayerCall
from gradflow.flow.seen import Seen

FEWEST = 8
"""Calls of a module that are put together; fewer have parts of their own, as in a Siamese network."""


class Pooled(LayerCall):
    """One call that stands for many of the script's; each of its examples was a batch of one."""


def pooled(calls: Sequence[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Put calls of one example each together, where a module has many that start anew and differ in length.

    Those of several forward passes are put together by their place in the pass. The numbers are those of the first
    calls; all else stays as it is.

    Args:
        calls: of one backward pass, with their numbers.
    """
    groups: dict[Any, list[tuple[int, Seen]]] = {}
    gone_on_with = {id(seen.follows) for _, seen in calls if seen.follows is not None}
    for number, seen in calls:
        own = id(seen) in gone_on_with or seen.follows is not None
        groups.setdefault(id(seen) if own else _group(seen), []).append((number, seen))
    found: list[tuple[int, Any]] = []
    for group in groups.values():
        one_pass = len({id(seen.within) for _, seen in group}) == 1
        by_place: dict[int, list[tuple[int, Seen]]] = {}
        for number, seen in group:
            by_place.setdefault(0 if one_pass else seen.place, []).append((number, seen))
        for members in by_place.values():
            found += [(members[0][0], _joined([seen for _, seen in members]))] if _fit(members) else members
    return found


def _group(seen: Any) -> Any:
    """The module, for calls of one example that start anew with nothing left to chance."""
    call = seen.call
    if not isinstance(call, LayerCall) or call.batch_size != 1 or call.carried or call.dropout:
        return id(seen)
    return seen.name if call.lengths is None else id(seen)


def _fit(members: Sequence[tuple[int, Seen]]) -> bool:
    first = members[0][1].call
    return (
        len(members) >= FEWEST
        and len({len(_steps(seen.call, seen.call.output)) for _, seen in members}) > 1
        and all(all(map(is_, seen.call.weights.values(), first.weights.values())) for _, seen in members)
        and len({(seen.call.hx is None, seen.call.kernel_dtype) for _, seen in members}) == 1
    )


def _joined(members: Sequence[Seen]) -> Seen:
    calls = [seen.call for seen in members]
    first = calls[0]

    def packed(values: Sequence[Any]) -> PackedSequence:
        steps = [_steps(call, value) for call, value in zip(calls, values, strict=True)]
        return pack_sequence(steps, enforce_sorted=False)

    def side_by_side(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([v if call.batched else v.unsqueeze(1) for call, v in zip(calls, values, strict=True)], 1)

    hx = [call.hx if isinstance(call.hx, tuple) else (call.hx,) for call in calls]
    given = None if first.hx is None else tuple(map(side_by_side, zip(*hx, strict=True)))
    outputs, finals = [call.output for call in calls], list(zip(*(call.finals for call in calls), strict=True))
    call = Pooled(first.layer, packed([c.x for c in calls]), given, packed(outputs), tuple(map(side_by_side, finals)))
    call.weights, call.kernel_dtype = first.weights, first.kernel_dtype
    call.trained_below = any(c.trained_below for c in calls)
    like = dict(zip(("output", *first.final_names), (outputs, *finals), strict=True))
    for name in {name for c in calls for name in c.gradients}:
        arrived = [c.gradients.get(name, torch.zeros_like(_data(of))) for c, of in zip(calls, like[name], strict=True)]
        call.gradients[name] = packed(arrived).data if name == "output" else side_by_side(arrived)
    return replace(members[0], call=call, reading=None)


def _steps(call: LayerCall, value: Tensor | PackedSequence) -> Tensor:
    """[T, ...] of the one example of an input, output or gradient."""
    data = _data(value)
    if call.packed or not call.batched:
        return data
    return data.squeeze(0 if call.layer.batch_first else 1)


def _data(value: Tensor | PackedSequence) -> Tensor:
    return value.data if isinstance(value, PackedSequence) else value
