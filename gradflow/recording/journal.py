"""The log of a run on a disk that may take nothing for a while, or be gone: training goes on all the same."""

import logging
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gradflow.recording.mishaps import Mishaps
from gradflow.runlog import RunWriter

log = logging.getLogger(__name__)


class Journal:
    """Rows on their way to the run folder; where the disk takes none, they wait in memory for the next try.

    Args:
        writer: of the run folder.
        mishaps: know the iteration at hand.
        stop: a method, called when the log ends here, without a folder or with too many rows in memory.

    Attributes:
        error: why not all that was recorded is on disk, once the log has ended; None: all is.
    """

    def __init__(self, writer: RunWriter, mishaps: Mishaps, stop: Callable[[], None]):
        self.error: Exception | None = None
        self._writer, self._mishaps, self._stop = writer, mishaps, weakref.WeakMethod(stop)  # of who holds this
        self._waits = False

    def append(self, table: str, iteration: int, rows: Mapping[str, Any]) -> None:
        """Give rows to the log, unless it has ended."""
        if self.error is not None:
            return
        try:
            self._writer.append(table, iteration, rows)
        except OSError as failure:
            self._outlive(failure)
            if self.error is None:
                self._writer.append(table, iteration, rows)

    def flush(self) -> None:
        """Bring all rows to disk, if it takes them."""
        try:
            self._writer.flush()
        except OSError as failure:
            self._outlive(failure)

    def _outlive(self, failure: OSError) -> None:
        """A flush failed: let the rows wait in memory, or, without a folder or with too many of them, end the log."""
        if not (isinstance(failure, FileNotFoundError) or self._writer.is_full):
            if not self._waits:
                log.warning("rows wait in memory to be written later, and training goes on: %s", failure)
            self._waits = True
            return
        self.error = failure
        log.error("the log ends at iteration %d, and training goes on: %s", self._mishaps.iteration, failure)
        stop = self._stop()
        if stop is not None:
            stop()
        with suppress(OSError):
            self._writer.close("failed", error=f"{type(failure).__name__}: {failure}")
