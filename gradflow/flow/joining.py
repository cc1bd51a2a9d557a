"""Calls that are single steps, joined to the sequences that they make; and states that a script marks by hand."""

import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradflow.flow.between import AS_LEFT, Between
from gradflow.flow.calls import cell_class, kernel_dtype_of, weights_known
from gradflow.flow.chains import descend_steps
from gradflow.flow.dropout import Dropout
from gradflow.flow.hooks import tell_of_changes
from gradflow.flow.padding import check_steps
from gradflow.flow.parameters import have_changed, parameters_of, versions_of
from gradflow.flow.recursion import Descent, Run, recur
from gradflow.flow.redoing import redone
from gradflow.flow.stepping import (
    Head,
    Heads,
    Marked,
    Step,
    are_coupled,
    keep_gradients,
    place_of,
)
from gradflow.flow.unrolling import ChainCall


class Chain:
    """Steps of one module, each from what the one before gave out: what a call is of a layer that runs them all.

    Attributes:
        name: of the module, or that of a marked state.
        call: what the log and the proof ask.
        within: the forward pass of the model in which it began.
        place: among the calls of this module that began there.
        order: among all calls.
        passes: number of a backward pass -> the steps that it reached.
        counted: numbers of the passes whose gradients count.
        landed: these ended in ``.grad`` by themselves.
        parameters: those that the module had at the first step.
        own: parameters of the module, unless functional_call lends it others.
    """

    reading = True  # the gradients of its steps are those of the backward pass

    def __init__(self, name: str, call: ChainCall, policy: Any, within: Any, place: int, order: int, arrives: Any):
        self.name, self.call, self.policy = name, call, policy
        self.within, self.place, self.order, self._arrives = within, place, order, arrives
        self.passes: dict[int, list[Step]] = {}
        self.counted: list[int] = []
        self.landed = False
        self.length = 0
        self.last: Any = None  # step
        self.ran: dict[int, int] = {}  # number of each node that gave out states -> the index of its step
        self.follows: Any = None  # the call whose states enter the first step
        self.between: Between | None = None  # what happens to them before
        self.parameters = self.own = parameters_of(call.layer)
        self._versions = versions_of(self.parameters)

    @property
    def steps(self) -> list[Step]:
        """Those that the passes that count have reached, in order."""
        found = {step.index: step for number in self.counted for step in self.passes.get(number, ())}
        return [found[index] for index in sorted(found)]

    def reached(self, step: Step, number: int) -> None:
        """A backward pass brings the first gradient to a step."""
        self.passes.setdefault(number, []).append(step)
        arrives = self._arrives()
        if arrives is not None:
            arrives(self, number)

    def count(self, passes: Iterable[int], *, landed: bool) -> bool:
        """Let the gradients be the sum of those of some backward passes; False if none of them came by."""
        self.counted, self.landed = list(passes), landed
        return any(number in self.passes for number in self.counted)

    def check_parameters(self) -> None:
        """Raise if the module's parameters were changed or replaced since the first step."""
        if have_changed(self.parameters, self._versions, self.own, self.call.layer):
            raise self.policy.changed(repr(self.name))

    def check_tensors(self) -> None:
        """Raise if what a step took in or gave out, or a gradient that arrived there, was changed in place."""
        if self.is_stale():
            raise RuntimeError(
                f"{self.policy.method}: an input, a state or a gradient of {self.name!r} was changed in place since "
                f"its forward pass, so its steps are lost; use the out-of-place operation (no inplace=True), or give "
                f"it a copy"
            )

    def is_stale(self) -> bool:
        """Whether what a step took in or gave out, or a gradient that arrived there, was changed in place."""
        return any(step.is_stale(self.counted) for step in self.steps)

    def check_padding(self) -> None:
        """Raise if a gradient arrived at a step that lengths leave out; a cell of the user's own may keep its state."""
        if self.call.lengths is not None and weights_known(self.call.layer):
            arrived = [[g for n in self.counted for g in step.arrived.get(n, {}).values()] for step in self.steps]
            check_steps(self.name, arrived, self.call.lengths)

    def descend(self, examples: Sequence[int] | None, run: Run = recur) -> Descent:
        """See :meth:`gradflow.flow.seen.Seen.descend`."""
        return self._through(self.call, examples, run)

    def descend_whole(self) -> Descent:
        """See :meth:`gradflow.flow.seen.Seen.descend_whole`; the steps that lengths leave out ran as well."""
        return self._through(replace(self.call, lengths=None), None, recur)

    def _through(self, call: ChainCall, examples: Sequence[int] | None, run: Run) -> Descent:
        steps = self.steps
        if steps:
            for place, unrolled, blocks in descend_steps(call, steps, self.counted, examples, run):
                yield place, unrolled, blocks, {}

    @property
    def is_hooked(self) -> bool:
        """Whether a hook of the script changed the gradient of a state of the last step."""
        return any(step.is_hooked for step in self.steps[-1:])

    @property
    def is_shared(self) -> bool:
        """Whether several calls go on from the states of the last step."""
        return any(step.is_shared for step in self.steps[-1:])

    @property
    def again(self) -> float:
        """How far marked steps that were done again are from what was marked, relative; NaN: nobody can ask."""
        found = [step.redone.again for step in self.steps if step.redone is not None]
        return float(torch.stack(found).max()) if found else math.nan


