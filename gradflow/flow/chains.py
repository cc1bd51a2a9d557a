"""Gradients along a sequence of steps that a script made one by one, as the recursion has them of a layer's own.

The total gradients are those that autograd brought. What arrives directly, not through the next step, is the total less
J_{t+1}ᵀ δ_{t+1}, where the state entered as it left, or masked; otherwise nobody knows it, and it is NaN.

Shapes: T steps, B examples, L layers, H hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.flow.adjoint import handed_down, kept
from gradflow.flow.apart import apart_by_autodiff, marked_apart, told_apart, tolerance
from gradflow.flow.arriving import Direct
from gradflow.flow.calls import cell_class
from gradflow.flow.examples import picked
from gradflow.flow.recursion import Block, Run, recur
from gradflow.flow.replay import Unrolled
from gradflow.flow.scaled import scaled_sum, times_power_of_two
from gradflow.flow.stepping import Marked, Step
from gradflow.flow.unrolling import ChainCall, MarkedCell, Stepped, is_as_left, stacked, unrolled_steps


def descend_steps(
    call: ChainCall,
    steps: Sequence[Step],
    passes: Sequence[int],
    examples: Sequence[int] | None,
    run: Run = recur,
) -> Iterator[tuple[tuple[int, int], Unrolled, Iterator[Block]]]:
    """(layer, direction), its steps and their blocks against the direction of time, from the top layer down.

    Args:
        call: whose steps they are.
        steps: in the order in which they ran.
        passes: numbers of the backward passes whose gradients are summed.
        examples: positions in the batch; None: all.
        run: the recursion of one layer.
    """
    marked = isinstance(call.layer, Marked)
    of_all, examples = (examples, None) if marked else (None, examples)  # a step is done again with all of them
    layers = unrolled_steps(call, steps, examples)
    count = len(layers)
    arrived = {
        name: _gradients(steps, passes, name, layers[0].like, 1 if name == "output" else count, examples)
        for name in ("output", *cell_class(call.layer).state_names)
    }
    output = arrived.pop("output")
    shown = None if output is None else output[:, 0]
    above: tuple[Tensor, Tensor, Tensor | None] | None = None  # what the layer above hands down
    for index in reversed(range(count)):
        unrolled = layers[index]
        at_states = {name: part[:, index] for name, part in arrived.items() if part is not None}
        factors = {} if unrolled.is_unknown else _factors(unrolled, steps, index, examples)
        adjoints = _adjoints(unrolled, at_states, shown, factors, separate=call.separate)
        if marked and any(step.coupled for step in steps):
            adjoints = marked_apart(steps, adjoints)
        own = at_states.get(unrolled.cell.output_names[0])
        direct, cut = _direct(unrolled, adjoints, own, shown, above, factors, steps)
        unrolled = replace(unrolled, carried=direct.carried and direct.between is None, cut=cut)
        if any(step.is_shared for step in steps[:-1]):  # under the range nobody knows what comes through other steps
            direct = replace(direct, carried=False)
        if of_all is not None:
            unrolled, direct = unrolled.of(list(of_all)), _picked(direct, of_all)
        blocks: list[Block] = []
        yield (index, 0), unrolled, kept(run(unrolled, direct), blocks, keep=index > 0)
        if index:
            above = handed_down(blocks, unrolled)
            shown = times_power_of_two(above[0].double(), above[1]).to(unrolled.like.dtype)


def _picked(direct: Direct, examples: Sequence[int]) -> Direct:
    """The same of some examples."""

    def each(parts: State) -> State:
        return {name: picked(part, examples) for name, part in parts.items()}

    at_output, between = (
        None if part is None else picked(part, examples) for part in (direct.at_output, direct.between)
    )
    adjoints = each(direct.adjoints or {})
    finals = {name: picked(part, examples, 0) for name, part in direct.finals.items()}
    return replace(
        direct, at_output=at_output, between=between, adjoints=adjoints, hidden=each(direct.hidden), finals=finals
    )


def _factors(unrolled: Stepped, steps: Sequence[Step], layer: int, examples: Sequence[int] | None) -> State:
    """By what the gradients of the states of one layer are multiplied between two steps, [T-1, B, H]; NaN: unknown."""
    if all(is_as_left(*pair) for pair in pairwise(steps)):
        return {name: torch.ones_like(part[1:]) for name, part in unrolled.states.items()}
    unknown = torch.full_like(unrolled.like[0], torch.nan)
    found: State = {}
    for place, name in enumerate(unrolled.states):
        parts = [
            step.between.factor(place, unknown, layer, examples)
            if step.between is not None and step.index == before.index + 1
            else unknown
            for before, step in pairwise(steps)
        ]
        found[name] = torch.stack(parts)
    return found


def _gradients(
    steps: Sequence[Step], passes: Sequence[int], name: str, like: Tensor, count: int, examples: Sequence[int] | None
) -> Tensor | None:
    """What arrived under one name at each step, [T, count, B, ·], 0 where nothing did; None: nowhere."""
    found = [[s.arrived[n][name] for n in passes if n in s.arrived and name in s.arrived[n]] for s in steps]
    some = next((parts[0] for parts in found if parts), None)
    if some is None:
        return None
    zero = torch.zeros_like(some)
    whole = [sum(parts[1:], parts[0]) if parts else zero for parts in found]
    return stacked(whole, count, examples).to(like.dtype)


def _adjoints(unrolled: Stepped, at_states: State, above: Tensor | None, factors: State, *, separate: bool) -> State:
    """The gradients of all states of one layer as functions of the step's outputs alone.

    Args:
        unrolled: the steps.
        at_states: state name -> [T, B, H], what autograd brought to the state as it was given out.
        above: [T, B, H], what arrives at the layer's output beside that.
        factors: see :func:`_factors`.
        separate: see :class:`ChainCall`.
    """
    zeros = torch.zeros_like(unrolled.like)
    total = {name: at_states.get(name, zeros) for name in unrolled.cell.state_names}
    shown = unrolled.cell.output_names[0]
    if above is not None:
        total[shown] = total[shown] + above
    if separate or len(total) == 1 or isinstance(unrolled.cell, MarkedCell):
        return total
    if unrolled.is_lstm:
        through = cast(Tensor, unrolled.jacobian.shown) * total["h"]
        direct = told_apart(total["c"], through)
        later = unrolled.gates["f"] * total["c"]
        later = later if unrolled.valid is None else later.masked_fill(~unrolled.valid.unsqueeze(-1), 0)
        expected = torch.cat((factors["c"] * later[1:], zeros[:1]))  # has more digits than a difference
        size = (total["c"].abs() + through.abs()).clamp(min=torch.finfo(through.dtype).tiny)
        same = (direct - expected).abs() <= tolerance(unrolled.like) * size
        direct = torch.where(same.all(-1, keepdim=True), expected, direct)
        return total | {"c": direct}
    return total | apart_by_autodiff(unrolled, total)


def _direct(
    unrolled: Stepped,
    adjoints: State,
    own: Tensor | None,
    shown: Tensor | None,
    above: tuple[Tensor, Tensor, Tensor | None] | None,
    factors: State,
    steps: Sequence[Step],
) -> tuple[Direct, Tensor | None]:
    """What arrives directly, not through the next step, and where examples begin anew, `cut` of an Unrolled.

    Args:
        unrolled: the steps of one layer.
        adjoints: the total gradients.
        own: [T, B, H], of the state shown what autograd brought to it as it was given out; None: nothing.
        shown: [T, B, H], what arrives at the layer's output beside that; None: nothing does.
        above: the same of what the layer above hands down, see :func:`.handed_down`; None: there is none.
        factors: see :func:`_factors`.
        steps: as they were seen.
    """
    names = unrolled.cell.output_names
    if unrolled.is_unknown:
        unknown = torch.full_like(torch.cat([adjoints[name] for name in names], -1), torch.nan)
        return Direct(unknown, adjoints=adjoints, carried=False), None
    later, known = _through_next(unrolled, adjoints, factors, steps)
    direct = _at_shown(names, adjoints, later, own, shown, is_top=above is None)
    direct = direct.masked_fill(~known.unsqueeze(-1), torch.nan)
    hidden = {n: told_apart(adjoints[n], later[n]) for n in unrolled.cell.state_names if n not in names}
    hidden = {name: part for name, part in hidden.items() if bool(part.any())}
    finals = State()
    if unrolled.lengths is None:  # a call that goes on from the last states is told apart there
        finals = dict(zip(names, direct[-1].chunk(len(names), -1), strict=True)) | {n: p[-1] for n, p in hidden.items()}
        direct, *rest = (torch.cat((part[:-1], torch.zeros_like(part[-1:]))) for part in (direct, *hidden.values()))
        hidden = dict(zip(hidden, rest, strict=True))
    exponent, beneath = None, None
    if above is not None:
        values, exponent, beneath = above
        direct, exponent = scaled_sum(values, exponent, direct, torch.zeros_like(exponent))
    carried = bool(known.all()) and all(step.is_separate for step in unrolled.redone or ())
    between, cut = None, None
    if not all(bool((part == 1).all()) for part in factors.values()):
        joint = torch.cat([factors[name] for name in unrolled.cell.state_names], -1)
        between = torch.cat((torch.ones_like(joint[:1]), joint))
        anew = began_anew(factors) if carried else None
        cut = None if anew is None else torch.cat((torch.zeros_like(known[:1]), anew))
    given = Direct(direct, exponent, hidden, beneath, finals, adjoints=adjoints, between=between, carried=carried)
    return given, cut


def _through_next(unrolled: Stepped, adjoints: State, factors: State, steps: Sequence[Step]) -> tuple[State, Tensor]:
    """What comes through the next step, state name -> [T, B, H], and where it is known, [T, B] bool."""
    later = {name: torch.zeros_like(part) for name, part in adjoints.items()}
    known, back = torch.ones(unrolled.like.shape[:2], dtype=torch.bool, device=unrolled.like.device), State()
    if len(known) > 1:
        flat = torch.cat([adjoints[name] for name in unrolled.cell.state_names], -1)
        back = unrolled.jacobian.split(unrolled.jacobian.rmatvec(flat))
        for name, part in later.items():
            part[:-1] = factors[name] * back[name][1:]
            known[:-1] &= ~factors[name].isnan().any(-1)
    return later, known & ~_passed_by(unrolled, back, factors, steps)


def _at_shown(
    names: Sequence[str], adjoints: State, later: State, own: Tensor | None, shown: Tensor | None, *, is_top: bool
) -> Tensor:
    """What arrives directly at the states shown, [T, B, ·]; below the top layer beside what the layer above hands down.

    Args:
        names: of these states.
        adjoints: the total gradients.
        later: what comes through the next step.
        own: see :func:`_direct`.
        shown: the same.
        is_top: there is no layer above.
    """
    direct = told_apart(*(torch.cat([parts[name] for name in names], -1) for parts in (adjoints, later)))
    if shown is None or len(names) > 1:
        return direct
    own, through = torch.zeros_like(shown) if own is None else own, later[names[0]]
    alone = told_apart(own, through)  # what arrives at the last state beside the next step
    if not is_top:
        return alone
    by_state = (own != 0).any(-1, keepdim=True) | (through == 0).all(-1, keepdim=True)  # no script carries the output
    return torch.where((alone == 0).all(-1, keepdim=True) & by_state, shown, direct)


def began_anew(factors: State) -> Tensor | None:
    """Where examples begin anew, from zeros in all their states, [..., B]; None if more was done to some.

    Args:
        factors: state name -> [..., B, H], by what gradients are multiplied between steps.
    """
    rows = torch.stack([(factor == 0).all(-1) for factor in factors.values()]).all(0)
    only = all(bool(((factor == 1).all(-1) | rows).all()) for factor in factors.values())
    return rows if only else None


def _passed_by(unrolled: Stepped, back: State, factors: State, steps: Sequence[Step]) -> Tensor:
    """Where a gradient that is not direct came through no next step, [T, B] bool.

    A hook of the script may have changed it, or it came to an earlier state through a later step, into which more
    enters than what left the step before.

    Args:
        unrolled: the steps.
        back: state name -> [T, B, H], J_tᵀ δ_t.
        factors: see :func:`_factors`.
        steps: as they were seen.
    """
    found = torch.tensor([step.is_hooked for step in steps], device=unrolled.like.device).unsqueeze(1)
    found = found.expand(unrolled.like.shape[:2]).clone()
    place = {step.index: position for position, step in enumerate(steps)}
    for t, step in enumerate(steps):
        if step.between is None:
            continue
        if step.between.is_hooked:
            found[[place[index] for index in {step.index - 1, *step.between.earlier} & place.keys()]] = True
        for index in step.between.earlier & place.keys():
            for name, states in unrolled.states.items():
                left = factors[name][t - 1] * states[t - 1]
                rounding = 64 * torch.finfo(left.dtype).eps * states[t - 1].abs().amax(-1, keepdim=True)
                is_more = ~((unrolled.previous[name][t] - left).abs() <= rounding).all(-1)
                found[place[index]] |= is_more & (back[name][t] != 0).any(-1)
    return found
