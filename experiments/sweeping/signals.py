"""Ctrl-C, SIGTERM and the death of the parent end a run alike: its log is saved and says `interrupted`."""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from experiments.sweeping.standing import process_here, read_status

log = logging.getLogger(__name__)

NUMBERS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0  # seconds that interrupted runs get to save their log
_guard: threading.Thread | None = None


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


def end_with_parent() -> None:
    """From now on this worker process ends soon after its parent does, whatever killed that."""
    global _guard
    if _guard is None:
        _guard = threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True)
        _guard.start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    log.warning("The process of the sweep (%d) is gone, so this run is interrupted.", parent)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


def terminate(paths: Sequence[Path]) -> None:
    """Has runs in other processes of this host save what they recorded, and waits until they have."""
    for process in _processes(paths):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    wait_for_end(paths)


def wait_for_end(paths: Sequence[Path]) -> None:
    """Waits until no other process of this host records these runs, but not longer than `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and _processes(paths):
        time.sleep(0.05)


def _processes(paths: Sequence[Path]) -> set[int]:
    found = (process_here(read_status(path)) for path in paths)
    return {process for process in found if process is not None}


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
