"""Forward hooks on the recurrent layers of a model: which calls a backward pass has reached, and their numbers.

Nothing is held that would keep a graph alive: a call waits in the hooks of its own outputs, so that a forward pass
without backward goes when the script lets go of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, is_
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.parametrize import is_parametrized

from gradflow.cells.layers import RecurrentLayer
from gradflow.cells.recurrent import Recurrent
from gradflow.flow.calls import SUPPORTED, LayerCall, check_supported, watch
from gradflow.flow.dropout import Dropout, active_dropout

_WRAPPINGS = {"_orig_mod", "_checkpoint_wrapped_module"}  # of torch.compile and checkpoint_wrapper, inside a model


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's model inside DistributedDataParallel, DataParallel and torch.compile.

    Raises:
        NotImplementedError: for DataParallel on several devices, whose replicas live for one forward pass only.
    """
    if isinstance(model, DataParallel) and len(model.device_ids) > 1:
        raise NotImplementedError(
            "model: torch.nn.DataParallel on several devices makes new layers in every forward pass, which cannot be "
            "recorded; use torch.nn.parallel.DistributedDataParallel, and record in one of its processes"
        )
    is_parallel = isinstance(model, DataParallel | DistributedDataParallel)
    inner = model._modules.get("module" if is_parallel else "_orig_mod")
    return model if inner is None else unwrapped(inner)


def plain_name(name: str) -> str:
    """A dotted name without the parts that wrappers inside the model add.

    >>> plain_name("encoder._orig_mod.lstm")
    'encoder.lstm'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPINGS)


def recurrent_layers(model: nn.Module, modules: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """The recurrent layers of a model by their dotted names.

    Args:
        model: what the user calls; wrappers are looked through.
        modules: names to keep; None: all.

    Raises:
        ValueError: if there is none, or none of that name.
        NotImplementedError: for layers that cannot be replayed, by name.
    """
    named = unwrapped(model).named_modules()
    found: dict[str, nn.Module] = {plain_name(name): module for name, module in named if isinstance(module, SUPPORTED)}
    if not found:
        raise ValueError(
            f"model: expected a recurrent layer (torch.nn.RNN, LSTM, GRU, gradflow.LinearRNN, GRU, Recurrent) in "
            f"{type(unwrapped(model)).__name__}, found none; there would be nothing to record"
        )
    if isinstance(modules, str):
        raise ValueError(f"modules: expected a list of names, got the text {modules!r}; write [{modules!r}]")
    if modules is not None and not modules:
        raise ValueError(f"modules: expected at least one of {', '.join(found)}, got none; leave it out to record all")
    for name in modules or ():
        if name not in found:
            raise ValueError(f"modules: expected some of {', '.join(found)}, got {name!r}")
    chosen = found if modules is None else {name: found[name] for name in modules}
    for name, layer in chosen.items():
        check_supported(layer, name or type(layer).__name__)
        if isinstance(layer, RecurrentLayer) and (is_parametrized(layer) or "weight_hh_l0" not in layer._parameters):
            raise NotImplementedError(
                f"{name}: weight_norm, spectral_norm, pruning and other parametrizations of gradflow's own layers are "
                f"not supported; use torch.nn.RNN, LSTM or GRU, whose parametrizations are"
            )
    return chosen


class Pass:
    """One forward pass of the model: how often each module was called in it so far.

    Args:
        whole: the model itself was called. Otherwise its layers were called by the script, and nobody knows where a
            pass begins; then only those of its calls that gradients reach are numbered.
    """

    def __init__(self, whole: bool):
        self.whole = whole
        self.calls: dict[str, int] = {}


@dataclass(eq=False, slots=True)
class Seen:
    """A call of a module, with what tells its number and whether its tensors are still what they were."""

    name: str
    call: LayerCall
    within: Pass
    place: int  # among the calls of this module in its pass
    order: int
    versions: list[int]
    parameters: list[Tensor]
    parameter_versions: list[int]

    def check_parameters(self) -> None:
        """Raise if the layer's parameters were changed or replaced since the forward pass."""
        now = _parameters(self.call.layer)
        is_same = len(now) == len(self.parameters) and all(map(is_, now, self.parameters))
        if not is_same or versions_of(now) != self.parameter_versions:
            raise RuntimeError(
                f"step: the parameters of {self.name!r} changed since its forward pass; call recorder.step(...) before "
                f"optimizer.step()"
            )

    def check_tensors(self) -> None:
        """Raise if what the layer took in or gave out was changed in place."""
        if self.is_stale():
            raise RuntimeError(
                f"step: the input, initial state or output of {self.name!r} was changed in place since its forward "
                f"pass, so its states are lost; use the out-of-place operation (no inplace=True), or give it a copy"
            )

    def is_stale(self) -> bool:
        """Whether what the layer took in or gave out was changed in place."""
        return versions_of(self.call.tensors()) != self.versions


def _parameters(layer: nn.Module) -> list[Tensor]:
    """All parameters of a layer, those behind a parametrization too."""
    if layer._modules:  # "parametrizations", or a cell of the user's own
        return list(layer.parameters())
    return cast(list[Tensor], list(layer._parameters.values()))


def versions_of(tensors: Iterable[Tensor]) -> list[int]:
    """How often each tensor was changed in place."""
    return [tensor._version for tensor in tensors]


def _weights(layer: Any) -> dict[str, Tensor]:
    """What the layer's forward pass has just computed with (of torch's layers also where that is no parameter)."""
    if isinstance(layer, nn.RNNBase) and list(layer._parameters) != layer._flat_weights_names:
        return dict(zip(layer._flat_weights_names, cast(list[Tensor], layer._flat_weights), strict=True))
    return dict(layer.named_parameters()) if isinstance(layer, Recurrent) else dict(layer._parameters)


