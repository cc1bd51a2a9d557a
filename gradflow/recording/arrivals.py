"""Gradients as backward left them: the norms against which those that the optimiser gets are held.

Nobody says in a script of the user's own whether gradients were clipped between `backward` and the optimiser's step.
Norms can tell: those that the gradients have when a backward pass ends, and those that they have at the step. What
counters of in-place changes say is not enough: ``p.grad.data.clamp_()`` and GradScaler leave them as they were.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from gradflow.remedies.clipping import entries_of, in_numbers, norm_in_double

_LOW, _HIGH = 1e-15, 1e15  # norms whose squares float32 holds


class Arrived(NamedTuple):
    """One gradient when a backward pass had left it.

    Attributes:
        gradient: itself, held so that it can be told from another.
        version: how often it had been changed in place.
        norm: its Euclidean norm, a tensor where that would have to be waited for; None: unknown.
    """

    gradient: Tensor
    version: int
    norm: float | Tensor | None


class Arrivals:
    """Keeps the norm of every gradient from the end of the backward pass that brought it until :meth:`forget`.

    Attributes:
        open: whether gradients are looked at.
        meets: told what is missing and the error, if norms cannot be taken; None: the error is raised.
    """

    def __init__(self) -> None:
        self.open = True
        self.meets: Callable[[str, Exception], None] | None = None
        self._followed: dict[int, tuple[Tensor, Any]] = {}  # held, so that an id stays theirs; and the hook's handle
        self._arrived: dict[int, Arrived] = {}
        self._arriving: dict[int, Tensor] = {}  # in the backward pass that runs
        self._pass = -1  # its number

    def follow(self, parameter: Tensor) -> None:
        """Hook into a parameter that is not followed yet."""
        if id(parameter) not in self._followed and parameter.requires_grad and parameter.is_leaf:
            handle = parameter.register_post_accumulate_grad_hook(self._arrives)
            self._followed[id(parameter)] = parameter, handle

    def stop(self) -> None:
        """Take the hooks away."""
        for _, handle in self._followed.values():
            handle.remove()
        self._followed.clear()
        self.forget()

    def forget(self) -> None:
        """Let go of what has arrived."""
        self._arrived.clear()

    def __contains__(self, parameter: Tensor) -> bool:
        """Whether a gradient has arrived there since :meth:`forget`."""
        return id(parameter) in self._arrived

    def compare(self, parameters: list[Tensor]) -> tuple[list[float | None], list[float]]:
        """The norms of gradients as they arrived, and as they are now, taken in the same way.

        Args:
            parameters: each with a gradient.

        Returns:
            before: None where it is not known; of gradients that are 0 and never arrived, 0.
            now: equal to `before`, bit by bit, where nothing happened.
        """
        now = _numbers(_norms([parameter.grad for parameter in parameters if parameter.grad is not None]))
        if _is_averaged_later():
            return [None] * len(now), now
        found = [self._arrived.get(id(parameter)) for parameter in parameters]
        norms = [(0.0 if is_ == 0 else None) if one is None else one.norm for one, is_ in zip(found, now, strict=True)]
        known = iter(_numbers([norm for norm in norms if norm is not None]))
        return [None if norm is None else next(known) for norm in norms], now

    def _arrives(self, parameter: Tensor) -> None:
        if self.open:
            number = torch._C._current_graph_task_id()
            if number != self._pass:
                self._pass = number
                torch.autograd.Variable._execution_engine.queue_callback(self._have_arrived)
            self._arriving[id(parameter)] = parameter

    def _have_arrived(self) -> None:
        """At the end of a backward pass."""
        parameters = [parameter for parameter in self._arriving.values() if parameter.grad is not None]
        self._arriving = {}
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        norms: list[Any] = [None] * len(gradients)
        try:
            norms = _norms(gradients)
        except Exception as error:
            if self.meets is None:
                raise
            self.meets("the norms of gradients as they arrived", error)
        for parameter, gradient, norm in zip(parameters, gradients, norms, strict=True):
            earlier = self._arrived.get(id(parameter))
            is_as_left = earlier is None or earlier.gradient is not gradient or gradient._version == earlier.version + 1
            is_known = is_as_left and not _has_other_hooks(parameter)
            self._arrived[id(parameter)] = Arrived(gradient, gradient._version, norm if is_known else None)


def _norms(gradients: list[Tensor]) -> list[float | Tensor]:
    """Their Euclidean norms, as cheaply as can be: in float32 where this has the range."""
    are_usual = [_is_usual(gradient) for gradient in gradients]
    usual = [gradient for gradient, is_usual in zip(gradients, are_usual, strict=True) if is_usual]
    quick = iter(torch._foreach_norm(usual) if usual else ())
    norms: list[float | Tensor] = []
    for gradient, is_usual in zip(gradients, are_usual, strict=True):
        norm = next(quick).item() if is_usual else _norm(entries_of(gradient))
        norms.append(norm if isinstance(norm, Tensor) or _LOW < norm < _HIGH else norm_in_double(entries_of(gradient)))
    return norms


def _is_usual(gradient: Tensor) -> bool:
    return gradient.dtype == torch.float32 and gradient.layout == torch.strided and gradient.device.type == "cpu"


def _norm(entries: Tensor) -> float | Tensor:
    norm = torch.linalg.vector_norm(entries, dtype=torch.float64)
    return float(norm) if entries.device.type == "cpu" else norm


def _numbers(norms: list[float | Tensor]) -> list[float]:
    waiting = [norm for norm in norms if isinstance(norm, Tensor)]
    if not waiting:
        return cast(list[float], norms)
    numbers = iter(in_numbers(waiting))
    return [next(numbers) if isinstance(norm, Tensor) else norm for norm in norms]


def _is_averaged_later() -> bool:
    """Whether gradients are averaged over several processes after they arrive."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _has_other_hooks(parameter: Tensor) -> bool:
    """Whether somebody else is told of the gradient on its way, and may change it."""
    hooks = *(parameter._backward_hooks or {}).values(), *(parameter._post_accumulate_grad_hooks or {}).values()
    return not all(map(_is_ours, hooks))


def _is_ours(hook: Any) -> bool:
    """Whether it is a hook of gradflow, which only looks."""
    function = hook.func if isinstance(hook, partial) else hook
    return str(getattr(function, "__module__", "")).startswith("gradflow.")
