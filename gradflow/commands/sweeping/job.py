"""One run: settings in, a run folder out, and whatever goes wrong written down where it is looked for."""

import logging
import os
import sys
import threading
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from tqdm import tqdm

import gradflow as gf
from gradflow.commands.arguments import collect_as_usual
from gradflow.commands.report import describe
from gradflow.commands.sweeping.settings import check_presets, to_config
from gradflow.commands.sweeping.signals import LEASH, handled_by, interrupt, leashed
from gradflow.commands.sweeping.standing import claim, is_recorded_elsewhere, occupy, standing

log = logging.getLogger(__name__)
logging.raiseExceptions = False  # a log file that cannot be written (disk full) would print a traceback for every line

tqdm.set_lock(threading.RLock())  # its default is shared between processes, and an interrupted worker would leak it


def job(settings: DictConfig) -> str:
    """Trains one run in the folder that Hydra made for it.

    In a sweep a failure is written to the run's `status.json` and log file and the other runs go on; alone it ends
    the program with exit status 1 and one line, the traceback being in the log file.

    Returns:
        The state the run ended in: finished, diverged or failed; of a run that was left alone, its status.
    """
    collect_as_usual()
    hydra_config = HydraConfig.get()
    path = Path(hydra_config.runtime.output_dir)
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    worker = sweeping and not hydra_config.launcher._target_.endswith(".BasicLauncher")
    if sweeping:
        _keep_off_the_console()
        os.chdir(hydra_config.runtime.cwd)  # workers on another machine start elsewhere
    with handled_by(interrupt), leashed(os.environ.get(LEASH) if worker else None), ExitStack() as hold:
        try:
            lock = occupy(path) if sweeping else claim(path)
            if lock is None:
                log.info("%s is left alone: it is done, or another process records it", path)
                return standing(path) or "running"
            hold.callback(lock.release)
            _train(settings, path, progress=not sweeping and sys.stderr.isatty())
        except KeyboardInterrupt:
            _mark(path, "interrupted")
            if worker:
                os._exit(130)  # it would go on with the next run
            raise
        except SystemExit:
            _mark(path, "interrupted", error="ended by its queue, such as at the time limit")
            raise
        except Exception as error:
            foreseen = isinstance(error, (ValueError, OSError, ModuleNotFoundError))  # which the message explains
            message = str(error) if foreseen else f"{type(error).__name__}: {error}"
            log.debug("The run failed", exc_info=True)
            if not isinstance(error, FileExistsError):  # the run that is there did not fail
                _mark(path, "failed", error=message, error_traceback=traceback.format_exc())
            if not sweeping:
                log.error(message if foreseen else f"{message}\nThe traceback is in {path}.")
                sys.exit(1)
            return "failed"
    run = gf.open_run(path)
    log.info("%s; %s", describe(run), path)
    return run.status


def _train(settings: DictConfig, path: Path, *, progress: bool) -> None:
    check_presets(HydraConfig.get().overrides.task, settings)
    config = to_config(settings)
    import torch  # here, so that --help and wrong settings do not wait for it

    from gradflow.training.loop import train

    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)  # vanished gradients of training are slow as denormals; the log has its own scale
    # oneDNN's LSTM takes up to twice as long to train on such short sequences
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        train(config, path, progress=progress)
    finally:
        torch.set_flush_denormal(False)


def _mark(path: Path, state: str, error: str | None = None, error_traceback: str | None = None) -> None:
    """Writes how a run ended, unless another process records into its folder."""
    from gradflow.runlog import write_status

    with suppress(OSError):  # the disk that the run failed for may have no room for this either
        if not is_recorded_elsewhere(path):
            write_status(path, state, error=error, error_traceback=error_traceback)


def _keep_off_the_console() -> None:
    """Leaves the console to the sweep's progress; the run's log file keeps everything."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)
