"""What was seen since the last time that somebody asked: calls, passes, and which of them count by which policy."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from torch import Tensor, nn

from gradflow.flow.adjoint import descend
from gradflow.flow.between import Between
from gradflow.flow.calls import LayerCall, add
from gradflow.flow.joining import Chain
from gradflow.flow.parameters import have_changed, versions_of
from gradflow.flow.reading import Reading
from gradflow.flow.recursion import Descent, Run, recur
from gradflow.flow.replay import Trace
from gradflow.flow.stepping import Arrived

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

    def changed(self, label: str) -> RuntimeError:
        """The error about a layer whose parameters changed since its forward pass."""
        return RuntimeError(
            f"{self.method}: the {self.parameters} of {label} changed since its forward pass; {self.advice}"
        )

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
    is_hooked: bool = False  # a hook of the script changed the gradient of one of its last states
    is_shared: bool = False  # several calls go on from its last states

    def check_parameters(self) -> None:
        """Raise if the layer's parameters were changed or replaced since the forward pass."""
        if have_changed(self.parameters, self.parameter_versions, self.own, self.call.layer):
            raise self.policy.changed(self._label())

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
        return self._gradients_have_changed() or versions_of(self.call.tensors()) != self.versions

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

    def descend(self, examples: Sequence[int] | None, run: Run = recur) -> Descent:
        """(layer, direction), its steps, their blocks against its direction, and the last states that the layer gave.

        From the top layer down; the blocks of each must be run through.

        Args:
            examples: positions in the batch: those that were read, or any if all were; None: all.
            run: the recursion of one layer and direction.
        """
        return self.through(self.trace(examples), run)

    def descend_whole(self) -> Descent:
        """The same of all that ran: of all examples, and of a padded tensor through its padding."""
        return self.through(self.trace(None).whole)

    def through(self, trace: Trace, run: Run = recur) -> Descent:
        """The same of a trace of the call."""
        for (layer, direction), blocks in descend(trace, self.call.gradients, run):
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
        leaves: id of each parameter to whose ``.grad`` a backward pass led -> number of the last one that did, how
            often that gradient had been changed in place by then, and whether anything was in it; None: nobody asked.
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
    leaves: dict[int, tuple[int, int, Tensor | None]] = field(default_factory=dict)
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
        if only_last and len(counted) > 1:
            counted = [number for number in counted if self.belong_together(number, counted[-1])]
        in_order = sorted(self.reached) if len(self.reached) > 1 else self.reached
        return [self.reached[n] for n in in_order if self.reached[n].count(counted, landed=bool(landed))]

    def belong_together(self, one: int, other: int) -> bool:
        """Whether no forward pass lies between two backward passes, or they went through the same graph."""
        return self.ran_before[one] == self.ran_before[other] or bool(self.passes[one] & self.passes[other])

    def were_zeroed(
        self, parameters: Iterable[Tensor], before: Collection[int], followed: Mapping[int, Tensor]
    ) -> bool:
        """Whether what earlier passes left in ``.grad`` is gone.

        The parameters of the call that a pass has reached say so, if the earlier ones led there; if not (frozen, a
        marked state, computed weights), or if only zeros came, all to which this pass has yet to come.

        Args:
            parameters: of the call.
            before: numbers of the earlier passes.
            followed: id -> parameter.
        """
        gone = {
            leaf: _is_gone(followed[leaf].grad, version, some)
            for leaf, (last, version, some) in self.leaves.items()
            if last in before
        }
        for asked in (gone.keys() & set(map(id, parameters)), gone.keys()):
            told = [gone[leaf] for leaf in asked if gone[leaf] is not None]
            if told:
                return all(told)
        return False

    def leave_only(self, number: int) -> None:
        """Let go of all backward passes, and of the calls that they reached, that do not belong to one."""
        kept = [other for other in self.passes if number in self.passes and self.belong_together(other, number)]
        self.passes = {other: self.passes[other] for other in kept}
        self.reached = {order: seen for order, seen in self.reached.items() if not seen.passes.keys().isdisjoint(kept)}


def _is_gone(gradient: Tensor | None, version: int, some: Tensor | None) -> bool | None:
    """Whether a gradient was taken away or set to zero; None: it has always been zero, or nobody knows.

    Args:
        gradient: as it is now.
        version: as it was when it came.
        some: whether it was other than zero then (``.data.zero_()`` leaves the version alone); None: nobody asked.
    """
    if gradient is None:
        return True
    if bool(gradient.any()):
        return False
    return True if gradient._version != version or (some is not None and bool(some)) else None


def _finals(trace: Trace, layer: int, direction: int) -> dict[str, Tensor]:
    """State name -> [B, H], the last states as the layer gave them; none where they are those past the padding."""
    call = trace.call
    if not call.packed and trace[layer, direction].lengths is not None:
        return {}
    row = layer * (2 if call.layer.bidirectional else 1) + direction
    return {
        name.removesuffix("_n"): trace.pick(call.state_major(final))[row]
        for name, final in zip(call.final_names, call.finals, strict=True)
    }
