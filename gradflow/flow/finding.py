"""The recurrent layers of a model, by name; wrappers around and inside the model are looked through."""

from collections.abc import Sequence

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gradflow.flow.calls import SUPPORTED, check_supported

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
        check_supported(layer, name or type(layer).__name__)
    return chosen
