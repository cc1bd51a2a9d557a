"""How bad input is answered: one verdict for each trial. `GRADFLOW_HOSTILE=FILE` collects them as JSON lines."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

VERDICTS = ("clear", "unclear", "traceback", "silent", "hang", "lost")
TRACEBACK = "Traceback (most recent call last)"
MOST_LINES = 3
LONGEST = 2_000  # characters of an answer


def judge(command: Sequence[str], cwd: Path, names: Collection[str] = (), timeout: float = 60) -> tuple[str, str]:
    """The verdict on a command that is to fail, and what it said.

    Args:
        command: what to run; it is given no input.
        cwd: where.
        names: the answer must hold one of them, if there are any.
        timeout: seconds until it counts as hanging; all its processes are then killed.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=cwd, start_new_session=True, text=True, errors="replace", **pipes)
    try:
        text, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        return "hang", text
    if TRACEBACK in text:
        return "traceback", text
    if process.returncode == 0:
        return "silent", text
    return judge_text(text, names), text


def judge_call(call: Callable[[], Any], names: Collection[str] = ()) -> tuple[str, str]:
    """The verdict on a call that is to raise, and what it said; see :func:`judge`."""
    try:
        call()
    except (ValueError, TypeError, OSError) as error:
        return judge_text(str(error), names), f"{type(error).__name__}: {error}"
    except SystemExit as error:
        return judge_text(str(error.code), names), str(error.code)
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return "silent", ""


def judge_text(text: str, names: Collection[str]) -> str:
    """Whether an error is short and says what it is about."""
    short = len(text.strip().splitlines()) <= MOST_LINES and len(text) <= LONGEST
    return "clear" if short and text.strip() and (not names or any(name in text for name in names)) else "unclear"


def record(area: str, trial: str, verdict: str) -> None:
    """Adds a verdict to the file that `GRADFLOW_HOSTILE` names, if it does."""
    assert verdict in VERDICTS
    if file := os.environ.get("GRADFLOW_HOSTILE"):
        line = json.dumps({"area": area, "trial": trial, "verdict": verdict, "time": time.time()}, ensure_ascii=False)
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(line + "\n")
