"""Trials of hostile inputs: what a command answered, as one of six verdicts, and a table of them.

    GRADFLOW_HOSTILE=verdicts.jsonl python -m pytest -m "" tests/test_hostile_*.py
    python -m tests.hostile verdicts.jsonl

Only `clear` is good: one to three lines that name what is wrong, or a trial that did what it should.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

VERDICTS = ("clear", "unclear", "traceback", "silent", "hang", "lost")
LONGEST_ERROR = 3  # lines
FILE = "GRADFLOW_HOSTILE"  # the environment variable that names the file of verdicts


def judge(
    command: Sequence[str], cwd: str | os.PathLike[str], names: Sequence[str] = (), timeout: float = 60
) -> tuple[str, str]:
    """Runs a command that is expected to refuse something, and judges its answer.

    Args:
        command: program and arguments.
        cwd: where it runs.
        names: texts of which a clear error holds at least one: the argument, the file. None asked for if empty.
        timeout: seconds after which it hangs.

    Returns:
        The verdict, and all that the command said: standard output, then standard error. The error is the standard
        error output without empty lines, or all that was said if that is empty.
    """
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(command, cwd=cwd, timeout=timeout, **options)
    except subprocess.TimeoutExpired as expired:
        return "hang", "".join((part or b"").decode(errors="replace") for part in (expired.stdout, expired.stderr))
    return verdict(done.returncode, done.stdout, done.stderr, names)


class Hang(BaseException):
    """A command takes too long; no OSError, as a TimeoutError is, which commands answer as one of a file."""


def judge_here(
    main: Callable[[], None], capsys: pytest.CaptureFixture[str], names: Sequence[str] = (), timeout: int = 180
) -> tuple[str, str]:
    """As :func:`judge`, of a command that runs in this process, which saves the seconds that it takes to import it."""

    def hangs(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, hangs)
    log, handlers = logging.getLogger(), logging.getLogger().handlers
    log.handlers = []  # a command brings its own
    capsys.readouterr()
    signal.alarm(timeout)
    code: object = 0
    try:
        main()
    except SystemExit as ending:
        code = ending.code
    except Hang:
        return "hang", "".join(capsys.readouterr())
    except BaseException:
        code = traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        log.handlers = handlers
    out, error = capsys.readouterr()
    return verdict(int(code not in (None, 0)), out, error + (code if isinstance(code, str) else ""), names)


def verdict(status: int, out: str, error: str, names: Sequence[str]) -> tuple[str, str]:
    """What :func:`judge` returns, of what a command said and its exit status."""
    text = out + error
    if "Traceback (most recent call last)" in text:
        return "traceback", text
    if status == 0:
        return "silent", text
    lines = [line for line in (error.strip() or out).splitlines() if line.strip()]
    named = not names or any(name in line for name in names for line in lines)
    return "clear" if 0 < len(lines) <= LONGEST_ERROR and named else "unclear", text


def record(area: str, trial: str, verdict: str) -> None:
    """Appends a verdict to the file that the environment variable GRADFLOW_HOSTILE names, if it is set."""
    assert verdict in VERDICTS, verdict
    if path := os.environ.get(FILE):
        line = json.dumps({"area": area, "trial": trial, "verdict": verdict}, ensure_ascii=False)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def table(lines: Sequence[str]) -> str:
    """How often each verdict fell in each area, a row per area and one for all."""
    counts: dict[str, Counter[str]] = {}
    for line in filter(str.strip, lines):
        entry = json.loads(line)
        counts.setdefault(entry["area"], Counter())[entry["verdict"]] += 1
    counts["all"] = sum(counts.values(), Counter())
    wide = max(map(len, counts))
    head = f"{'':{wide}}  trials  " + "  ".join(VERDICTS)
    rows = [
        f"{area:{wide}}  {count.total():6}  " + "  ".join(f"{count[name]:{len(name)}}" for name in VERDICTS)
        for area, count in counts.items()
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text("utf-8").splitlines()))
