"""Copies of watched modules, pickled, saved or deep, are made without gradflow's hooks, and without a word of gradflow.

Python asks `copyreg` how a class is copied; while a module is watched, its class is entered there.
"""

import copyreg
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.compiler import is_compiling

_watched: Counter[type] = Counter()
_HOOKS = "_forward_hooks", "_forward_pre_hooks"


class Hook:
    """A hook of gradflow on a module; in a copy that is made by a rule of the module's own it does nothing.

    Compiled code leaves it out and calls it; the way around the compiler costs too much where there is none.
    """

    def __init__(self, call: Callable[..., None]):
        self._call, self._uncompiled = call, torch.compiler.disable(call)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do what is hooked in."""
        (self._uncompiled if is_compiling() else self._call)(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def leave_hooks_behind(modules: Iterable[nn.Module]) -> None:
    """Have copies of modules of these classes made without hooks of gradflow, until :func:`copy_as_ever`."""
    for kind in map(type, modules):
        if _watched[kind] or kind not in copyreg.dispatch_table:  # a rule of the script's own stays
            _watched[kind] += 1
            copyreg.pickle(kind, _reduced)


def copy_as_ever(modules: Iterable[nn.Module]) -> None:
    """Take back one :func:`leave_hooks_behind`."""
    for kind in map(type, modules):
        _watched[kind] -= kind in _watched
        if kind in _watched and not _watched[kind]:
            del _watched[kind], copyreg.dispatch_table[kind]


def _reduced(module: nn.Module) -> Any:
    reduced = module.__reduce_ex__(2)
    if isinstance(reduced, str) or len(reduced) < 3:
        return reduced
    made, arguments, state, *rest = reduced
    return made, arguments, _without_hooks(state) if isinstance(state, dict) else state, *rest


def _without_hooks(state: dict[str, Any]) -> dict[str, Any]:
    ours = {key for name in _HOOKS for key, hook in state.get(name, {}).items() if isinstance(hook, Hook)}
    kept = dict(state)
    for name in (*_HOOKS, *(f"{name}_with_kwargs" for name in _HOOKS), "_forward_hooks_always_called"):
        if ours & state.get(name, {}).keys():
            kept[name] = OrderedDict((key, hook) for key, hook in state[name].items() if key not in ours)
    return kept
