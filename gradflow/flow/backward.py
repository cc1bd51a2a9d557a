"""What backward passes left at recurrent layers, for remedies that act on state gradients inside a training loop.

Hooks see each call of a layer, and the gradients that autograd leaves at its outputs; from these a
:class:`gradflow.flow.replay.Trace` has everything else.
"""

from collections.abc import Collection, Sequence

from torch import Tensor, nn

from gradflow.checks import check_kind, listed
from gradflow.flow.finding import recurrent_layers
from gradflow.flow.replay import Trace
from gradflow.flow.seen import Policy, Seen, Since
from gradflow.flow.watching import Watcher


def watch_backward(model: nn.Module) -> Watcher[list[Trace]]:
    """See the calls of the recurrent layers of a model, or of one layer, and the gradients that reach them.

    To be entered around the training loop. Training is bit for bit the same, no graph is held, and
    :func:`gradflow.record` may watch the same layers, before or after.

    In each iteration, ``take()`` then gives the traces of the calls since the last time that gradients have reached, in
    the order in which they ran. Only passes that end in ``.grad`` count: what ``torch.autograd.grad`` asks on the side
    leaves no trace, unless nothing else came, as in a script that sets ``.grad`` itself. Several backward passes
    (accumulated gradients, chunks of truncated backpropagation) give all of their calls; where several went through one
    call, it holds the sum of their gradients. Calls that no gradient has reached (an evaluation, a frozen layer) are
    left out. To be used in every iteration, since what was not taken is still there at the next, and before
    ``optimizer.step()``: the replay needs the weights of the forward pass. It raises a RuntimeError if the weights, or
    what a layer took in or gave out, changed in place since then.

    Args:
        model: a recurrent layer, or a model that contains some.

    Raises:
        ValueError: if it holds no recurrent layer.
        NotImplementedError: for layers that cannot be replayed, by name.

    >>> import torch
    >>> layer = nn.RNN(3, 2)
    >>> with watch_backward(layer) as backward:
    ...     output, _ = layer(torch.zeros(5, 4, 3))
    ...     output[-1].sum().backward()
    ...     (trace,) = backward.take()
    >>> trace[0, 0].states["h"].shape
    torch.Size([5, 4, 2])
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    return Watcher(recurrent_layers(model), EveryBackward(), leaves=list(model.parameters()))


class EveryBackward(Policy[list[Trace]]):
    """For remedies: the calls of all backward passes count, and are handed out as traces."""

    only_last, by_name = False, False
    method, parameters = "take", "weights"
    advice = "call take() after loss.backward() and before optimizer.step()"

    def hand_out(self, since: Since, watched: Collection[str]) -> list[Trace]:
        """One trace for each call, none if no gradient has arrived."""
        calls = since.calls(only_last=self.only_last)
        for seen in calls:
            seen.check_parameters()
            seen.check_tensors()
        return [Trace(seen.call) for seen in calls if isinstance(seen, Seen)]  # nothing is joined for remedies


def check_traces(traces: Sequence[Trace]) -> None:
    """Raise unless there are traces that a backward pass went through, on the weights that are there now.

    Raises:
        TypeError: if something else was given.
        ValueError: if there are none.
        RuntimeError: if the weights have changed since.
    """
    if isinstance(traces, Trace):
        raise TypeError("traces: expected a list of traces, got one; write [trace]")
    for trace in listed("traces", traces, "a list of traces"):
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
