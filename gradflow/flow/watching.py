"""Forward hooks on the recurrent layers of a model: which calls backward passes have reached.

A backward pass counts if it leaves gradients in ``.grad``: what ``torch.autograd.grad`` asks on the side (a Jacobian, a
gradient penalty) is told apart by its number. Of what is seen, a policy hands out its part:
:class:`gradflow.recording.last_backward.LastBackward` for the log, :class:`gradflow.flow.backward.EveryBackward` for
remedies. torch's fused kernels stay as they are, and nothing is held that would keep a graph alive: a call waits in the
hooks of its own outputs, so that a forward pass without backward goes when the script lets go of it.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from operator import is_
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from gradflow.checks import require, shown
from gradflow.flow.added import Added
from gradflow.flow.adjoint import descend
from gradflow.flow.between import Between
from gradflow.flow.calls import LayerCall, SteppedCell, add, cell_class, check_given, is_of_many_passes, watch
from gradflow.flow.copying import Hook, copy_as_ever, leave_hooks_behind
from gradflow.flow.dropout import Dropout, active_dropout
from gradflow.flow.examples import chosen
from gradflow.flow.finding import unwrapped
from gradflow.flow.joining import Chain, Joiner
from gradflow.flow.kernels import Inside, has_own_forward
from gradflow.flow.reading import Reading, read
from gradflow.flow.recursion import Block
from gradflow.flow.replay import Trace, Unrolled
from gradflow.flow.stepping import Arrived, Marked, cell_given, keep_gradients, one_step

log = logging.getLogger(__name__)

Taken = TypeVar("Taken")

UNSEEN = (
    "gradients came to its parameters, but none of its calls was seen; it is called by .forward, which runs no hooks "
    "(some wrappers do): call the module itself, self.module(x) in the place of self.module.forward(x)"
)
TRANSFORMED = (
    "it ran inside of torch.func (grad, vmap, jacrev ...), whose tensors and gradients exist only there; use "
    "torch.autograd.grad or loss.backward() with torch.func.functional_call"
)
"""Why a layer may not be recorded, and what to change."""


class Policy(ABC, Generic[Taken]):
    """What differs between those who watch: which calls count, how they are handed out, and the words of errors.

    Attributes:
        only_last: of several backward passes between two takes the last one counts, and those on its graph or without a
            forward pass between; otherwise all.
        joins: single steps are joined to the sequences that they make.
        by_name: errors name a layer by its dotted name; otherwise by its class.
        method: what the script calls; the beginning of each error.
        parameters: what errors call the parameters of a layer.
        advice: against parameters that have changed.
    """

    only_last: ClassVar[bool]
    joins: ClassVar[bool] = False
    by_name: ClassVar[bool]
    method: ClassVar[str]
    parameters: ClassVar[str]
    advice: ClassVar[str]

    @abstractmethod
    def hand_out(self, since: "Since", watched: Collection[str]) -> Taken:
        """What :meth:`Watcher.take` gives.

        Args:
            since: what was seen since the last take.
            watched: names of the layers that are watched now.

        Raises:
            RuntimeError: if that is no use, saying why.
        """

    def called(self, name: str, layer: nn.Module) -> str:
        """The name of a layer in errors."""
        return name if self.by_name else type(layer).__name__


class Pass:
    """One forward pass of the model: how often each module was called in it so far.

    Args:
        whole: the model itself was called. Otherwise its layers were called by the script, and nobody knows where a
            pass begins; then only those of its calls that gradients reach are numbered.
    """

    def __init__(self, whole: bool):
        self.whole = whole
        self.calls: dict[str, int] = {}


@dataclass(eq=False, slots=True, weakref_slot=True)
class Seen:
    """A call of a module, with what tells its number and whether its tensors are still what they were."""

    name: str
    call: LayerCall
    policy: Policy
    within: Pass
    place: int  # among the calls of this module in its pass
    order: int
    passes: dict[int, Arrived]  # number of a backward pass -> what it left at the outputs
    reading: Reading | None
    versions: list[int]
    parameters: list[Tensor]
    parameter_versions: list[int]
    counted: list[int] = field(default_factory=list)  # numbers of the passes whose gradients are those of the call
    landed: bool = False  # these ended in .grad by themselves
    own: list[Tensor] = field(default_factory=list)  # parameters of the layer, unless functional_call lends it others
    follows: "Seen | Chain | None" = None  # the call whose states enter this one
    between: Between | None = None  # what happens to them before

    def check_parameters(self) -> None:
        """Raise if the layer's parameters were changed or replaced since the forward pass."""
        is_replaced = _same(self.parameters, self.own) and not _same(self.parameters, _parameters(self.call.layer))
        if is_replaced or _versions_of(self.parameters) != self.parameter_versions:
            raise RuntimeError(
                f"{self.policy.method}: the {self.policy.parameters} of {self._label()} changed since its forward "
                f"pass; {self.policy.advice}"
            )

    def check_tensors(self) -> None:
        """Raise if what the layer took in or gave out, or a gradient that arrived there, was changed in place."""
        if self._gradients_have_changed():
            raise RuntimeError(
                f"{self.policy.method}: the gradient that arrived at the output of {self._label()} was changed in "
                f"place since (its memory is that of some .grad, which was clipped or scaled); do that after the call, "
                f"or hand on a copy of the output: output * 1"
            )
        if self.is_stale():
            raise RuntimeError(
                f"{self.policy.method}: the input, initial state or output of {self._label()} was changed in place "
                f"since its forward pass, so its states are lost; use the out-of-place operation (no inplace=True), or "
                f"give it a copy"
            )

    def is_stale(self) -> bool:
        """Whether what the layer took in or gave out, or a gradient that arrived there, was changed in place."""
        return self._gradients_have_changed() or _versions_of(self.call.tensors()) != self.versions

    def _gradients_have_changed(self) -> bool:
        return any(self.passes[number].have_changed() for number in self.counted if number in self.passes)

    def count(self, passes: Iterable[int], *, landed: bool) -> bool:
        """Let the call's gradients be the sum of those of some backward passes; False if none of them came by."""
        self.call.gradients, self.landed = {}, landed
        self.counted = list(passes)
        for number in self.counted:
            for name, gradient in self.passes.get(number, {}).items():
                add(self.call.gradients, name, gradient)
        return bool(self.call.gradients)

    def trace(self, examples: Sequence[int] | None) -> Trace:
        """The call replayed, with what was read of its counted passes.

        Args:
            examples: positions in the batch: those that were read, or any if all were; None: all.
        """
        if self.reading is None:
            return Trace(self.call, examples)
        return Trace(self.call, examples, self.reading.of(self.counted, examples), self.reading.saved.of(examples))

    def descend(
        self, examples: Sequence[int] | None
    ) -> Iterator[tuple[tuple[int, int], Unrolled, Iterator[Block], dict[str, Tensor]]]:
        """(layer, direction), its steps, their blocks against its direction, and the last states that the layer gave.

        From the top layer down; the blocks of each must be run through.

        Args:
            examples: positions in the batch: those that were read, or any if all were; None: all.
        """
        return self.through(self.trace(examples))

    def through(self, trace: Trace) -> Iterator[tuple[tuple[int, int], Unrolled, Iterator[Block], dict[str, Tensor]]]:
        """The same of a trace of the call."""
        for (layer, direction), blocks in descend(trace, self.call.gradients):
            yield (layer, direction), trace[layer, direction], blocks, _finals(trace, layer, direction)

    def _label(self) -> str:
        called = self.policy.called(self.name, self.call.layer)
        return repr(called) if self.policy.by_name else f"the {called}"


