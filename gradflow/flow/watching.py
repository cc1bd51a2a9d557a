"""Forward hooks on the recurrent layers of a model: which calls backward passes have reached.

A backward pass counts if it leaves gradients in ``.grad``: what ``torch.autograd.grad`` asks on the side (a Jacobian, a
gradient penalty) is told apart by its number. Of what is seen, a policy hands out its part:
:class:`gradflow.recording.last_backward.LastBackward` for the log, :class:`gradflow.flow.backward.EveryBackward` for
remedies. torch's fused kernels stay as they are, and nothing is held that would keep a graph alive: a call waits in the
hooks of its own outputs, so that a forward pass without backward goes when the script lets go of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import is_
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from gradflow.flow.added import Added
from gradflow.flow.calls import LayerCall, add, check_given, chosen, watch, weights_known
from gradflow.flow.copying import Hook, copy_as_ever, leave_hooks_behind
from gradflow.flow.dropout import Dropout, active_dropout
from gradflow.flow.finding import unwrapped
from gradflow.flow.reading import Reading, read
from gradflow.flow.replay import Trace

Taken = TypeVar("Taken")


class Policy(ABC, Generic[Taken]):
    """What differs between those who watch: which calls count, how they are handed out, and the words of errors.

    Attributes:
        only_last: of several backward passes between two takes the last one counts, and those on its graph or without a
            forward pass between; otherwise all.
        by_name: errors name a layer by its dotted name; otherwise by its class.
        method: what the script calls; the beginning of each error.
        parameters: what errors call the parameters of a layer.
        advice: against parameters that have changed.
    """

    only_last: ClassVar[bool]
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


class Arrived(dict[str, Tensor]):
    """Gradients by name, and whether they are still what they were: autograd may have given their memory to others."""

    def __init__(self) -> None:
        super().__init__()
        self._versions: dict[str, int] = {}

    def __setitem__(self, name: str, gradient: Tensor) -> None:
        super().__setitem__(name, gradient)
        self._versions[name] = gradient._version

    def have_changed(self) -> bool:
        """Whether one was changed in place since."""
        return any(gradient._version != self._versions[name] for name, gradient in self.items())


@dataclass(eq=False, slots=True)
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

    def check_parameters(self) -> None:
        """Raise if the layer's parameters were changed or replaced since the forward pass."""
        now = _parameters(self.call.layer)
        is_same = len(now) == len(self.parameters) and all(map(is_, now, self.parameters))
        if not is_same or _versions_of(now) != self.parameter_versions:
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
    """

    reached: dict[int, Seen] = field(default_factory=dict)
    passes: dict[int, set[int]] = field(default_factory=dict)
    ran_before: dict[int, int] = field(default_factory=dict)
    landed: dict[int, None] = field(default_factory=dict)
    ran: bool = False
    without: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)

    def calls(self, *, only_last: bool) -> list[Seen]:
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


def _parameters(layer: nn.Module) -> list[Tensor]:
    """All parameters of a layer, those behind a parametrization too."""
    if layer._modules:  # "parametrizations", or a cell of the user's own
        return list(layer.parameters())
    return cast(list[Tensor], list(layer._parameters.values()))


def _versions_of(tensors: Iterable[Tensor]) -> list[int]:
    """How often each tensor was changed in place."""
    return [tensor._version for tensor in tensors]


def _weights(layer: Any) -> dict[str, Tensor]:
    """What the layer's forward pass has just computed with (of torch's layers also where that is no parameter)."""
    if isinstance(layer, nn.RNNBase) and list(layer._parameters) != layer._flat_weights_names:
        return dict(zip(layer._flat_weights_names, cast(list[Tensor], layer._flat_weights), strict=True))
    return dict(layer._parameters) if weights_known(layer) else dict(layer.named_parameters())


def _call_of(called: str, layer: Any, args: tuple, kwargs: dict, output: Any, dropout: Dropout | None) -> LayerCall:
    """What a forward hook of a recurrent layer was told, as a call."""
    x = args[0] if args else kwargs["input"]
    check_given(called, layer, x, output)
    finals = output[1] if isinstance(output[1], tuple) else (output[1],)
    hx = args[1] if len(args) > 1 else kwargs.get("hx")
    hx = tuple(hx) if isinstance(hx, list) else hx
    return LayerCall(layer, x, hx, output[0], finals, dropout=dropout, weights=_weights(layer))


class Watcher(Generic[Taken]):
    """Sees the calls of recurrent layers, and the gradients that reach them, while it is entered.

    Forward passes that no gradient reaches (an evaluation without ``torch.no_grad``) leave no trace.

    Args:
        layers: name -> layer, of those that can be replayed.
        policy: what counts, and what :meth:`take` gives.
        model: what the script calls; each of its forward passes begins the numbers of calls anew. None: nobody asks.
        leaves: the parameters to whose ``.grad`` a backward pass must lead to count; those of the layers are added.

    Attributes:
        open: whether calls are seen; compiled code may go on calling hooks that were removed.
        examples: of how many examples the gradients at the steps are read from the backward passes to come, where they
            are in the graph; "all", or None: of none.
        added: is asked to follow the weights of each call; None: nobody is.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        policy: Policy[Taken],
        model: nn.Module | None = None,
        leaves: Iterable[Tensor] = (),
    ):
        self._layers, self._policy, self._model, self._leaves = layers, policy, model, leaves
        self._handles: list[Any] = []
        self._followed: dict[int, Tensor] = {}  # leaves with a hook, by id; held, so that an id stays theirs
        self.open = False
        self.examples: int | str | None = None
        self.added: Added | None = None
        self._order = 0
        self._dropout: dict[str, Dropout | None] = {}  # of the forward pass that runs
        self._forget()

    def _forget(self) -> None:
        self._since = Since()
        self._pass = Pass(whole=False)

    def __enter__(self) -> Self:
        leave_hooks_behind(self._hooked())
        for name, layer in self._layers.items():
            if cast(int, layer.num_layers) > 1:
                before = Hook(partial(self._about_to_run, name))
                self._handles.append(layer.register_forward_pre_hook(before))
            self._handles.append(layer.register_forward_hook(Hook(partial(self._saw, name)), with_kwargs=True))
        if self._model is not None and unwrapped(self._model) not in self._layers.values():
            self._handles.append(self._model.register_forward_pre_hook(Hook(self._begins)))
        self._follow(self._leaves)
        self.open = True
        return self

    def __exit__(self, *error: object) -> None:
        self.open = False
        for handle in self._handles:
            handle.remove()
        if self._handles:
            copy_as_ever(self._hooked())
        self._handles.clear()
        self._followed.clear()
        self._forget()

    def _hooked(self) -> list[nn.Module]:
        return [*self._layers.values(), *([] if self._model is None else [self._model])]

    @property
    def has_seen(self) -> bool:
        """Whether there is something to take: a gradient has arrived since the last time, or a checkpoint hides it."""
        return bool(self._since.reached or self._since.again)

    def take(self) -> Taken:
        """What the policy hands out of what was seen since the last time; it is forgotten here."""
        since = self._since
        self._forget()
        return self._policy.hand_out(since, self._layers if self.open else ())

    def _begins(self, model: nn.Module, args: tuple) -> None:
        self._pass = Pass(whole=True)

    def _about_to_run(self, name: str, layer: nn.Module, args: tuple) -> None:
        if self.open and torch.is_grad_enabled():
            self._dropout[name] = active_dropout(layer, self._policy.called(name, layer))

    def _saw(self, name: str, layer: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
        if not self.open or not torch.is_grad_enabled():
            return
        called = self._policy.called(name, layer)
        call = _call_of(called, layer, args, kwargs, output, self._dropout.get(name))
        if self._policy.only_last and torch._C._current_graph_task_id() >= 0:  # a checkpoint, inside backward
            watch(call, partial(self._runs_again, name))
            return
        seen = self._seen(name, call)
        self._follow(seen.parameters)
        if self.added is not None:
            self.added.follow(call)
        self._since.ran = True
        if not watch(call, partial(self._arrives, seen)):
            self._since.without.add(name)
        call.detach()

    def _seen(self, name: str, call: LayerCall) -> Seen:
        within = self._pass
        place = within.calls.get(name, 0)
        within.calls[name] = place + 1
        self._order += 1
        parameters, versions = _parameters(call.layer), _versions_of(call.tensors())
        reading = None if self.examples is None else read(call, chosen(call.batch_size, self.examples))
        return Seen(
            name,
            call,
            self._policy,
            within,
            place,
            self._order,
            {},
            reading,
            versions,
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

    def _runs_again(self, name: str) -> dict[str, Tensor]:
        self._since.again.add(name)
        return {}

    def _arrives(self, seen: Seen) -> dict[str, Tensor]:
        """Where the backward pass that runs leaves what it brings to a call."""
        since, number = self._since, torch._C._current_graph_task_id()
        since.ran = False
        since.reached[seen.order] = seen
        if number not in since.passes:
            if self._policy.only_last and len(since.passes) == _KEPT_PASSES and since.landed:
                since.leave_only(list(since.landed)[-1])
            since.passes[number], since.ran_before[number] = set(), self._order
            if since.landed and _nothing_in(seen.parameters):  # zero_grad since the passes before
                since.landed.clear()
        since.passes[number].add(seen.order)
        return seen.passes.setdefault(number, Arrived())


_KEPT_PASSES = 8  # of micro-batches, or of a script that never takes: their calls hold memory


def _nothing_in(parameters: Iterable[Tensor]) -> bool:
    """Whether no trained parameter has a gradient."""
    trained = [parameter.grad for parameter in parameters if parameter.requires_grad]
    return bool(trained) and all(gradient is None or not bool(gradient.any()) for gradient in trained)
