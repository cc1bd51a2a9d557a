"""How a log ends that no `with` block ends: with the program, or with the objects that it belongs to."""

import atexit
import os
import sys
import weakref
from multiprocessing import parent_process
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

_OPEN: "weakref.WeakSet[Any]" = weakref.WeakSet()
_HOLDS: dict[int, Any] = {}  # the lock of each, which must outlive a recorder that nobody refers to until it has ended


def closes_at_exit(recorder: Any) -> None:
    """Have the end of this process call `recorder.end()`; the recorder is not held."""
    _OPEN.add(recorder)
    _HOLDS[id(recorder)] = recorder.hold
    if parent_process() is not None:  # of multiprocessing, which ends its processes without `atexit`
        Finalize(None, _close_all, exitpriority=0)


def has_ended(recorder: Any) -> None:
    """No longer close it."""
    _OPEN.discard(recorder)
    _HOLDS.pop(id(recorder), None)


def recorder_of(path: str | os.PathLike[str]) -> Any | None:
    """Who records into a folder here and now, without a `with` block."""
    wanted = Path(path).resolve()
    return next((recorder for recorder in list(_OPEN) if recorder.path.resolve() == wanted), None)


def uncaught_error() -> BaseException | None:
    """The last exception that nobody caught: at exit, what ended the program, or what a prompt went on after."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


@atexit.register
def _close_all() -> None:
    for recorder in list(_OPEN):
        recorder.end()
