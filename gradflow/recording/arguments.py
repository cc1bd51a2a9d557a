"""What `record` and `step` are given, checked before anything is written."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradflow.checks import check_kind, listed, real_number, require, shown
from gradflow.flow.calls import LayerCall
from gradflow.flow.finding import unwrapped
from gradflow.flow.padding import check_padding
from gradflow.flow.parts import grouped

Lengths = Tensor | Sequence[int] | Mapping[str, Tensor | Sequence[int]] | None
"""[B], or module -> [B]."""


def one_module(model: Any) -> nn.Module:
    """The model, or several by name as one.

    Raises:
        TypeError: for anything else.
        ValueError: for names that torch does not take.
    """
    parts = model if isinstance(model, Mapping) else {"model": model}
    for part in parts.values():
        if not isinstance(part, nn.Module):
            raise TypeError(
                f"model: expected a torch.nn.Module, or a dictionary of them, got {type(part).__name__}; "
                f"record(model, path, ...)"
            )
    if parts is not model:
        return model
    for name in parts:
        fits = isinstance(name, str) and name != "" and "." not in name and not hasattr(nn.ModuleDict, name)
        require(fits, "model", "names of models that are text without dots and no method of torch.nn.ModuleDict", name)
    return nn.ModuleDict({name: unwrapped(part) for name, part in parts.items()})


def names(argument: str, given: Any, known: Collection[str] | None = None) -> list[str]:
    """Distinct names, in the order of the known ones.

    Raises:
        ValueError: for text in the place of a list, anything but names, and unknown ones.
        TypeError: for what is no list.
    """
    if isinstance(given, str):
        raise ValueError(f"{argument}: expected a list of names, got the text {shown(given)}; write [{shown(given)}]")
    found = listed(argument, given, "a list of names")
    wrong = [name for name in found if not isinstance(name, str) or not name.strip() or not name.isprintable()]
    if wrong:
        raise ValueError(f"{argument}: expected names, each a text of one line, got {shown(wrong[0])} among them")
    if len(set(found)) < len(found):
        raise ValueError(f"{argument}: expected each name once, got {shown(found)}; leave out what is twice")
    unknown = [] if known is None else [name for name in found if name not in known]
    if unknown:
        raise ValueError(f"{argument}: expected some of {', '.join(known or ())}, got {', '.join(map(str, unknown))}")
    return found if known is None else [name for name in known if name in found]


def facts(argument: str, given: Any) -> dict[str, Any]:
    """Settings or further facts, which a log keeps as JSON.

    Raises:
        TypeError: for anything but a dictionary, or names within it that are no text.
        ValueError: for what holds itself, or characters that no file can hold.
    """
    if given is None:
        return {}
    check_kind(argument, given, Mapping, "a dictionary of settings, such as {'lr': 0.1}")
    try:
        _check_keys(argument, given)
        json.dumps(given, ensure_ascii=False, default=str).encode()
    except RecursionError:
        raise ValueError(f"{argument}: expected settings that do not hold themselves, got a circle") from None
    except UnicodeError as error:
        raise ValueError(f"{argument}: expected text that UTF-8 can hold, got {shown(str(error))}") from error
    return dict(given)


def _check_keys(argument: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            check_kind(argument, key, str, "names of settings that are text")
            _check_keys(argument, entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            _check_keys(argument, entry)


def positive(argument: str, value: Any) -> float:
    """A positive number as a float."""
    return real_number(argument, value, above=0)


def lengths_by_name(lengths: Any, watched: Collection[str]) -> Callable[[str], Tensor | None]:
    """From the name of a module to its lengths.

    Args:
        lengths: as :meth:`gradflow.recording.recorder.Recorder.step` takes them.
        watched: names of the modules.

    Raises:
        ValueError: for an unknown module, or what are no whole numbers from 1.
    """
    if isinstance(lengths, Mapping):
        for name in lengths:
            if name not in watched:
                raise ValueError(f"lengths: expected modules out of {', '.join(watched)}, got {shown(name)}")
        return {name: _whole_numbers(value) for name, value in lengths.items()}.get
    given = None if lengths is None else _whole_numbers(lengths)
    return lambda name: given


def _whole_numbers(lengths: Any) -> Tensor:
    expected = "lengths: expected whole numbers from 1, one for each example"
    try:
        found = torch.as_tensor(lengths, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{expected}, got {shown(lengths)}") from None
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"{expected}, got {found.dtype}; pass lengths.long()")
    if found.dim() != 1 or not found.numel() or int(found.min()) < 1:
        least = f" from {int(found.min())}" if found.numel() else ""
        raise ValueError(f"{expected}, got shape {tuple(found.shape)}{least}")
    return found


def check_lengths(calls: Sequence[tuple[int, Any]]) -> None:
    """Raise a ValueError unless the lengths that were given to calls fit them, and the gradients that reached them."""
    for _, seen in calls:
        call = seen.call
        if call.lengths is None or getattr(call, "packed", False):
            continue
        if isinstance(call, LayerCall):
            _ = call.example_lengths  # wrong ones are refused here
            check_padding(call, call.gradients)
        elif call.lengths.shape != (call.batch_size,):
            shape = tuple(call.lengths.shape)
            raise ValueError(f"lengths: expected {call.batch_size}, one for each example, got shape {shape}")
        else:
            seen.check_padding()
    grouped(calls)


def log_of(argument: str, value: Any) -> float | None:
    """The logarithm of a positive number, None of None."""
    return None if value is None else math.log(positive(argument, value))
