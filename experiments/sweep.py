"""A sweep: every run checked before the first starts, progress while they run, and the failures at the end."""

import atexit
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict
from tqdm import tqdm

import gradflow as gf
from experiments.report import describe
from experiments.settings import to_config

tqdm.set_lock(threading.RLock())  # its default is shared between processes, and an interrupted worker would leak it

PATIENCE = 10.0  # seconds that interrupted runs get to save their log


class Sweep(Callback):
    """Watches the folders of a sweep from the process that launches it, so that it serves every launcher."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Hydra sends a copy to worker processes, where there is nothing to watch

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the sweep and begins to watch it.

        Raises:
            SystemExit: If the settings of a run are wrong, with a line that says so.
        """
        try:
            self.paths = plan(config)
        except HydraException:
            return  # about a group or a type: Hydra meets it next and reports it well
        except ValueError as error:
            sys.exit(str(error))
        except Exception:  # of which Hydra would make a warning
            sys.exit(traceback.format_exc())
        self.directory = config.hydra.sweep.dir
        self.stop = threading.Event()
        self.watcher = threading.Thread(target=watch, args=(self.paths, self.stop), daemon=True)
        self.watcher.start()
        atexit.register(self.finish)  # Hydra leaves out on_multirun_end after Ctrl-C or the loss of a worker
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.interrupt)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Ends the program with exit status 1 if a run failed."""
        atexit.unregister(self.finish)
        if self.finish() < len(self.paths):
            sys.exit(1)

    def finish(self) -> int:
        """Stops watching, names the runs that failed and returns how many did not."""
        self.stop.set()
        self.watcher.join()
        runs = {path: gf.open_run(path) for path in self.paths if state(path)}
        done = sum(run.status in ("finished", "diverged") for run in runs.values())
        tqdm.write(f"{done} of {len(self.paths)} runs done in {self.directory}", file=sys.stderr)
        for path, run in runs.items():
            if run.status in ("failed", "lost"):
                tqdm.write(f"{path}: {describe(run)}", file=sys.stderr)
        return done

    def interrupt(self, signal_number: int, frame: FrameType | None) -> None:
        """Lets runs in other processes save what they recorded before the launcher kills them; runs here see to it."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
        for path in self.paths:
            if state(path) == "running":
                terminate(json.loads((path / "status.json").read_text(encoding="utf-8")))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and any(state(path) == "running" for path in self.paths):
            time.sleep(0.05)
        raise KeyboardInterrupt


def plan(config: DictConfig) -> list[Path]:
    """Composes and checks every run of a sweep.

    Returns:
        The folder of each run, in the order in which they start.

    Raises:
        ValueError: If the settings of a run are wrong, or its folder is not its own.
    """
    directory = Path(config.hydra.sweep.dir)  # first of all: it holds the time, which is kept once it was asked for
    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={values}" for key, values in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create(loader).parse_overrides([*swept, *config.hydra.overrides.task])
    [grid] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    paths: list[Path] = []
    for number, run in enumerate(grid):
        settings = loader.load_sweep_config(config, run)
        with open_dict(settings):
            settings.hydra.job.num = number
        path = directory / settings.hydra.sweep.subdir
        try:
            to_config(settings)
            if path in paths:
                raise ValueError(f"two runs would share the folder {path}: name each value once")
            if state(path):
                raise ValueError(f"{path} already holds a run: choose another folder with hydra.sweep.dir=PATH")
        except ValueError as error:
            raise ValueError(f"{' '.join(run)}\n{error}") from None
        paths.append(path)
    return paths


def state(path: Path) -> str | None:
    """The state of the run in a folder, None before it starts."""
    return gf.open_run(path).status if (path / "status.json").is_file() else None


def terminate(status: dict[str, Any]) -> None:
    """Sends SIGTERM to the process of a run, if it is on this host and still there."""
    if status["host"] == socket.gethostname():
        with suppress(ProcessLookupError):
            os.kill(status["pid"], signal.SIGTERM)


def watch(paths: list[Path], stop: threading.Event) -> None:
    """Reports each run when it ends: a line each and, on a terminal, a bar below."""
    waiting = list(paths)
    with tqdm(total=len(paths), desc="runs", unit="run", disable=None) as bar:
        while waiting:
            stopping = stop.wait(0.5)  # once more after the end
            for path in [path for path in waiting if state(path) not in (None, "running")]:
                waiting.remove(path)
                count = f"[{len(paths) - len(waiting)}/{len(paths)}]"
                tqdm.write(f"{count} {path.name}: {describe(gf.open_run(path))}", file=sys.stderr)
                bar.update()
            bar.refresh()
            if stopping:
                break
