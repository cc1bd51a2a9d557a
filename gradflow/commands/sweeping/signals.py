"""Ctrl-C, SIGTERM and the end of the sweep end a run alike: its log is saved and says `interrupted`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

from gradflow.commands.sweeping.standing import is_recorded_elsewhere

if TYPE_CHECKING:
    from gradflow.runlog.lock import Lock

log = logging.getLogger(__name__)

TRAIN = (sys.executable, "-m", "gradflow.commands.train")
"""The command that trains, in a process of its own."""

NUMBERS = (signal.SIGINT, signal.SIGTERM)
LEASH = "GRADFLOW_SWEEP"  # the environment variable that tells a run the name of its leash
PATIENCE = 10.0  # seconds that interrupted runs get to save their log
SECONDS = 0.3  # between two looks at the leash


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Has a function called on Ctrl-C and SIGTERM; the handlers from before are put back at the end."""
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, on SIGTERM as on Ctrl-C."""
    for number in NUMBERS:  # further signals would only disturb the saving of the log
        signal.signal(number, lambda *_: None)  # SIG_IGN would make noise about a signal that is on its way
    raise KeyboardInterrupt


@contextmanager
def leash() -> Iterator[Leash]:
    """Holds the runs that a sweep starts in other processes of this host, as long as it lives.

    No number of a process is involved: the runs look whether their sweep still holds on (see :func:`leashed`), and
    interrupt themselves. So a sweep never signals a process, and none but its own runs ever answers.
    """
    from gradflow.runlog.lock import take

    with TemporaryDirectory(prefix="gradflow-sweep-") as folder:
        held = Leash(folder, take(Path(folder)))
        try:
            yield held
        finally:
            held.let_go()


class Leash:
    """What a sweep holds its runs by.

    Attributes:
        name: What runs are given.
    """

    def __init__(self, name: str, lock: Lock) -> None:
        self.name, self._lock = name, lock

    def let_go(self) -> None:
        """Has all runs interrupted. Doing so twice does nothing."""
        if self._lock.is_ours:
            self._lock.release()


@contextmanager
def leashed(name: str | None) -> Iterator[None]:
    """Interrupts what goes on here, in a worker process, when the sweep lets go of it, or is gone.

    Args:
        name: That of the leash; None if there is none. One that is not seen, as on another host, has no effect.
    """
    if name is None:
        yield
        return
    ended, is_new = threading.Event(), name not in _runs
    _runs[name] = ended
    if is_new:
        threading.Thread(target=_watch, args=(name, os.getppid()), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


_runs: dict[str, threading.Event] = {}  # name of a leash -> whether the run that began last has ended


def _watch(name: str, parent: int) -> None:
    """Of a worker: interrupts the run that goes on when the leash is let go; without a sweep, it ends itself."""
    from gradflow.runlog.lock import is_held

    while is_held(Path(name)) is not False:
        time.sleep(SECONDS)
    if not _runs[name].is_set():
        log.warning("The sweep was interrupted or is gone, so this run is interrupted.")
        os.kill(os.getpid(), signal.SIGTERM)
        if not _runs[name].wait(PATIENCE):
            os._exit(1)
    while os.getppid() == parent:  # a sweep that lives ends its workers itself
        time.sleep(SECONDS)
    os._exit(0)


def wait_for_end(paths: Sequence[Path]) -> None:
    """Waits until no other process records these runs, but not longer than `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(map(is_recorded_elsewhere, paths)):
        time.sleep(0.05)


def patiently(command: list[str], stdout: int | None = None) -> int:
    """Runs a command that Ctrl-C reaches as well, waits until it has ended in its own way, and returns its status.

    Raises:
        KeyboardInterrupt: If it was interrupted.
    """
    process, interrupted = subprocess.Popen(command, stdout=stdout), False
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            interrupted = True
            continue
        if interrupted or status == 130:
            raise KeyboardInterrupt
        return status
