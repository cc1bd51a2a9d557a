"""Copies of modules with other tensors, and the tensors that a module holds beside its parameters and buffers."""

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from torch import Tensor, nn


def copied(module: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a module with every parameter, buffer and tensor attribute changed, that shares all the rest."""
    twin = copy(module)
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            vars(twin)[name] = change(value)
    for kind in ("_parameters", "_buffers"):
        tensors = vars(module)[kind]
        vars(twin)[kind] = {name: None if value is None else change(value) for name, value in tensors.items()}
    children = vars(module)["_modules"].items()
    vars(twin)["_modules"] = {name: None if child is None else copied(child, change) for name, child in children}
    return twin


def to_double(module: Any) -> Any:
    """A copy in float64, see :func:`copied`."""
    return copied(module, lambda value: value.double() if value.is_floating_point() else value)


def held(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Tensors that a module holds beside parameters and buffers, by dotted names, without the graph."""
    return {
        f"{path}.{name}": value.detach()
        for path, part in module.named_modules(prefix=prefix)
        for name, value in vars(part).items()
        if isinstance(value, Tensor)
    }


def holding(module: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A copy of a module that holds these tensors, by the names of :func:`held`, and shares all the rest."""
    twin = copied(module, lambda value: value)
    for name, value in tensors.items():
        set_held(twin, name, value)
    return twin


def get_held(module: nn.Module, name: str) -> Tensor:
    """One of the tensors that a module holds."""
    path, _, last = name.rpartition(".")
    return vars(module.get_submodule(path))[last]


def set_held(module: nn.Module, name: str, value: Tensor) -> None:
    """Have a module hold another tensor; see :func:`held`."""
    path, _, last = name.rpartition(".")
    vars(module.get_submodule(path))[last] = value
