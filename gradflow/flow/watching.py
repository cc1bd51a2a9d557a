"""Forward hooks on the recurrent layers of a model: which calls backward passes have reached.

A backward pass counts if it leaves gradients in ``.grad``: what ``torch.autograd.grad`` asks on the side (a Jacobian, a
gradient penalty) is told apart by its number. Of what is seen, a policy hands out its part:
:class:`gradflow.recording.last_backward.LastBackward` for the log, :class:`gradflow.flow.backward.EveryBackward` for
remedies. torch's fused kernels stay as they are, and nothing is held that would keep a graph alive: a call waits in the
hooks of its own outputs, so that a forward pass without backward goes when the script lets go of it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any, Generic, Self, cast

import torch
from torch import Tensor, nn

from gradflow.flow.added import Added
from gradflow.flow.calls import LayerCall, SteppedCell, cell_class, check_given, is_of_many_passes, watch, weights_of
from gradflow.flow.copying import Hook, copy_as_ever, leave_hooks_behind
from gradflow.flow.dropout import Dropout, active_dropout
from gradflow.flow.examples import chosen
from gradflow.flow.finding import unwrapped
from gradflow.flow.hooks import own_hooks
from gradflow.flow.joining import Chain, Joiner
from gradflow.flow.kernels import Inside, has_own_forward
from gradflow.flow.marking import OPEN
from gradflow.flow.parameters import parameters_of, versions_of
from gradflow.flow.reading import read
from gradflow.flow.seen import TRANSFORMED, UNSEEN, Pass, Policy, Seen, Since, Taken
from gradflow.flow.stepping import Arrived, Marked, Step, cell_given, keep_gradients, one_step

log = logging.getLogger(__name__)


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
            with own_hooks():
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
        names: of the layers and of the marked states.
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
        self.names = [*layers, *self._marks]
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
        self._own = {name: parameters_of(layer) for name, layer in layers.items()}
        self._warned: set[str] = set()
        self._lands_again = False  # several backward passes have ended in .grad between two takes
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
            OPEN.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.open = False
        if self in OPEN:
            OPEN.remove(self)
        for handle in self._handles:
            handle.remove()
        if self._handles:
            copy_as_ever(self._hooked())
        self._handles.clear()
        self._followed.clear()
        self._forget()

    def let_go(self) -> None:
        """Hold no layer and no parameter any more, once it has been left for the last time."""
        self._layers, self._leaves, self._model, self.added = {}, (), None, None
        self._own.clear()

    def _hooked(self) -> list[nn.Module]:
        layers = [layer.cell if isinstance(layer, SteppedCell) else layer for layer in self._layers.values()]
        return [*layers, *([] if self._model is None else [self._model])]

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
    def used_beside(self) -> set[int]:
        """Ids of the model's parameters that something else than a recurrence of a watched layer uses, as tied ones."""
        if self._model is None:
            return set()
        watched = {id(layer.cell if isinstance(layer, SteppedCell) else layer) for layer in self._layers.values()}
        return {
            id(parameter)
            for module in unwrapped(self._model).modules()
            for name, parameter in module._parameters.items()
            if parameter is not None and not (id(module) in watched and name.startswith("weight_hh"))
        }

    @property
    def has_seen(self) -> bool:
        """Whether there is something to take: a gradient has arrived since the last time, or a checkpoint hides it."""
        since = self._since
        return bool(since.reached or since.again or (since.bare and since.landed))

    def take(self) -> Taken:
        """What the policy hands out of what was seen since the last time; it is forgotten here."""
        since = self._since
        self._forget()
        if since.unseen or since.transformed or not self._layers.keys() <= since.ran_at_all:
            self._warn_of_unseen(since)
        missing, self._expected = self._expected and self._expected - since.marked, set()
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
                if own and own <= since.leaves.keys():
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
        is_step = self._policy.joins and one_step(layer, args[0] if args else kwargs["input"])
        if is_step and self.examples is None:
            self._passes_by(name, layer)
            return
        called = self._policy.called(name, layer)
        self._see(name, _call_of(called, layer, args, kwargs, output, self._dropout.get(name)), is_step=is_step)

    @_outlived
    def _note(self, name: str, call: LayerCall) -> None:
        """See a call that has just run inside of a layer."""
        if self.open and torch.is_grad_enabled():
            self._see(name, call, is_step=self._policy.joins and one_step(call.layer, call.x))

    def _see(self, name: str, call: LayerCall, *, is_step: bool) -> None:
        if is_of_many_passes(call.finals[0]):
            self._since.transformed.add(name)
            return
        self._since.ran_at_all.add(name)
        if self._policy.only_last and torch._C._current_graph_task_id() >= 0:  # a checkpoint, inside backward
            watch(call, partial(self._runs_again, name))
            return
        if is_step:
            if self.examples is None:
                self._passes_by(name, call.layer)
            else:
                outputs: dict[str, Any] = dict(
                    zip(("output", *cell_class(call.layer).state_names), (call.output, *call.finals), strict=True)
                )
                self._joins(name, call.layer, call.x, call.hx, outputs, call.dropout, lambda: call.weights)
            return
        seen = self._seen(name, call)
        seen.own = self._own[name]
        self._follow(seen.parameters)
        if self.added is not None:
            self.added.follow(call)
        self._ran(name, trained=bool(watch(call, partial(self._arrives, seen))))
        if self._policy.joins and not call.layer.bidirectional and not call.packed:
            seen.follows = self._joiner.whole(seen, is_recorded=self.examples is not None)
        call.detach()
        seen.versions = versions_of(call.tensors())

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
            keep_gradients(Step(0, None, (), (), None), outputs, lambda step, number: self._since.again.add(name))
        else:
            self._joins(name, layer, x, state, outputs, None, partial(weights_of, layer))

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
        weights: Callable[[], Mapping[str, Tensor]],
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
                _, trained = self._joiner.mark(layer, states, step, previous, partial(self._begin, name))
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
        parameters = parameters_of(call.layer)
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
            versions_of(parameters),
        )

    def _follow(self, leaves: Iterable[Tensor]) -> None:
        for leaf in leaves:
            if id(leaf) not in self._followed and leaf.requires_grad and leaf.is_leaf:
                self._followed[id(leaf)] = leaf
                self._handles.append(leaf.register_post_accumulate_grad_hook(self._lands))

    def _lands(self, leaf: Tensor) -> None:
        number, gradient = torch._C._current_graph_task_id(), leaf.grad
        self._since.landed[number] = None
        if gradient is None:
            self._since.leaves[id(leaf)] = number, 0, None
            return
        some = gradient.any() if self.examples is not None or self._lands_again else None
        self._since.leaves[id(leaf)] = number, gradient._version, some

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
            before = since.landed.keys() - {number}
            self._lands_again = self._lands_again or bool(before)
            if before and since.were_zeroed(seen.parameters, before, self._followed):
                since.landed = {other: None for other in since.landed if other == number}
        since.passes[number].add(seen.order)


_KEPT_PASSES = 8  # of micro-batches, or of a script that never takes: their calls hold memory
