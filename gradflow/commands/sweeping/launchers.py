"""The launchers of `conf/launcher/`: those that are not installed, and what the others do when a run's process dies."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from gradflow.commands.sweeping.view import say

PLUGINS = {  # Hydra's name of a launcher: the package of its plugin, and our extra that installs it
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "ray": ("hydra_ray_launcher", "ray"),
}


def installed(launcher: str) -> bool:
    """Whether the plugin of one of Hydra's launchers can be imported."""
    try:
        return find_spec(f"hydra_plugins.{PLUGINS[launcher][0]}") is not None
    except ModuleNotFoundError:  # no plugin at all
        return False


def name_missing_plugins() -> None:
    """Puts a configuration in the place of each launcher that is missing, so that we say how to install it.

    Hydra itself would say that it could not find 'hydra/launcher/joblib'.
    """
    for launcher, (_, extra) in PLUGINS.items():
        if not installed(launcher):
            node = {"_target_": f"hydra_plugins.gradflow.{launcher}", "missing_extra": extra}
            ConfigStore.instance().store(group="hydra/launcher", name=launcher, node=node)


def check_installed(config: DictConfig) -> None:
    """Raises where the chosen launcher is missing.

    Raises:
        ValueError: With the extra that installs it.
    """
    if extra := config.hydra.launcher.get("missing_extra"):
        choice = config.hydra.runtime.choices.get("launcher")
        raise ValueError(
            f"launcher={choice}: its plugin is not installed; install it by pip install 'gradflow-rnn[{extra}]', "
            f"or use launcher=local"
        )


@contextmanager
def losses_endured(launcher: Any) -> Iterator[None]:
    """While submitit or Ray waits for its jobs, one that is killed counts as ended, and the wait goes on.

    Both plugins would give up at the first. What became of its run is read from the run's folder. To be entered before
    signals are handled, as Ray handles them its own way when it starts.
    """
    name = type(launcher).__name__
    with ExitStack() as around:
        if name in ("SlurmLauncher", "LocalLauncher"):
            import submitit
            from submitit.core.utils import FailedJobError, UncompletedJobError

            around.enter_context(_enduring(submitit.Job, "results", (UncompletedJobError, FailedJobError), [lost()]))
        if name == "RayLauncher":
            import ray

            if not ray.is_initialized():
                ray.init(**launcher.ray_cfg.init)
            around.enter_context(_enduring(ray, "get", (ray.exceptions.RayError,), lost()))
        yield


@contextmanager
def children_without_ctrl_c(launcher: Any) -> Iterator[None]:
    """Keeps Ctrl-C from the processes that submitit starts here: its own print tracebacks, and ours get SIGTERM.

    They inherit the mask of this thread. To be entered when another thread is there, which then takes the signal.
    """
    numbers = {signal.SIGINT} if type(launcher).__name__ == "LocalLauncher" else set()
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def lost() -> JobReturn:
    """What stands for the return of a job whose process died."""
    return JobReturn(status=JobStatus.COMPLETED, _return_value="lost")


def _essence(error: Exception) -> str:
    """The line that names an error, of a message that may hold a traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in reversed(lines) if "Error: " in line), lines[0])


def _enduring(owner: Any, name: str, kinds: tuple[type[Exception], ...], instead: object) -> Any:
    original: Callable[..., Any] = getattr(owner, name)

    def endure(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except kinds as error:
            say(f"A job of the sweep ended early: {_essence(error)}")
            return instead

    return patch.object(owner, name, endure)
