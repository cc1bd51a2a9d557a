"""What backward passes left at recurrent layers, for remedies that act on state gradients inside a training loop.

torch's fused kernels stay as they are: hooks see each call of a layer, and the gradients that autograd leaves at its
outputs; from these a :class:`gradflow.flow.replay.Trace` has everything else.
"""

from collections.abc import Sequence
from functools import partial
from operator import is_
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from gradflow.flow.calls import LayerCall, watch
from gradflow.flow.dropout import Dropout, active_dropout
from gradflow.flow.replay import Trace
from gradflow.flow.watching import Hook, call_of, recurrent_layers, versions_of


def watch_backward(model: nn.Module) -> "BackwardWatch":
    """See the calls of the recurrent layers of a model, or of one layer, and the gradients that reach them.

    To be entered around the training loop; :meth:`BackwardWatch.take` then gives the traces of a step. Training is
    bit for bit the same, no graph is held, and :func:`gradflow.record` may watch the same layers, before or after.

    Args:
        model: a recurrent layer, or a model that contains some.

    Raises:
        ValueError: if it holds no recurrent layer.
        NotImplementedError: for layers that cannot be replayed, by name.

    >>> layer = nn.RNN(3, 2)
    >>> with watch_backward(layer) as backward:
    ...     output, _ = layer(torch.zeros(5, 4, 3))
    ...     output[-1].sum().backward()
    ...     (trace,) = backward.take()
    >>> trace[0, 0].states["h"].shape
    torch.Size([5, 4, 2])
    """
    return BackwardWatch(recurrent_layers(model).values())


class _Seen(NamedTuple):
    call: LayerCall
    versions: list[int]
    weights: list[Tensor]
    weight_versions: list[int]


class BackwardWatch:
    """A context manager, made by :func:`watch_backward`; hooks are on the layers while it is entered.

    Args:
        layers: recurrent layers that can be replayed.
    """

    def __init__(self, layers: Any):
        self._layers: list[nn.Module] = list(layers)
        self._handles: list[Any] = []
        self._forget()

    def _forget(self) -> None:
        self._dropout: dict[int, Dropout | None] = {}
        self._arrived: dict[int, _Seen] = {}
        self._calls = 0

    def __enter__(self) -> Self:
        for layer in self._layers:
            if cast(int, layer.num_layers) > 1:
                self._handles.append(layer.register_forward_pre_hook(Hook(self._about_to_run)))
            self._handles.append(layer.register_forward_hook(Hook(self._saw), with_kwargs=True))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forget()

    def _about_to_run(self, layer: nn.Module, args: tuple) -> None:
        if torch.is_grad_enabled():
            self._dropout[id(layer)] = active_dropout(layer, type(layer).__name__)

    def _saw(self, layer: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
        if not self._handles or not torch.is_grad_enabled():  # compiled code may go on calling hooks that were removed
            return
        call = call_of(layer, args, kwargs, output, self._dropout.get(id(layer)))
        weights: list[Tensor] = list(layer.parameters())
        seen = _Seen(call, versions_of(call.tensors()), weights, versions_of(weights))
        self._calls += 1
        watch(call, partial(self._arrives, self._calls, seen))
        call.detach()

    def _arrives(self, order: int, seen: _Seen) -> None:
        self._arrived[order] = seen

    def take(self) -> list[Trace]:
        """The calls since the last :meth:`take` that gradients have reached, in the order in which they ran.

        Several backward passes (accumulated gradients, chunks of truncated backpropagation) give all of their calls;
        where several went through one call, it holds the sum of their gradients. Calls that no gradient has reached
        (an evaluation, a frozen layer) are left out. To be used in every iteration, since what was not taken is still
        there at the next, and before ``optimizer.step()``: the replay needs the weights of the forward pass.

        Raises:
            RuntimeError: if the weights, or what a layer took in or gave out, changed in place since the forward pass.
        """
        arrived = [seen for _, seen in sorted(self._arrived.items())]
        self._forget()
        for seen in arrived:
            _check_unchanged(seen)
        return [Trace(seen.call) for seen in arrived]


def _check_unchanged(seen: _Seen) -> None:
    layer, kind = seen.call.layer, type(seen.call.layer).__name__
    now = list(layer.parameters())
    is_same = len(now) == len(seen.weights) and all(map(is_, now, seen.weights))
    if not is_same or versions_of(now) != seen.weight_versions:
        raise RuntimeError(
            f"take: the weights of the {kind} changed since its forward pass; call take() after loss.backward() and "
            f"before optimizer.step()"
        )
    if versions_of(seen.call.tensors()) != seen.versions:
        raise RuntimeError(
            f"take: the input, initial state or output of the {kind} was changed in place since its forward pass, so "
            f"its states are lost; use the out-of-place operation (no inplace=True), or give it a copy"
        )


def check_traces(traces: Sequence[Trace]) -> None:
    """Raise unless there are traces that a backward pass went through, on the weights that are there now.

    Raises:
        TypeError: if something else was given.
        ValueError: if there are none.
        RuntimeError: if the weights have changed since.
    """
    if isinstance(traces, Trace):
        raise TypeError("traces: expected a list of traces, got one; write [trace]")
    for trace in traces:
        if not isinstance(trace, Trace):
            raise TypeError(f"traces: expected those of take() or gradflow.trace, got {type(trace).__name__}")
        if trace.call.weights_have_changed():
            raise RuntimeError(
                f"traces: the weights of the {type(trace.call.layer).__name__} changed since its forward pass; call it "
                f"after loss.backward() and before optimizer.step()"
            )
    if not any(trace.call.gradients for trace in traces):
        raise ValueError(
            "traces: no gradient has reached a recurrent layer; call loss.backward() first, then take() inside the "
            "block `with gradflow.watch_backward(model) as backward:`"
        )


def leaf_weight(trace: Trace, name: str) -> Tensor:
    """A parameter of the layer of a trace, to whose ``.grad`` one can write.

    Raises:
        NotImplementedError: for one that is computed from others.
    """
    weight = trace.call.weights[name]
    if not weight.is_leaf:
        raise NotImplementedError(
            f"traces: {name} of this {type(trace.call.layer).__name__} is parametrized, and has no gradient of its own "
            f"to change; use a layer without weight_norm, spectral_norm, pruning and the like"
        )
    return weight
