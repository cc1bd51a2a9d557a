"""Trials of hostile inputs within this process, in the verdicts of `hostile.py`."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from hostile import LONGEST_ERROR, record
from torch import nn

import gradflow as gf

LONGEST_TEXT = 1_500  # characters


def judge_call(call: Callable[[], Any], names: Collection[str] = ()) -> tuple[str, str]:
    """Calls what is to raise, and judges what it says.

    Args:
        call: a ValueError, TypeError, OSError or SystemExit is an answer, any other exception a traceback.
        names: texts of which a clear error holds at least one; none asked for if empty.

    Returns:
        The verdict, and the error.
    """
    try:
        call()
    except SystemExit as error:
        return judge_text(str(error.code), names), str(error.code)
    except (ValueError, TypeError, OSError) as error:
        return judge_text(str(error), names), f"{type(error).__name__}: {error}"
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return "silent", ""


def not_clear(
    name: str,
    begin: Callable[[], Any],
    wrong: Mapping[str, Iterable[Any]],
    begins: Collection[str],
    also: Mapping[str, Collection[str]],
    right_after_all: Collection[tuple[str, str, Any]] = (),
) -> list[str]:
    """Calls a function once with every wrong value of every argument of it, records all verdicts.

    Args:
        name: of the function.
        begin: makes a fresh trial: `call`, `right` arguments, and the kind of each that is tried.
        wrong: values by kind.
        begins: what may follow the name of the argument in a clear error.
        also: by argument, other texts that name it.
        right_after_all: function, argument and value of calls that are left out.

    Returns:
        A line for each call whose error is not clear.
    """
    lines = []
    for argument, kind in begin().kinds.items():
        for value in wrong[kind]:
            if isinstance(value, (str, float, list)) and (name, argument, value) in right_after_all:
                continue
            fresh = begin()
            call = partial(fresh.call, **{**fresh.right, argument: value})
            names = [*(f"{argument}{mark}" for mark in begins), *also.get(argument, ())]
            verdict, text = judge_call(call, names)
            record("Python calls", f"{name} {argument}={value!r:.60}", verdict)
            if verdict != "clear":
                lines.append(f"{name}({argument}={value!r:.40}): {verdict}: {text[:200]!r}")
    return lines


def judge_text(text: str, names: Collection[str] = ()) -> str:
    """Whether an error is short and names what it is about: `clear` or `unclear`."""
    short = 0 < len(text.strip().splitlines()) <= LONGEST_ERROR and len(text) <= LONGEST_TEXT
    return "clear" if short and (not names or any(name in text for name in names)) else "unclear"


class Plain(gf.Cell):
    """A cell of one's own."""

    state_names = ("h",)

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size = 3
        self.weight = nn.Linear(6, 3)

    def step(self, x_t: torch.Tensor, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"h": torch.tanh(self.weight(torch.cat([x_t, state["h"]], -1)))}
