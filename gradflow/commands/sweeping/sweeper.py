"""The sweeper: checks every run, leaves out those that are done, launches the rest and says how they ended."""

import signal
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast
from unittest.mock import patch

from hydra._internal.core_plugins.basic_sweeper import BasicSweeperConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

import gradflow as gf
from gradflow.commands.arguments import leave_no_empty_folder
from gradflow.commands.report import not_proved, printed, table
from gradflow.commands.sweeping import launchers
from gradflow.commands.sweeping.plan import AsPlanned, Planned, announcement, check_names, plan, to_launch
from gradflow.commands.sweeping.signals import handled_by, leash, wait_for_end
from gradflow.commands.sweeping.standing import DONE, read_status, standing
from gradflow.commands.sweeping.view import View, say


@contextmanager
def in_place_of_hydras() -> Iterator[None]:
    """Has Hydra make this sweeper for its basic one; by name it takes sweepers only from packages of plugins."""
    original = Plugins.instantiate_sweeper

    def instantiate(plugins: Plugins, **parts: Any) -> HydraSweeper:
        basic = parts["config"].hydra.sweeper._target_ == BasicSweeperConf._target_
        return Sweeper(**parts) if basic else original(plugins, **parts)

    with patch.object(Plugins, "instantiate_sweeper", instantiate):
        yield


class Sweeper(HydraSweeper):
    """Hydra's grid of values, made to survive: failures, killed workers, Ctrl-C, and the same command once more.

    Raises:
        SystemExit: If the plugin of the launcher is not installed, with a line that says so.
    """

    def __init__(self, **parts: Any) -> None:
        self.setup(**parts)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Makes the launcher."""
        try:
            launchers.check_installed(config)
        except ValueError as error:
            sys.exit(str(error))
        self.settings = config
        context = HydraContext(cast(ConfigLoader, AsPlanned()), hydra_context.callbacks)
        self.plugin = Plugins.instance().instantiate_launcher(context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Runs the sweep.

        Raises:
            SystemExit: If anything in it is wrong, before any run starts; with status 1 at the end if not all are done.
        """
        try:
            runs = self._plan()
            self.directory = Path(self.settings.hydra.sweep.dir)
            self.directory.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.settings, self.directory / "multirun.yaml")
        except HydraException:  # one of which is an OSError
            raise
        except OSError as error:
            sys.exit(f"hydra.sweep.dir: cannot write into {self.settings.hydra.sweep.dir} ({error.strerror or error})")
        except ValueError as error:
            sys.exit(str(error))
        if any(run.before for run in runs):
            say(announcement(runs))
        try:
            self._launch_all(to_launch(runs))
        except KeyboardInterrupt:
            self._count([standing(run.path) for run in runs])
            if self._is_queue():
                jobs = sorted({folder.name.partition("_")[0] for folder in self.directory.glob(".submitit/*/")})
                say(f"Jobs in the queue go on; `scancel {' '.join(jobs)}` ends them.")
            raise
        except OSError as error:
            say(f"The sweep stops: {error}")
        standings = {run.path: run.before if run.before in DONE else standing(run.path) for run in runs}
        recorded = [gf.open_run(path) for path, status in standings.items() if status]
        if recorded:
            sweep = gf.runlog.Sweep(self.directory, tuple(recorded)).kept()
            print("\n".join([printed(table(sweep)), *not_proved(sweep)]))
        if self._count(standings.values()) < len(runs):
            sys.exit(1)

    def _plan(self) -> list[Planned]:
        try:
            runs = plan(self.settings)
            check_names(to_launch(runs))
            return runs
        except BaseException:
            leave_no_empty_folder()
            raise

    def _launch_all(self, runs: Sequence[Planned]) -> None:
        if not runs:
            return
        size = self.settings.hydra.sweeper.max_batch_size or len(runs)
        batches = [runs[start : start + size] for start in range(0, len(runs), size)]
        with (
            launchers.losses_endured(self.plugin),
            self._interruptible(runs),
            View([run.path for run in runs]) as view,
            launchers.children_without_ctrl_c(self.plugin),
        ):
            for number, batch in enumerate(batches):
                self._launch(batch, number * size, view)

    def _launch(self, runs: Sequence[Planned], first: int, view: View) -> None:
        """Launches runs; if a worker process is killed, joblib kills the others, whose runs are launched again."""
        while runs:
            try:
                self.plugin.launch([[run.overrides] for run in runs], initial_job_idx=first)
                return
            except BrokenProcessPool:
                left = self._after_a_loss(runs, view)
                if len(left) == len(runs):
                    raise ChildProcessError("workers are killed before a run begins: is there enough memory?") from None
                runs = left

    def _after_a_loss(self, runs: Sequence[Planned], view: View) -> list[Planned]:
        """The runs to launch again: all that did not end, but for that whose process died first (if that is known)."""
        wait_for_end([run.path for run in runs])
        statuses = {run: read_status(run.path) for run in runs if view.state(run.path) == "running"}
        first = view.deaths.first()
        lost = [run for run, status in statuses.items() if first in (None, status.get("pid"))]
        for run in lost:
            view.lose(run.path)
        return [run for run in runs if view.state(run.path) in (None, "running")]

    @contextmanager
    def _interruptible(self, runs: Sequence[Planned]) -> Iterator[None]:
        """On Ctrl-C and SIGTERM, runs in other processes save what they recorded before the launcher kills them."""

        def interrupt(signal_number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
            if not self._is_queue():
                held.let_go()
                wait_for_end([run.path for run in runs])
            raise KeyboardInterrupt

        with leash() as held, handled_by(interrupt):
            for run in runs:
                run.overrides.leash = None if self._is_queue() else held.name
            yield

    def _count(self, standings: Collection[str | None]) -> int:
        """Says how many runs are done, how the others stand and how to go on; how many are done."""
        counts = Counter(status or "not started" for status in standings)
        done = sum(counts.pop(state, 0) for state in DONE)
        others = "".join(f", {count} {state}" for state, count in counts.items())
        say(f"{done} of {len(standings)} runs done{others}: {self.directory}")
        if others:
            say(f"The same command with hydra.sweep.dir={self.directory} goes on with what is not done.")
        return done

    def _is_queue(self) -> bool:
        """Whether the runs belong to a queue, where they go on without this process."""
        return type(self.plugin).__name__ == "SlurmLauncher"