@dataclass(eq=False, slots=True)
class Since:
    """What was seen since the last take.

    Attributes:
        reached: by their order, the calls that gradients have reached.
        passes: number of each backward pass that reached some -> their orders.
        ran_before: number of each of these passes -> how many calls had run by then.
        landed: numbers of those that left gradients in ``.grad``, in order.
        ran: layers ran with gradients, and no gradient has arrived at any since.
        without: names of those that ran without gradients: frozen.
        again: names of those that ran during backward, with gradients: in reentrant checkpoints.
        bare: by name, those that ran a step at a time while nothing was to be recorded.
        marked: names of the states that a script marked.
        transformed: names of those that ran inside of torch.func.
        ran_at_all: names of those of which a call was seen.
        leaves: ids of the parameters whose ``.grad`` a backward pass led to.
        unseen: names of those whose parameters it led to, though no call of them was seen; known at the take.
    """

    reached: dict[int, "Seen | Chain"] = field(default_factory=dict)
    passes: dict[int, set[int]] = field(default_factory=dict)
    ran_before: dict[int, int] = field(default_factory=dict)
    landed: dict[int, None] = field(default_factory=dict)
    ran: bool = False
    without: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    bare: dict[str, Chain] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)
    transformed: set[str] = field(default_factory=set)
    ran_at_all: set[str] = field(default_factory=set)
    leaves: set[int] = field(default_factory=set)
    unseen: list[str] = field(default_factory=list)

    def calls(self, *, only_last: bool) -> "list[Seen | Chain]":
        """Those that gradients have reached, in the order in which they ran, each with the gradients that count.

        Backward passes on one graph that all end in ``.grad`` are summed, as there. Where none does, the script sets
        ``.grad`` itself, and the last one counts.

        Args:
            only_last: only the last one, and those that belong to it (no accumulated gradients).
        """
        landed = [number for number in self.landed if number in self.passes]
        counted = landed or list(self.passes)[-1:]
        if only_last:
            counted = [number for number in counted if self.belong_together(number, counted[-1])]
        return [seen for _, seen in sorted(self.reached.items()) if seen.count(counted, landed=bool(landed))]

    def belong_together(self, one: int, other: int) -> bool:
        """Whether no forward pass lies between two backward passes, or they went through the same graph."""
        return self.ran_before[one] == self.ran_before[other] or bool(self.passes[one] & self.passes[other])

    def leave_only(self, number: int) -> None:
        """Let go of all backward passes, and of the calls that they reached, that do not belong to one."""
        kept = [other for other in self.passes if number in self.passes and self.belong_together(other, number)]
        self.passes = {other: self.passes[other] for other in kept}
        self.reached = {order: seen for order, seen in self.reached.items() if not seen.passes.keys().isdisjoint(kept)}


