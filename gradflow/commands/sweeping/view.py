"""The live view of a sweep: a bar on a terminal, and a line for each run that fails, as it fails."""

import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tqdm import tqdm

import gradflow as gf
from gradflow.commands.report import describe
from gradflow.commands.sweeping.deaths import Deaths
from gradflow.commands.sweeping.standing import read_status, standing

SECONDS = 0.5  # between two looks at the folders


def say(line: str) -> None:
    """Writes a line to the standard error output, above the bar if there is one."""
    tqdm.write(line, file=sys.stderr)


class View:
    """Watches the folders of runs from the process that launches them, so that it serves every launcher.

    Args:
        paths: The runs that are to be launched; those that are done already would spoil the time that is left.

    Attributes:
        deaths: Keeps watch over the processes of the runs.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.deaths = Deaths()
        self._before = {path: _changed(path) for path in paths}
        self._waiting = list(paths)
        self._lost: set[Path] = set()
        self._ended: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def lose(self, path: Path) -> None:
        """Takes a run for ended, since its process died."""
        self._lost.add(path)

    def state(self, path: Path) -> str | None:
        """The state of a run, None before it starts; the status of an attempt before this sweep does not count."""
        if _changed(path) == self._before[path]:
            return None
        if path in self._lost:
            return "lost"
        status = read_status(path)
        if status.get("state") == "running":
            self.deaths.watch(status.get("pid"))
        return status.get("state")

    def _watch(self) -> None:
        with tqdm(total=len(self._waiting), desc="runs", unit="run", smoothing=0, disable=None) as bar:
            stopping = False
            while not stopping:
                stopping = self._stop.wait(SECONDS)  # once more after the end
                if stopping:
                    self._lost.update(path for path in self._waiting if standing(path) == "lost")
                states = {path: self.state(path) for path in self._waiting}
                for path, state in states.items():
                    if state not in (None, "running"):
                        self._note_end(path, state)
                        bar.update()
                running = Counter(state for state in states.values() if state == "running")
                bar.set_postfix_str(", ".join(f"{count} {state}" for state, count in (running + self._ended).items()))

    def _note_end(self, path: Path, state: str) -> None:
        self._waiting.remove(path)
        if state != "finished":
            self._ended[state] += 1
        if state in ("failed", "lost"):
            say(f"{path}: {describe(gf.open_run(path))}")


def _changed(path: Path) -> int | None:
    """When the status of a run changed last, None if it has none yet."""
    try:
        return (path / "status.json").stat().st_mtime_ns
    except FileNotFoundError:
        return None