def call_of(layer: Any, args: tuple, kwargs: dict, output: tuple, dropout: Dropout | None) -> LayerCall:
    """What a forward hook of a recurrent layer was told, as a call."""
    finals = output[1] if isinstance(output[1], tuple) else (output[1],)
    x = args[0] if args else kwargs["input"]
    hx = args[1] if len(args) > 1 else kwargs.get("hx")
    hx = tuple(hx) if isinstance(hx, list) else hx
    return LayerCall(layer, x, hx, output[0], finals, dropout=dropout, weights=_weights(layer))


class Hook:
    """A hook on a module; in a copy of the module, pickled or deep, it does nothing."""

    def __init__(self, call: Callable[..., None]):
        self._call = torch.compiler.disable(call)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do what is hooked in."""
        self._call(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


class Watcher:
    """Sees the calls of recurrent layers while it is entered.

    Of several backward passes between two :meth:`take`, the last one counts: with accumulated gradients, the last
    micro-batch. Forward passes that no gradient reaches (an evaluation without ``torch.no_grad``) leave no trace.

    Args:
        model: what the script calls; each of its forward passes numbers the calls of a module from 0.
        layers: name -> layer.

    Attributes:
        open: whether calls are seen; compiled code may go on calling hooks that were removed.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module]):
        self._model, self._layers = model, layers
        self._handles: list[Any] = []
        self.open = False
        self._order = 0
        self._dropout: dict[str, Dropout | None] = {}  # of the forward pass that runs
        self._forget()

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            if cast(int, layer.num_layers) > 1:
                before = Hook(partial(self._about_to_run, name))
                self._handles.append(layer.register_forward_pre_hook(before))
            self._handles.append(layer.register_forward_hook(Hook(partial(self._saw, name)), with_kwargs=True))
        if unwrapped(self._model) not in self._layers.values():
            self._handles.append(self._model.register_forward_pre_hook(Hook(self._begins)))
        self.open = True
        return self

    def __exit__(self, *error: object) -> None:
        self.open = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forget()

    def _forget(self) -> None:
        self._arrived: dict[int, Seen] = {}
        self._pass = Pass(whole=False)
        self._ran = False
        self._ran_without: set[str] = set()  # gradients: frozen
        self._ran_again: set[str] = set()  # during backward, with gradients: reentrant checkpoints

    def _begins(self, model: nn.Module, args: tuple) -> None:
        self._pass = Pass(whole=True)

    def _about_to_run(self, name: str, layer: nn.Module, args: tuple) -> None:
        if self.open and torch.is_grad_enabled():
            self._dropout[name] = active_dropout(layer, name)

    def _saw(self, name: str, layer: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
        if not self.open or not torch.is_grad_enabled():
            return
        call = call_of(layer, args, kwargs, output, self._dropout.get(name))
        if torch._C._current_graph_task_id() >= 0:  # a checkpoint runs it again, inside backward
            watch(call, partial(self._ran_again.add, name))
            return
        within, self._ran = self._pass, True
        place = within.calls.get(name, 0)
        within.calls[name] = place + 1
        self._order += 1
        parameters = _parameters(layer)
        versions = versions_of(call.tensors())
        seen = Seen(name, call, within, place, self._order, versions, parameters, versions_of(parameters))
        if not watch(call, partial(self._arrives, seen)):
            self._ran_without.add(name)
        call.detach()

    def _arrives(self, seen: Seen) -> None:
        if self._ran:  # the first gradient since a forward pass: of a new backward pass
            self._arrived.clear()
            self._ran = False
        self._arrived[id(seen)] = seen

    def take(self) -> list[tuple[int, Seen]]:
        """The calls that the last backward pass reached, in the order in which they ran, each with its number.

        Raises:
            RuntimeError: if there is none, saying why.
        """
        arrived = sorted(self._arrived.values(), key=attrgetter("order"))
        ran, without, again = self._ran, sorted(self._ran_without), sorted(self._ran_again)
        self._forget()
        if again:
            raise RuntimeError(
                f"step: module {again[0]!r} runs inside torch.utils.checkpoint with use_reentrant=True, which hides "
                f"its forward pass; pass use_reentrant=False"
            )
        if not arrived:
            raise RuntimeError(self._why_nothing(ran, without))
        return _numbered(arrived)

    def _why_nothing(self, ran: bool, without: list[str]) -> str:
        if not self.open:
            return "step: nothing is watched; call it inside the block `with gf.record(...) as recorder:`"
        if set(without) == set(self._layers):
            return (
                f"step: no gradient flows through {', '.join(map(repr, without))}: every parameter is frozen "
                f"(requires_grad=False) and so is the input; leave something before or in the layer to be trained"
            )
        if ran:
            return (
                "step: no gradient has arrived at any recurrent layer; call loss.backward() before recorder.step(...)"
            )
        return (
            "step: no recurrent layer of the model ran with gradients since the last step; run the forward pass "
            "inside the `with gf.record(...)` block, outside torch.no_grad (a model that torch.compile compiled before "
            "the block may need torch.compiler.reset() at its start)"
        )


def _numbered(arrived: list[Seen]) -> list[tuple[int, Seen]]:
    """Places count on over the forward passes of one backward pass, such as those of a Siamese network."""
    numbered: list[tuple[int, Seen]] = []
    after: dict[str, int] = {}
    first, within = after, None
    for seen in arrived:
        if seen.within is not within:
            first, within = dict(after), seen.within
        number = first.get(seen.name, 0) + seen.place if seen.within.whole else after.get(seen.name, 0)
        after[seen.name] = number + 1
        numbered.append((number, seen))
    return numbered