class Joiner:
    """Sees single steps and joins them to chains.

    Args:
        policy: of the watcher.
        arrives: a method that is told which chain a backward pass has reached, and the number of the pass.
    """

    def __init__(self, policy: Any, arrives: Callable[[Chain, int], None]):
        self._policy = policy
        self._arrives = weakref.WeakMethod(arrives)  # of who holds the joiner
        self._heads: dict[str, Heads] = {}
        self._carries: set[str] = set()  # names of modules of which a call has gone on with another one

    def forget(self) -> None:
        """Nothing goes on any more."""
        self._heads.clear()

    def bare(self, name: str, layer: Any, within: Any) -> Chain:
        """A chain without steps, of an iteration that is not recorded: it knows the module's weights."""
        first = next(iter(layer.parameters()), torch.empty(0))
        call = ChainCall(layer, dict(layer.named_parameters()), first.device, first.dtype, 1, separate=True)
        return Chain(name, call, self._policy, within, 0, 0, self._arrives)

    def step(
        self,
        name: str,
        layer: Any,
        x: Tensor,
        entering: Any,
        outputs: dict[str, Tensor],
        dropout: Dropout | None,
        weights: Callable[[], Mapping[str, Tensor]],
        begin: Callable[[], tuple[Any, int, int]],
    ) -> tuple[Chain, bool]:
        """One call of a cell, or of a layer with T = 1.

        Args:
            name: of the module.
            layer: it, or the cell seen as a layer of one.
            x: its input.
            entering: the states that entered, one or several; None: zeros.
            outputs: name -> what it gave: of each state, and "output" of a layer.
            dropout: between its layers.
            weights: gives name -> parameter, for a chain that begins.
            begin: gives the pass, the place and the order of a chain that begins.

        Returns:
            The chain, and whether the step is in the graph.
        """
        names = cell_class(layer).state_names
        given = entering if isinstance(entering, tuple | list) else (entering,)
        states = tuple(outputs[state] for state in names)
        before = (None,) * len(names) if entering is None else tuple(given)
        return self._joined(name, layer, x, before, outputs, states, dropout, weights, begin)

    def whole(self, seen: Any, *, is_recorded: bool) -> Any:
        """A call of several steps, which goes on with another one, or which others go on with; the one before.

        Args:
            seen: the call, still in the graph, see :class:`gradflow.flow.seen.Seen`.
            is_recorded: its iteration is to be recorded. In others it is asked only where calls go on with others
                whether a hook changes the gradients of its last states; where they begin to, that is not known.
        """
        call, name = seen.call, seen.name
        heads = self._heads.get(name)
        if heads is None:
            heads = self._heads[name] = Heads()
        head = None
        if call.hx is not None:
            head, seen.between = heads.before(call.hx if isinstance(call.hx, tuple) else (call.hx,))
        is_asked = is_recorded or name in self._carries
        if head is not None and not is_asked:
            head.chain.is_hooked = True
        if head is not None:
            self._carries.add(name)
        if is_asked:
            for final in call.finals:
                if final.grad_fn is not None:
                    tell_of_changes(final, partial(setattr, seen, "is_hooked", True))
        if call.output.grad_fn is not None or any(final.grad_fn is not None for final in call.finals):
            heads.add(Head(seen, seen, 0, call.finals, [call.output, *call.finals], {}))
        return None if head is None else _before(head, call)

    def mark(
        self,
        layer: Marked,
        states: tuple[Tensor, ...],
        step: Callable[..., Any] | None,
        previous: tuple[Tensor, ...],
        begin: Callable[[], tuple[Any, int, int]],
    ) -> tuple[Chain, bool]:
        """States that a script marks.

        Args:
            layer: the states, seen as a layer of one.
            states: as they left the step, [B, H] each.
            step: makes them of the ones before; None: nobody knows.
            previous: the ones before, if the step is known.
            begin: see :meth:`step`.

        Raises:
            ValueError: if they came out of the same operation as those that were marked before.
        """
        if self._heads.setdefault(layer.name, Heads()).hold(states):
            raise ValueError(
                f"mark: expected each {layer.name!r} to be computed from the one marked before, got one that came out "
                f"of the same operation (it was marked twice, or a scan gives all steps at once, so that no gradient "
                f"passes from one to the next); mark the states of a loop over the steps, or write the step as a "
                f"gradflow.Cell in gradflow.Recurrent"
            )
        given = dict(zip(layer.cell_class.state_names, states, strict=True))
        chain, trained = self._joined(layer.name, layer, None, previous, given, states, None, dict, begin)
        last = chain.last
        last.coupled = are_coupled(states)
        if step is not None:
            last.redone = redone(layer.name, step, previous, states)
        return chain, trained

    def _joined(
        self, name: str, layer: Any, x: Tensor | None, entering: tuple, given: dict[str, Tensor],
        states: tuple[Tensor, ...], dropout: Dropout | None, weights: Callable[[], Mapping[str, Tensor]],
        begin: Callable[[], tuple[Any, int, int]],
    ) -> tuple[Chain, bool]:  # fmt: skip
        heads = self._heads.setdefault(name, Heads())
        marked = isinstance(layer, Marked)
        if not marked:
            _check_new(name, entering, given)
        entered = entering or states
        head, found = heads.before(entered, asked=bool(entering))
        batch = states[0].numel() // (layer.num_layers * states[0].shape[-1])
        whole = head is not None and isinstance(head.chain, Chain)
        if whole and head is not None and head.chain.call.batch_size == batch:
            chain = head.chain
        else:
            within, place, order = begin()
            nodes = {state.grad_fn for state in states}  # held, as an id may be given to another at once
            separate = "output" in given or len(nodes) == 1 or (weights_known(layer) and states[0].dim() == 1)
            kind = kernel_dtype_of(states[0])
            call = ChainCall(layer, weights(), states[0].device, kind, batch, separate)
            chain = Chain(name, call, self._policy, within, place, order, self._arrives)
            chain.follows = None if head is None or whole else _before(head, call)
            chain.between = found
            head, found = None, None
        if marked and not entering:
            entering = chain.last.leaving if head is not None else (None,) * len(states)
        elif found is AS_LEFT:
            entering = chain.last.leaving
        else:
            entering = tuple(None if state is None else state.detach() for state in entering)
        step = Step(chain.length, None if x is None else x.detach(), entering, tuple(s.detach() for s in states), found)
        step.dropout = dropout
        chain.length += 1
        chain.last = step
        keeper = keep_gradients(step, given, chain.reached, () if head is None else head.below(entered))
        made = list(given.values())
        if any(value.grad_fn is not None for value in made):
            heads.add(Head(chain, step, step.index, states, made, chain.ran, keeper))
        return chain, keeper is not None


def _check_new(name: str, entering: Sequence[Tensor | None], left: Mapping[str, Tensor]) -> None:
    """Raise if a step gives out one state twice, or a state that entered it: their gradients would be one sum."""
    taken = {place_of(state): "as it entered" for state in entering if state is not None and state.grad_fn is not None}
    for key, value in left.items():
        if value.grad_fn is None:
            continue
        place = place_of(value)
        if place in taken:
            raise ValueError(
                f"{name}: expected new states from a step, got {key!r} {taken[place]}, so that autograd has one "
                f"gradient for both; give out a copy: {key} * 1"
            )
        taken[place] = f"that is also {key!r}"


def _before(head: Head, call: Any) -> Any:
    """The call that a head is the end of, if another one goes on with it: of as many examples, on the same weights."""
    before = head.chain
    same = before.call.batch_size == call.batch_size and before.call.weights.keys() == call.weights.keys()
    return before if same and all(before.call.weights[n] is w for n, w in call.weights.items()) else None