def _finals(trace: Trace, layer: int, direction: int) -> dict[str, Tensor]:
    """State name -> [B, H], the last states as the layer gave them; none where they are those past the padding."""
    call = trace.call
    if not call.packed and call.example_lengths is not None:
        return {}
    row = layer * (2 if call.layer.bidirectional else 1) + direction
    return {
        name.removesuffix("_n"): trace.pick(call.state_major(final))[row]
        for name, final in zip(call.final_names, call.finals, strict=True)
    }


def _parameters(layer: Any) -> list[Tensor]:
    """All parameters of a layer, those behind a parametrization too."""
    if isinstance(layer, SteppedCell) or layer._modules:  # "parametrizations", or a cell of the user's own
        return list(layer.parameters())
    return cast(list[Tensor], list(layer._parameters.values()))


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


def _versions_of(tensors: Iterable[Tensor]) -> list[int]:
    """How often each tensor was changed in place."""
    return [tensor._version for tensor in tensors]


def _call_of(called: str, layer: Any, args: tuple, kwargs: dict, output: Any, dropout: Dropout | None) -> LayerCall:
    """What a forward hook of a recurrent layer was told, as a call."""
    x = args[0] if args else kwargs["input"]
    check_given(called, layer, x, output)
    finals = output[1] if isinstance(output[1], tuple) else (output[1],)
    hx = args[1] if len(args) > 1 else kwargs.get("hx")
    return LayerCall(layer, x, hx, output[0], finals, dropout=dropout)


def _is_hooked(layer: nn.Module) -> bool:
    """Whether a hook of the script may replace what a layer of torch gives."""
    return isinstance(layer, nn.RNNBase) and not all(isinstance(hook, Hook) for hook in layer._forward_hooks.values())


