"""How the folder of a run stands before the run: free, done, recorded into by another process, or to be redone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradflow as gf
from gradflow.config import Config

if TYPE_CHECKING:
    from gradflow.runlog.lock import Lock

DONE = ("finished", "diverged")
OF_THE_MACHINE = {"name", "threads", "device"}  # settings that may differ between a run and its continuation
LEFTOVERS = ("gradients", "run.json", "model.safetensors", "vocabulary.json")


def standing(path: Path) -> str | None:
    """The status of the run in a folder, `unreadable` if a document of it is damaged, None if there is none.

    A run that says `running` under the number of the process that asks, which does not hold the folder, is lost: the
    number is that of another process before it.
    """
    try:
        _, status = gf.open_run(path).config, gf.open_run(path).status
    except FileNotFoundError:
        return None
    except gf.runlog.Unreadable:
        return "unreadable"
    from gradflow.runlog.documents import was_written_here
    from gradflow.runlog.lock import is_held_here

    return "lost" if status == "running" and was_written_here(path) and not is_held_here(path) else status


def is_recorded_elsewhere(path: Path) -> bool:
    """Whether another process than the one that asks records into a folder."""
    from gradflow.runlog.lock import is_held_here

    return standing(path) == "running" and not is_held_here(path)


def read_status(path: Path) -> dict[str, Any]:
    """What `status.json` says, empty if there is none yet, or nothing that can be read."""
    with suppress(FileNotFoundError, ValueError):
        status = json.loads((path / "status.json").read_text(encoding="utf-8"))
        return status if isinstance(status, dict) else {}
    return {}


def claim(path: Path) -> Lock:
    """Takes the folder of a run for this process.

    Raises:
        FileExistsError: If it holds a recorded run, or one that has begun; with its status.
    """
    from gradflow.runlog.lock import take

    before = standing(path)
    if before != "running" and not (before and (path / "run.json").is_file()):
        try:
            return take(path, reserve=True)
        except FileExistsError as error:
            if error.errno is not None:
                raise
            before = "running"
    raise FileExistsError(
        f"hydra.run.dir: expected a folder without a recorded run, got {path}, which holds one ({before}); "
        f"choose another folder, or delete that one"
    )


def occupy(path: Path) -> Lock | None:
    """Takes the folder of a run for this process, and removes what an attempt before left in it.

    Returns:
        The hold on the folder; None if the run is done, or another process records it.
    """
    if standing(path) in (*DONE, "running"):
        return None
    from gradflow.runlog import write_status
    from gradflow.runlog.lock import take

    try:
        lock = take(path, reserve=True)
    except FileExistsError as error:
        if error.errno is not None:
            raise
        return None
    if read_status(path).get("state") in DONE:  # another process was faster
        lock.release()
        return None
    write_status(path, "running")
    for name in LEFTOVERS:
        leftover = path / name
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    return lock


def holds_rows(path: Path) -> bool:
    """Whether anything was recorded in a folder."""
    from gradflow.runlog.parts import has_parts

    return has_parts(path / "gradients")


def check_settings(path: Path, config: Config) -> None:
    """Compares the run in a folder with the settings that are asked for.

    Raises:
        ValueError: If they differ, with the first setting that does.
    """
    recorded, asked = gf.open_run(path).config, _plain(config)
    for name, before, now in _differences(recorded, asked, _defaults()):
        raise ValueError(
            f"{name}: expected {before}, with which {path} was recorded, got {now}; nothing was changed. "
            f"Choose another folder with hydra.sweep.dir=PATH, or delete that one to train it anew"
        )


@cache
def _defaults() -> dict[str, Any]:
    return _plain(Config())


def _plain(config: Config) -> dict[str, Any]:
    """The settings as they are kept in `run.json`."""
    settings = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in settings.items() if name not in OF_THE_MACHINE}


def _differences(recorded: dict, asked: dict, default: dict, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, value then and value now of each setting that differs; one that was not known then had its default."""
    for key, now in asked.items():
        before = recorded.get(key, default[key])
        if isinstance(now, dict):
            yield from _differences(before, now, default[key], f"{above}{key}.")
        elif before != now:
            yield f"{above}{key}", before, now
