"""Figures drawn one after another, or in two processes at a time."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any

Answer = Callable[[], Any]


class Share:
    """Calls functions one after another, here; what they give is the answer that is given when asked for."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Answer:
        """Calls a function at once."""
        answer = function(*arguments)
        return lambda: answer

    def ahead(self, function: Callable[..., Any], *arguments: Any) -> Answer:
        """Has a function called whose answer is needed later: soon by a second process, else when asked."""
        return partial(function, *arguments)


class _Shared(Share):
    """The same in two processes."""

    def __init__(self, helper: ProcessPoolExecutor) -> None:
        self._helper, self._begun = helper, False
        self._last: Future[Any] | None = None

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Answer:
        first, self._begun = not self._begun, True
        if first or not (self._last is None or self._last.done()):
            return super().__call__(function, *arguments)
        return self.ahead(function, *arguments)

    def ahead(self, function: Callable[..., Any], *arguments: Any) -> Answer:
        self._begun = True
        try:
            self._last = future = self._helper.submit(function, *arguments)
        except BrokenProcessPool:
            return super().__call__(function, *arguments)
        return lambda: _answer(future, function, *arguments)


_OPEN: list[_Shared] = []


@contextmanager
def in_processes(processes: int) -> Iterator[Share]:
    """Gives what calls a function, here or in a second process, and returns what gives the answer when asked.

    The second process does one thing at a time; whatever comes meanwhile, and the first, is done here. It takes a
    second to start and about 250 MB. Should it be killed, what it had is done here after all. Within a block of two
    processes another has the same second one.

    Args:
        processes: 1 or 2.
    """
    if processes == 1 or _OPEN:
        yield _OPEN[-1] if processes > 1 else Share()
        return
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_help) as helper:
        _OPEN.append(_Shared(helper))
        try:
            yield _OPEN[-1]
        finally:
            _OPEN.pop()


def _answer(future: Future[Any], function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        return function(*arguments)


def _help() -> None:
    """Ctrl-C is left to the process that is helped, with which this one ends, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(20_000, 50, 100)  # as in the commands: few of the many objects of a figure are garbage
    threading.Thread(target=_end_with_helped, daemon=True).start()


def _end_with_helped() -> None:
    helped = multiprocessing.parent_process()
    assert helped is not None
    helped.join()
    os._exit(1)
