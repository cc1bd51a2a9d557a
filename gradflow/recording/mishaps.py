"""What recording met and training did not feel: said once, counted, and told at the end of the log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass
class Mishaps:
    """Faults of what is recorded (a decomposition that does not converge, no memory), which training outlives.

    No error is held, since its traceback would hold the tensors of the iteration.

    Attributes:
        path: the run folder.
        iteration: the one at hand.
        is_new: something was noted since this was last set to False.
    """

    path: Path
    iteration: int = 0
    is_new: bool = False
    _found: dict[str, dict[int, None]] = field(default_factory=dict)  # what -> iterations
    _first: dict[str, str] = field(default_factory=dict)  # what -> the first error

    @contextmanager
    def survived(self, what: str) -> Iterator[None]:
        """Let no error of the block out, but note it; `what` is then missing of this iteration, "the states"."""
        try:
            yield
        except Exception as error:
            self.note(what, error)

    def note(self, what: str, error: Exception) -> None:
        """Count an error, and say it if it is the first of what is missing."""
        self.is_new = True
        self._found.setdefault(what, {})[self.iteration] = None
        if what in self._first:
            return
        text = " ".join(str(error).split())
        self._first[what] = f"{type(error).__name__}: {text}" if text else type(error).__name__
        log.warning(
            "%s: iteration %d is recorded without %s (%s); training and the log go on, and this is said once",
            self.path, self.iteration, what, self._first[what], exc_info=log.isEnabledFor(logging.DEBUG),
        )  # fmt: skip

    def __str__(self) -> str:
        """In one line, what is missing of how many iterations and why; empty if nothing is."""
        parts = [
            f"{what} of {len(found)} iteration{'s' * (len(found) > 1)}, first of {min(found)} ({self._first[what]})"
            for what, found in self._found.items()
        ]
        return f"not recorded: {'; '.join(parts)}" if parts else ""
