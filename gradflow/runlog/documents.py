"""The two JSON documents of a run folder.

`run.json` is written once, but for a note on each resumption; `status.json` is the one that changes.
"""

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa

from gradflow import __version__
from gradflow.files import write_files
from gradflow.runlog.columns import checked_columns
from gradflow.runlog.schema import SCHEMA_VERSION, Label
from gradflow.runlog.unreadable import (
    Fields,
    Unreadable,
    check_depth,
    check_fields,
    read_json,
    unreadable,
)

STATES = ("running", "finished", "diverged", "failed", "interrupted")

_NUMBER, _TEXT = (int, float), (str, NoneType)
_DESCRIPTION: Fields = {
    **dict.fromkeys(("config", "columns", "modules"), (dict,)),
    "resumptions": (list,),
    **dict.fromkeys(("schema_version", "threads"), (int,)),
    "proof_tolerance": (*_NUMBER, NoneType),
    "flush_seconds": _NUMBER,
    "device": (str,),
}
_OF_TASK: Fields = {
    "classes": (list,),
    **dict.fromkeys(("chance", "chance_loss"), (*_NUMBER, NoneType)),
    "success": (dict, NoneType),
}
_SUCCESS: Fields = {"quantity": (str,), "threshold": _NUMBER}
_STATUS: Fields = {
    **dict.fromkeys(("error", "error_traceback", "config_hash", "host", "updated"), _TEXT),
    **dict.fromkeys(("iteration", "pid"), (int, NoneType)),
    "state": (str,),
}


def write_status(
    path: str | os.PathLike[str],
    state: str,
    *,
    error: str | None = None,
    error_traceback: str | None = None,
    iteration: int | None = None,
    config_hash: str | None = None,
) -> None:
    """Replace `status.json` of the run folder `path` (made if missing), atomically.

    Where they are not given, `config_hash` is kept from the status before, and so is `iteration` unless the run starts
    (`running`); an error is never kept.

    Args:
        path: the run folder.
        state: "running", "finished", "diverged", "failed" or "interrupted".
        error: what went wrong, in one line.
        error_traceback: the whole traceback.
        iteration: the last iteration, or the one that diverged.
        config_hash: see :func:`config_hash`; tells whether a run was made with the same settings.

    Raises:
        ValueError: the state is none of the above (`lost` is concluded by the reader, never stored).
    """
    if state not in STATES:
        raise ValueError(f"state: expected one of {', '.join(STATES)}, got {state!r}")
    path = Path(path)
    before = _status_before(path)
    if iteration is None and state != "running":
        iteration = before.get("iteration")
    path.mkdir(parents=True, exist_ok=True)
    status = {
        "state": state,
        "iteration": iteration,
        "error": error,
        "error_traceback": error_traceback,
        "config_hash": config_hash or before.get("config_hash"),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "updated": _now(),
    }
    write_json(path / "status.json", status)


def was_written_here(path: Path) -> bool:
    """Whether this process wrote the `status.json` of a run folder."""
    status = read_status(path)
    return (status.get("pid"), status.get("host")) == (os.getpid(), socket.gethostname())


def write_description(
    path: Path, *, meta: dict, config: dict | None, seed: int | None, columns: dict[str, dict[str, Label]]
) -> None:
    """Write `run.json`: `meta`, and beside it what the log itself knows (which wins where names are equal)."""
    own = {
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        **_circumstances(),
        "config": config or {},
        "columns": {
            table: {name: label._asdict() for name, label in labels.items()} for table, labels in columns.items()
        },
    }
    write_json(path / "run.json", meta | own)


def note_resumption(path: Path, iteration: int, facts: dict) -> None:
    """Add an entry to `resumptions` in `run.json`, which keeps the rest as it is."""
    description = read_description(path)
    entry = {"iteration": iteration, **_circumstances(), **facts}
    description["resumptions"] = [*description.get("resumptions", []), entry]
    write_json(path / "run.json", description)


def read_description(path: Path) -> dict[str, Any]:
    """`run.json` of the run folder `path`, empty if there is none yet.

    Raises:
        Unreadable: it is damaged, of other contents, or a later gradflow wrote it.
    """
    file = path / "run.json"
    description = read_json(file)
    check_fields(file, description, {"schema_version": (int,)})
    version = description.get("schema_version", SCHEMA_VERSION)
    if version > SCHEMA_VERSION:
        expected = f"a schema version up to {SCHEMA_VERSION}, which gradflow {__version__} reads"
        raise unreadable(file, expected, f"{version}", "install a newer gradflow")
    check_fields(file, description, _DESCRIPTION)
    data = description.get("config", {}).get("data")
    if isinstance(data, dict) and "source" in data:  # other scripts may mean anything by these names
        check_fields(file, description, _OF_TASK)
        check_fields(file, description.get("success") or {}, _SUCCESS, "success.")
    check_fields(
        file, description.get("modules", {}), dict.fromkeys(description.get("modules", {}), (str,)), "modules."
    )
    if "columns" in description:
        description["columns"] = checked_columns(file, description["columns"])
    check_depth(file, description.get("config", {}))
    for entry in description.get("resumptions", []):
        if not isinstance(entry, dict):
            raise unreadable(file, "objects in resumptions", repr(entry))
        check_fields(file, entry, {"proof_tolerance": (*_NUMBER, NoneType)}, "resumptions.")
    return description


def read_status(path: Path) -> dict[str, Any]:
    """`status.json` of the run folder `path`, empty if there is none yet.

    Raises:
        Unreadable: it is damaged, or of other contents.
    """
    file = path / "status.json"
    status = read_json(file)
    check_fields(file, status, _STATUS)
    if status and status.get("state") not in STATES:
        raise unreadable(file, f"one of {', '.join(STATES)} as state", repr(status.get("state")))
    return status


def _status_before(path: Path) -> dict[str, Any]:
    try:
        return read_status(path)
    except Unreadable:  # it is about to be replaced
        return {}


def config_hash(config: dict) -> str:
    """A hash of the settings that does not depend on their order.

    >>> config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=plain).encode()).hexdigest()


def write_json(path: Path, content: dict) -> None:
    """Write a file that is seen either as it was or complete."""
    text = json.dumps(content, ensure_ascii=False, indent=1, default=plain)
    write_files({path: f"{text}\n".encode()})


def plain(value: Any) -> Any:
    """Array scalars as Python numbers, anything else that JSON lacks as text."""
    return value.item() if getattr(value, "ndim", None) == 0 else str(value)


def _circumstances() -> dict[str, Any]:
    return {
        "created": _now(),
        "versions": _versions(),
        "git_commit": _git_commit(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _versions() -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "gradflow": __version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }
    if "torch" in sys.modules:
        versions["torch"] = str(sys.modules["torch"].__version__)
    return versions


def _git_commit() -> str | None:
    """The commit of the working directory, if that is a git repository."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
