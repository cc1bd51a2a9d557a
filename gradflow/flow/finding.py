"""The recurrent layers of a model, by name; wrappers around and inside the model are looked through."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.parametrize import is_parametrized

from gradflow.cells.cell import Cell
from gradflow.flow.calls import SUPPORTED, SteppedCell, check_supported

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


def recurrent_layers(
    model: nn.Module, modules: Sequence[str] | None = None, *, cells: bool = False, or_none: bool = False
) -> dict[str, Any]:
    """The recurrent layers of a model by their dotted names.

    Args:
        model: what the user calls; wrappers are looked through.
        modules: names to keep; None: all.
        cells: also those cells that a script calls step by step, each seen as a layer of one.
        or_none: a model without any will do.

    Raises:
        ValueError: if there is none, or none of that name.
        NotImplementedError: for layers that cannot be replayed, by name.
    """
    named = dict(unwrapped(model).named_modules())
    found: dict[str, Any] = {
        plain_name(name): module for name, module in named.items() if isinstance(module, SUPPORTED)
    }
    if cells:
        found |= {plain_name(name): SteppedCell(module) for name, module in _cells(named).items()}
    if not found and not or_none:
        raise ValueError(
            "model: expected a recurrent layer (torch.nn.RNN, LSTM, GRU, gradflow.RNN, LinearRNN, LSTM, GRU, "
            "Recurrent; to be recorded also torch.nn.RNNCell, LSTMCell, GRUCell or gradflow.Cell in a loop) in "
            f"{type(unwrapped(model)).__name__}, found none; to record a step written by hand, mark its state in the "
            f'loop: h = gradflow.mark("h", h), and gradflow.record(..., states=["h"])'
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
        if isinstance(layer, SteppedCell):
            if is_parametrized(layer.cell):
                raise NotImplementedError(
                    f"{name}: parametrizations (weight_norm, spectral_norm, pruning) of cells are not supported; use "
                    f"torch.nn.RNN, LSTM or GRU, whose parametrizations are"
                )
            continue
        check_supported(layer, name or type(layer).__name__)
    return chosen


def _cells(named: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Cells that nothing else runs: those inside of layers and of other cells are part of their step."""
    outer = [name for name, module in named.items() if isinstance(module, (*SUPPORTED, Cell))]

    def is_inside(name: str) -> bool:
        return any(name != other and (not other or name.startswith(f"{other}.")) for other in outer)

    cells = {name: module for name, module in named.items() if isinstance(module, (nn.RNNCellBase, Cell))}
    return {name: module for name, module in cells.items() if not is_inside(name)}
