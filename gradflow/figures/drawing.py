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
from typing import Any

Answer = Callable[[], Any]


@contextmanager
def in_processes(processes: int) -> Iterator[Callable[..., Answer]]:
    """Gives what calls a function, here or in a second process, and returns what gives the answer when asked.

    The second process does one thing at a time; whatever comes meanwhile, and the first, is done here. It takes a
    second to start and about 250 MB. Should it be killed, what it had is done here after all.

    Args:
        processes: 1 or 2.
    """
    if processes == 1:
        yield _here
        return
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    begun: list[Future[Any] | None] = []
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_help) as helper:

        def share(function: Callable[..., Any], *arguments: Any) -> Answer:
            last = next((future for future in reversed(begun) if future is not None), None)
            begun.append(None)
            if len(begun) == 1 or not (last is None or last.done()):
                return _here(function, *arguments)
            try:
                begun[-1] = future = helper.submit(function, *arguments)
            except BrokenProcessPool:
                return _here(function, *arguments)
            return lambda: _answer(future, function, *arguments)

        yield share


def _here(function: Callable[..., Any], *arguments: Any) -> Answer:
    answer = function(*arguments)
    return lambda: answer


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
