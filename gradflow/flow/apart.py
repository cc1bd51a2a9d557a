"""What arrives at each state of a step alone, where autograd has the sum with what comes through others of the step.

Shapes: T steps, B examples, H hidden size.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.cells.copying import copied
from gradflow.cells.recurrent import ReplayedCell
from gradflow.flow.replay import Unrolled
from gradflow.flow.stepping import Step

_ROUNDING, _LOST = 256, 4  # units of a dtype


def apart_by_autodiff(unrolled: Unrolled, total: State) -> State:
    """Of a cell of the user's own: autograd's gradient of each state less what came through the others of the step."""
    with torch.enable_grad():
        replayed = copied(cast(ReplayedCell, unrolled.cell), _in_graph)  # a state may be of the input or weights alone
        entered = {name: _in_graph(part.flatten(0, 1)) for name, part in unrolled.previous.items()}
        with replayed.for_each(unrolled.like.shape[:-1]):
            left = replayed.cell.step(_in_graph(unrolled.inputs.flatten(0, 1)), entered)  # before any view of it
    found = _apart(left, {name: part.flatten(0, 1) for name, part in total.items()})
    return {name: part.view_as(total[name]) for name, part in found.items()}


def _in_graph(value: Tensor) -> Tensor:
    return value.detach().requires_grad_().clone() if value.is_floating_point() else value


def marked_apart(steps: Sequence[Step], total: State) -> State:
    """The same of marked states; without the step, NaN for all but the first, of which the total is known."""
    names = list(total)
    if any(step.coupled and step.redone is None for step in steps):
        return {name: part if name == names[0] else torch.full_like(part, torch.nan) for name, part in total.items()}
    found: list[State] = []
    for t, step in enumerate(steps):
        arrived = {name: part[t] for name, part in total.items()}
        found.append(_apart(dict(zip(names, step.redone.left, strict=True)), arrived) if step.redone else arrived)
    return {name: torch.stack([each[name] for each in found]) for name in names}


def _apart(left: State, total: State) -> State:
    """What arrives at each state of a step, less what came through the others, which are made of it.

    Args:
        left: the states, with their graph.
        total: name -> [n, H], what arrives there.
    """
    uses = {n: [m for m in left if m != n and _depends(left[m], left[n])] for n in left}
    found: State = {}
    while len(found) < len(left):
        name = next(n for n in left if n not in found and all(m in found for m in uses[n]))
        found[name] = total[name]
        if not bool(total[name].any()):  # a state that is none of the training's, such as a count of the steps
            continue
        for other in uses[name]:
            arriving = found[other].to(left[other].dtype).view_as(left[other])
            (through,) = torch.autograd.grad(left[other], left[name], arriving, retain_graph=True)
            found[name] = told_apart(found[name], through.view_as(total[name]).to(total[name].dtype))
    return found


def _depends(state: Tensor, on: Tensor) -> bool:
    """Whether a state of a step was computed from another one of the same step."""
    if not (state.requires_grad and on.requires_grad):  # which one is where nothing that makes it is trained
        return False
    return torch.autograd.grad(state, on, torch.ones_like(state), retain_graph=True, allow_unused=True)[0] is not None


def tolerance(like: Tensor) -> float:
    """Relative to two numbers: below it their difference is rounding."""
    return _ROUNDING * torch.finfo(like.dtype).eps


def told_apart(whole: Tensor, part: Tensor) -> Tensor:
    """Whole less part, [T, B, H]; zero for an example where that is rounding.

    Below the smallest normal number rounding is no longer relative: the same number of units is off, or a few where the
    part is lost.
    """
    rest, size_of_part = whole - part, part.abs().amax(-1, keepdim=True)
    size = torch.maximum(whole.abs().amax(-1, keepdim=True), size_of_part)
    least = torch.where(size_of_part > 0, 1.0, _LOST / _ROUNDING).to(whole.dtype) * torch.finfo(whole.dtype).tiny
    rounding = tolerance(whole) * torch.maximum(size, least)
    return rest.masked_fill(rest.abs().amax(-1, keepdim=True) <= rounding, 0)
