"""`mark`: a line in the loop of a step of one's own, by which the recorder sees its states."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from gradflow.checks import require, shown

OPEN: list[Any] = []
"""The watchers that may be told of marked states."""


def mark(
    name: str,
    *states: Tensor,
    step: Callable[..., Any] | None = None,
    previous: Tensor | Sequence[Tensor] | None = None,
) -> Any:
    """Mark the state of a step of your own, in its loop: ``h = gf.mark("h", h)``; the recorder then sees its gradients.

    Where no recorder was asked for a state of that name (``gf.record(..., states=["h"])``), nothing happens, so the
    line may stay. A state that descends from the one marked before goes on with its sequence; another one begins the
    next. Recorded is the total gradient, exactly; below the range of its dtype it is NaN. With `step` and `previous` it
    goes on there, and there is also what arrives at each state directly, norms of the Jacobian of 4 examples, and the
    loss at single positions (``log_anchored_gradient``, on the schedule of ``spectrum_every``). Of several states of
    which one is made of another one of the same step, as h of an LSTM is of c, what arrives at each alone is told apart
    with `step`; without it only the total of the first is known, and the others are NaN.

    Args:
        name: as it was told to :func:`gradflow.record`.
        *states: [B, H] each, or [H]: as they leave the step and enter the next one.
        step: makes `states` of `previous`, whole batches: at recorded iterations it is done once more, and its graph is
            kept until the iteration is recorded, so that products with its Jacobian are automatic differentiation. It
            must have no effect beside. Where examples mix (a batch norm) the Jacobian is that of each by itself, and
            gradients of single positions are not found.
        previous: the states that entered, together with `step`: as they entered, after masks or dropout.

    Returns:
        The state, or the tuple of states, as it was given.

    Raises:
        TypeError: for states that are no tensors.
        ValueError: for other shapes, one of `step` and `previous` without the other, or a step that gives something
            else.

    >>> import torch
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
    for watcher in list(OPEN):
        watcher.mark(name, states, step, before)
    return states[0] if len(states) == 1 else states
