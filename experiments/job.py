"""One run: settings in, a run folder out, and whatever goes wrong written down where it is looked for."""

import logging
import multiprocessing
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import gradflow as gf
from experiments.report import describe
from experiments.settings import CONF, to_config

log = logging.getLogger(__name__)


def job(settings: DictConfig) -> str:
    """Trains one run in the folder that Hydra made for it.

    In a sweep a failure is written to the run's `status.json` and log file and the other runs go on; alone it ends
    the program with exit status 1 and one line, the traceback being in the log file.

    Returns:
        The state the run ended in: finished, diverged or failed.
    """
    path = Path(HydraConfig.get().runtime.output_dir)
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    if sweeping:
        _keep_off_the_console()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        _train(settings, path, progress=not sweeping and sys.stderr.isatty())
    except KeyboardInterrupt:
        _mark(path, "interrupted")
        if multiprocessing.current_process().name != "MainProcess":
            os._exit(130)  # a worker process would go on with the next run
        raise
    except Exception as error:
        foreseen = isinstance(error, (ValueError, OSError))  # wrong settings and files, which the message explains
        message = str(error) if foreseen else f"{type(error).__name__}: {error}"
        log.debug("The run failed", exc_info=True)
        _mark(path, "failed", error=message, error_traceback=traceback.format_exc())
        if not sweeping:
            log.error(message if foreseen else f"{message}\nThe traceback is in {path}.")
            sys.exit(1)
        return "failed"
    run = gf.open_run(path)
    log.info("%s; %s", describe(run), path)
    return run.status


def _train(settings: DictConfig, path: Path, *, progress: bool) -> None:
    config = to_config(settings)
    import torch  # here, so that --help and wrong settings do not wait for it

    from gradflow.training import train

    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)  # vanished gradients of training are slow as denormals; the log has its own scale
    # oneDNN's LSTM takes up to twice as long to train on such short sequences
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        train(config, path, progress=progress)
    finally:
        torch.set_flush_denormal(False)


def _mark(path: Path, state: str, error: str | None = None, error_traceback: str | None = None) -> None:
    """Writes how a run ended, unless the recorder was already there to do so."""
    from gradflow.runlog import write_status

    if not (path / "status.json").is_file() or gf.open_run(path).status == "running":
        write_status(path, state, error=error, error_traceback=error_traceback)


def _keep_off_the_console() -> None:
    """Leaves the console to the sweep's progress; the run's log file keeps everything."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


def interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Ends a run the same way on SIGTERM as on Ctrl-C; further signals would only disturb the saving of its log."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # SIG_IGN would make noise about a signal that is on its way
    raise KeyboardInterrupt


def main() -> None:
    """The command line: one run, or with `-m` or an experiment of its own a sweep."""
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: what was recorded until now can be read.\n")
        sys.exit(130)