def _outlived(hook: Callable[..., None]) -> Callable[..., None]:
    """A method of a watcher that runs within the script's forward pass, which only a refusal may stop."""

    @wraps(hook)
    def outlived(watcher: "Watcher[Any]", *args: Any, **kwargs: Any) -> None:
        try:
            hook(watcher, *args, **kwargs)
        except (NotImplementedError, TypeError, ValueError):
            raise
        except Exception as error:
            if watcher.meets is None:
                raise
            watcher.meets("what was to be seen in the forward pass", error)

    return outlived


class Watcher(Generic[Taken]):
    """Sees the calls of recurrent layers, and the gradients that reach them, while it is entered.

    Forward passes that no gradient reaches (an evaluation without ``torch.no_grad``) leave no trace.

    Args:
        layers: name -> layer, of those that can be replayed, or a cell that a script calls step by step.
        policy: what counts, and what :meth:`take` gives.
        model: what the script calls; each of its forward passes begins the numbers of calls anew. None: nobody asks.
        leaves: the parameters to whose ``.grad`` a backward pass must lead to count; those of the layers are added.
        marks: names of the states that :func:`mark` tells of.

    Attributes:
        open: whether calls are seen; compiled code may go on calling hooks that were removed.
        examples: of how many examples the gradients at the steps are read from the backward passes to come, where they
            are in the graph; "all", or None: of none.
        added: is asked to follow the weights of each call; None: nobody is.
        meets: told what is missing and the error, if something else than a refusal goes wrong in a forward pass; None:
            it is raised.
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        policy: Policy[Taken],
        model: nn.Module | None = None,
        leaves: Iterable[Tensor] = (),
        marks: Iterable[str] = (),
    ):
        self._layers, self._policy, self._model, self._leaves = layers, policy, model, leaves
        self._marks = {name: Marked(name) for name in marks}
        self._expected = set(self._marks)  # until the first take
        self._joiner = Joiner(policy, self._brings)
        self._handles: list[Any] = []
        self._followed: dict[int, Tensor] = {}  # leaves with a hook, by id; held, so that an id stays theirs
        self.open = False
        self.examples: int | str | None = None
        self.added: Added | None = None
        self.meets: Callable[[str, Exception], None] | None = None
        self._order = 0
        self._dropout: dict[str, Dropout | None] = {}  # of the forward pass that runs
        self._own = {name: _parameters(layer) for name, layer in layers.items()}
        self._warned: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._since = Since()
        self._joiner.forget()
        self._pass = Pass(whole=False)

    def __enter__(self) -> Self:
        leave_hooks_behind(self._hooked())
        for name, layer in self._layers.items():
            if isinstance(layer, SteppedCell):
                stepped = Hook(partial(self._stepped, name, layer))
                self._handles.append(layer.cell.register_forward_hook(stepped, with_kwargs=True))
                continue
            if has_own_forward(layer) or _is_hooked(layer):
                self._look_inside(name, cast(nn.RNNBase, layer))
                continue
            if cast(int, layer.num_layers) > 1:
                before = Hook(partial(self._about_to_run, name))
                self._handles.append(layer.register_forward_pre_hook(before))
            self._handles.append(layer.register_forward_hook(Hook(partial(self._saw, name)), with_kwargs=True))
        if self._model is not None and unwrapped(self._model) not in self._layers.values():
            self._handles.append(self._model.register_forward_pre_hook(Hook(self._begins)))
        self._follow(self._leaves)
        self.open = True
        if self._marks:
            _OPEN.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.open = False
        if self in _OPEN:
            _OPEN.remove(self)
        for handle in self._handles:
            handle.remove()
        if self._handles:
            copy_as_ever(self._hooked())
        self._handles.clear()
        self._followed.clear()
        self._forget()

    def _hooked(self) -> list[nn.Module]:
        layers = [layer.cell if isinstance(layer, SteppedCell) else layer for layer in self._layers.values()]
        return [*layers, *([] if self._model is None else [self._model])]

    @property
    def names(self) -> list[str]:
        """Of the layers and of the marked states."""
        return [*self._layers, *self._marks]

    @property
    def replaced(self) -> list[str]:
        """Names of the layers that are no longer in the model."""
        if self._model is None:
            return []
        there = set(map(id, unwrapped(self._model).modules()))
        return [
            name
            for name, layer in self._layers.items()
            if id(layer.cell if isinstance(layer, SteppedCell) else layer) not in there
        ]

    @property
    def has_seen(self) -> bool:
        """Whether there is something to take: a gradient has arrived since the last time, or a checkpoint hides it."""
        since = self._since
        return bool(since.reached or since.again or (since.bare and since.landed))

    def take(self) -> Taken:
        """What the policy hands out of what was seen since the last time; it is forgotten here."""
        since = self._since
        self._forget()
        self._warn_of_unseen(since)
        missing, self._expected = self._expected - since.marked, set()
        if missing:
            raise RuntimeError(
                f"{self._policy.method}: nothing was marked as {min(missing)!r}, which states= names; marked were: "
                f"{', '.join(map(repr, sorted(since.marked))) or 'none'}; mark it in the loop of the step: "
                f"h = gf.mark({min(missing)!r}, h)"
            )
        return self._policy.hand_out(since, {**self._layers, **self._marks} if self.open else ())

    def _warn_of_unseen(self, since: Since) -> None:
        """Say once of which layers the gradients came and the calls were not seen, unless nothing else is there."""
        seen = since.ran_at_all | {call.name for call in since.reached.values()}
        if len(seen) < len(self._layers):
            shared = {id(p) for name in seen & self._layers.keys() for p in self._layers[name].parameters()}
            for name in self._layers.keys() - seen:
                own = {id(p) for p in self._layers[name].parameters() if p.requires_grad} - shared
                if own and own <= since.leaves:
                    since.unseen.append(name)
        reasons = dict.fromkeys(since.unseen, UNSEEN) | dict.fromkeys(since.transformed, TRANSFORMED)
        for name, why in reasons.items():
            if seen and name not in self._warned:
                self._warned.add(name)
                log.warning("%r is not recorded: %s", self._policy.called(name, self._layers[name]), why)

    def _look_inside(self, name: str, layer: nn.RNNBase) -> None:
        inside = Inside(layer, self._policy.called(name, layer), partial(self._note, name))
        self._handles += [
            layer.register_forward_pre_hook(Hook(inside.enter)),
            layer.register_forward_hook(Hook(inside.leave), always_call=True),
            inside,
        ]

    def _begins(self, model: nn.Module, args: tuple) -> None:
        self._pass = Pass(whole=True)

    def _about_to_run(self, name: str, layer: nn.Module, args: tuple) -> None:
        if self.open and torch.is_grad_enabled():
            self._dropout[name] = active_dropout(layer, self._policy.called(name, layer))

    @_outlived
    def _saw(self, name: str, layer: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
        if not self.open or not torch.is_grad_enabled():
            return
        if self._policy.joins and self.examples is None and one_step(layer, args[0] if args else kwargs["input"]):
            self._passes_by(name, layer)
            return
        called = self._policy.called(name, layer)
        self._note(name, _call_of(called, layer, args, kwargs, output, self._dropout.get(name)))

    @_outlived
    def _note(self, name: str, call: LayerCall) -> None:
        """See a call that has just run."""
        if not self.open or not torch.is_grad_enabled():
            return
        if is_of_many_passes(call.finals[0]):
            self._since.transformed.add(name)
            return
        self._since.ran_at_all.add(name)
        if self._policy.only_last and torch._C._current_graph_task_id() >= 0:  # a checkpoint, inside backward
            watch(call, partial(self._runs_again, name))
            return
        if self._policy.joins and one_step(call.layer, call.x):
            if self.examples is None:
                self._passes_by(name, call.layer)
            else:
                outputs: dict[str, Any] = dict(
                    zip(("output", *cell_class(call.layer).state_names), (call.output, *call.finals), strict=True)
                )
                self._joins(name, call.layer, call.x, call.hx, outputs, call.dropout, call.weights)
            return
        seen = self._seen(name, call)
        seen.own = self._own[name]
        self._follow(seen.parameters)
        if self.added is not None:
            self.added.follow(call)
        self._ran(name, trained=bool(watch(call, partial(self._arrives, seen))))
        if self._policy.joins and not call.layer.bidirectional and not call.packed:
            seen.follows = self._joiner.whole(seen)
        call.detach()
        seen.versions = _versions_of(call.tensors())

    @_outlived
    def _stepped(self, name: str, layer: Any, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """One step of a cell, or of a layer with T = 1; nothing is kept of it unless it is to be recorded."""
        if not self.open or not torch.is_grad_enabled():
            return
        if self.examples is None:
            self._passes_by(name, layer)
            return
        x, state, outputs = cell_given(self._policy.called(name, module), layer, args, kwargs, output)
        if is_of_many_passes(next(iter(outputs.values()))):
            self._since.transformed.add(name)
        elif torch._C._current_graph_task_id() >= 0:  # a checkpoint, inside backward
            keep_gradients({}, outputs, lambda number: self._since.again.add(name), lambda: None)
        else:
            self._joins(name, layer, x, state, outputs, None, dict(layer.named_parameters()))

    def _passes_by(self, name: str, layer: Any) -> None:
        """A step that is not to be recorded; only the weights of the module are known."""
        since = self._since
        if name not in since.bare:
            since.ran_at_all.add(name)
            since.bare[name] = self._joiner.bare(name, layer, self._pass)
            since.bare[name].own = self._own.get(name, [])

    def _joins(
        self,
        name: str,
        layer: Any,
        x: Any,
        entering: Any,
        outputs: dict[str, Tensor],
        dropout: Dropout | None,
        weights: Mapping[str, Tensor],
    ) -> None:
        """A step that is to be recorded."""
        self._since.ran_at_all.add(name)
        begin = partial(self._begin, name)
        chain, trained = self._joiner.step(name, layer, x, entering, outputs, dropout, weights, begin)
        if chain.length == 1:
            chain.own = self._own[name]
            self._follow(chain.parameters)
            if self.added is not None:
                self.added.follow(chain.call)
        self._ran(name, trained=trained)

    @_outlived
    def mark(
        self,
        name: str,
        states: tuple[Tensor, ...],
        step: Callable[..., Any] | None,
        previous: tuple[Tensor, ...],
    ) -> None:
        """See :func:`mark`."""
        if self.open:
            self._since.marked.add(name)
        layer = self._marks.get(name)
        if layer is None or not self.open or not torch.is_grad_enabled():
            return
        layer.takes(len(states), knows_step=step is not None)
        if self.examples is None:
            self._passes_by(name, layer)
        elif torch._C._current_graph_task_id() < 0:
            self.open = False  # a step that is done again may run modules that are watched
            try:
                _, trained = self._joiner.mark(layer, states, step, previous, self.examples, partial(self._begin, name))
            finally:
                self.open = True
            self._ran(name, trained=trained)

    def _ran(self, name: str, *, trained: bool) -> None:
        self._since.ran = True
        if not trained:
            self._since.without.add(name)

    def _begin(self, name: str) -> tuple[Pass, int, int]:
        """The pass, the place and the order of a call that begins."""
        within = self._pass
        place = within.calls.get(name, 0)
        within.calls[name] = place + 1
        self._order += 1
        return within, place, self._order

    def _seen(self, name: str, call: LayerCall) -> Seen:
        within, place, order = self._begin(name)
        parameters = _parameters(call.layer)
        reading = None if self.examples is None else read(call, chosen(call.batch_size, self.examples))
        return Seen(
            name,
            call,
            self._policy,
            within,
            place,
            order,
            {},
            reading,
            [],  # once the call is detached
            parameters,
            _versions_of(parameters),
        )

    def _follow(self, leaves: Iterable[Tensor]) -> None:
        for leaf in leaves:
            if leaf.requires_grad and leaf.is_leaf and id(leaf) not in self._followed:
                self._followed[id(leaf)] = leaf
                self._handles.append(leaf.register_post_accumulate_grad_hook(self._lands))

    def _lands(self, leaf: Tensor) -> None:
        self._since.landed[torch._C._current_graph_task_id()] = None
        self._since.leaves.add(id(leaf))

    def _runs_again(self, name: str) -> dict[str, Tensor]:
        self._since.again.add(name)
        return {}

    def _arrives(self, seen: Seen) -> dict[str, Tensor]:
        """Where the backward pass that runs leaves what it brings to a call."""
        number = torch._C._current_graph_task_id()
        self._brings(seen, number)
        return seen.passes.setdefault(number, Arrived())

    def _brings(self, seen: Seen | Chain, number: int) -> None:
        """A backward pass brings gradients to a call."""
        since = self._since
        since.ran = False
        since.reached[seen.order] = seen
        if number not in since.passes:
            if self._policy.only_last and len(since.passes) == _KEPT_PASSES and since.landed:
                since.leave_only(list(since.landed)[-1])
            since.passes[number], since.ran_before[number] = set(), self._order
            if since.landed and _nothing_in(seen.parameters):  # zero_grad since the passes before
                since.landed.clear()
        since.passes[number].add(seen.order)


_OPEN: list[Watcher[Any]] = []  # those that may be told of marked states


def mark(
    name: str,
    *states: Tensor,
    step: Callable[..., Any] | None = None,
    previous: Tensor | Sequence[Tensor] | None = None,
) -> Any:
    """Mark the state of a step of your own, in its loop: ``h = gf.mark("h", h)``; the recorder then sees its gradients.

    Where no recorder was asked for a state of that name (``gf.record(..., states=["h"])``), nothing happens, so the
    line may stay. A state that descends from the one marked before goes on with its sequence; another one begins the
    next. Recorded is the total gradient, exactly; with `step` also norms of the Jacobian, of 4 examples. Of several
    states of which one is made of another one of the same step, as h of an LSTM is of c, what arrives at each alone is
    told apart with `step`; without it only the total of the first is known, and the others are NaN.

    Args:
        name: as it was told to :func:`gradflow.record`.
        *states: [B, H] each, or [H]: as they leave the step and enter the next one.
        step: makes `states` of `previous`, whole batches: its Jacobian is found by automatic differentiation at
            recorded iterations, where each example is taken by itself. It must have no effect beside.
        previous: the states that entered, together with `step`.

    Returns:
        The state, or the tuple of states, as it was given.

    Raises:
        TypeError: for states that are no tensors.
        ValueError: for other shapes, one of `step` and `previous` without the other, or a step that gives something
            else.

    >>> h = torch.zeros(4, 3)
    >>> for x_t in torch.ones(5, 4, 3):
    ...     h = mark("h", torch.tanh(x_t + h), step=lambda before, x_t=x_t: torch.tanh(x_t + before), previous=h)
    """
    require(isinstance(name, str) and name != "", "name", "the name of a state, as states= of gradflow.record", name)
    if not states or not all(isinstance(state, Tensor) for state in states):
        raise TypeError(f"mark: expected one or more tensors after the name, got {[type(s).__name__ for s in states]}")
    if any(state.dim() not in (1, 2) or state.shape != states[0].shape for state in states):
        raise ValueError(
            f"mark: expected states of one shape, [B, H] or [H], got {[tuple(state.shape) for state in states]}"
        )
    if (step is None) != (previous is None):
        raise ValueError("mark: expected step and previous together (step makes the states of the previous ones)")
    require(step is None or callable(step), "step", "a function that makes the states of the previous ones", step)
    if not isinstance(previous, Tensor | Sequence | None) or (
        isinstance(previous, Sequence) and not all(isinstance(state, Tensor) for state in previous)
    ):
        raise TypeError(f"previous: expected the states that entered the step, got {shown(previous)}")
    before = () if previous is None else (previous,) if isinstance(previous, Tensor) else tuple(previous)
    if step is not None and [part.shape for part in before] != [state.shape for state in states]:
        raise ValueError(
            f"mark: expected previous to be {len(states)} of shape {tuple(states[0].shape)}, as the states, got "
            f"{[tuple(part.shape) for part in before]}"
        )
    for watcher in list(_OPEN):
        watcher.mark(name, states, step, before)
    return states[0] if len(states) == 1 else states


_KEPT_PASSES = 8  # of micro-batches, or of a script that never takes: their calls hold memory


def _nothing_in(parameters: Iterable[Tensor]) -> bool:
    """Whether no trained parameter has a gradient."""
    trained = [parameter.grad for parameter in parameters if parameter.requires_grad]
    return bool(trained) and all(gradient is None or not bool(gradient.any()) for gradient in trained)
