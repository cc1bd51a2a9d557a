"""Gradients as backward left them: the norms against which those that the optimiser gets are held.

Nobody says in a script of the user's own whether gradients were clipped between `backward` and the optimiser's step.
Norms can tell: those that a gradient had when autograd had accumulated it, and those that it has at the step. What
counters of in-place changes say is not enough: ``p.grad.data.clamp_()`` and GradScaler leave them as they were.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradflow.remedies.clipping import entries_of, norm_in_double

_SAFE = 1e-15, 1e15  # norms whose squares float32 holds


@dataclass(frozen=True, slots=True)
class Arrived:
    """One gradient when it had been accumulated.

    Attributes:
        gradient: itself, held so that it can be told from another.
        version: how often it had been changed in place.
        norm: its Euclidean norm; a tensor where it lies on another device, which is not waited for; None: unknown.
    """

    gradient: Tensor
    version: int
    norm: float | Tensor | None


class Arrivals:
    """Keeps the norm of every gradient from when autograd has accumulated it until :meth:`forget`.

    Attributes:
        open: whether gradients are looked at.
    """

    def __init__(self) -> None:
        self.open = True
        self._followed: dict[int, tuple[Tensor, Any]] = {}  # held, so that an id stays theirs; and the hook's handle
        self._arrived: dict[int, Arrived] = {}

    def follow(self, parameters: Iterable[Tensor]) -> None:
        """Hook into those parameters that are not followed yet."""
        for parameter in parameters:
            if id(parameter) not in self._followed and parameter.requires_grad and parameter.is_leaf:
                hook = partial(self._arrives, is_told_all=not _has_other_hooks(parameter))
                self._followed[id(parameter)] = parameter, parameter.register_post_accumulate_grad_hook(hook)

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
            before: None where it is not known.
            now: equal to `before`, bit by bit, where nothing happened.
        """
        now = _numbers([norm_of(parameter.grad) for parameter in parameters if parameter.grad is not None])
        if _is_averaged_later():
            return [None] * len(now), now
        found = [self._arrived.get(id(parameter)) for parameter in parameters]
        known = [one.norm for one in found if one is not None and one.norm is not None]
        numbers = iter(_numbers(known))
        return [None if one is None or one.norm is None else next(numbers) for one in found], now

    def _arrives(self, parameter: Tensor, is_told_all: bool) -> None:
        gradient = parameter.grad
        if not self.open or gradient is None:
            return
        earlier = self._arrived.get(id(parameter))
        is_as_left = earlier is None or earlier.gradient is not gradient or gradient._version == earlier.version + 1
        is_known = is_told_all and is_as_left and all(map(_is_ours, (parameter._backward_hooks or {}).values()))
        self._arrived[id(parameter)] = Arrived(gradient, gradient._version, norm_of(gradient) if is_known else None)


def norm_of(gradient: Tensor) -> float | Tensor:
    """Its Euclidean norm, as cheaply as that can be: in float32 where this has the range."""
    entries = entries_of(gradient)
    if entries.device.type != "cpu":
        return torch.linalg.vector_norm(entries, dtype=torch.float64)
    is_wide = entries.dtype in (torch.float32, torch.float64)
    norm = float(torch.linalg.vector_norm(entries, dtype=None if is_wide else torch.float32))
    return norm if _SAFE[0] < norm < _SAFE[1] else norm_in_double(entries)


def _numbers(norms: list[float | Tensor]) -> list[float]:
    """All as numbers; what lies on other devices is waited for once."""
    tensors = [norm for norm in norms if isinstance(norm, Tensor)]
    values = iter(torch.stack([norm.to(tensors[0].device) for norm in tensors]).tolist() if tensors else ())
    return [next(values) if isinstance(norm, Tensor) else norm for norm in norms]


def _is_averaged_later() -> bool:
    """Whether gradients are averaged over several processes after they arrive."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _has_other_hooks(parameter: Tensor) -> bool:
    """Whether somebody else is told of a gradient first, and may change it."""
    return not all(map(_is_ours, (parameter._post_accumulate_grad_hooks or {}).values()))


def _is_ours(hook: Any) -> bool:
    """Whether it is a hook of gradflow, which only looks."""
    function = hook.func if isinstance(hook, partial) else hook
    return str(getattr(function, "__module__", "")).startswith("gradflow.")
