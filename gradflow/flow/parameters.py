"""The parameters of a layer as a forward pass found them, and whether they still are what they were."""

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any, cast

from torch import Tensor


def parameters_of(layer: Any) -> list[Tensor]:
    """All parameters of a layer, those behind a parametrization too."""
    is_module = hasattr(layer, "_parameters")  # not so a cell seen as a layer of one, or a marked state
    if not is_module or layer._modules:  # "parametrizations", or a cell of the user's own
        return list(layer.parameters())
    return cast(list[Tensor], list(layer._parameters.values()))


def versions_of(tensors: Iterable[Tensor]) -> list[int]:
    """How often each tensor was changed in place."""
    return [tensor._version for tensor in tensors]


def have_changed(parameters: Sequence[Tensor], versions: Sequence[int], own: Sequence[Tensor], layer: Any) -> bool:
    """Whether parameters were changed in place since a forward pass, or others are in their place.

    Args:
        parameters: as that pass found them.
        versions: how often each had been changed by then.
        own: those of the layer when it began to be watched; others were lent to it by functional_call for one pass.
        layer: as it is now.
    """
    if versions_of(parameters) != versions:
        return True
    return not _same(parameters, parameters_of(layer)) and _same(parameters, own)


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))
