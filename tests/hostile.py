"""Trials of hostile inputs: what a command answered, as one of six verdicts, and a table of them.

    GRADFLOW_HOSTILE=verdicts.jsonl python -m pytest -m "" tests/test_hostile_*.py
    python -m tests.hostile verdicts.jsonl

Only `clear` is good: one to three lines that name what is wrong, or a trial that did what it should.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

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
    text = done.stdout + done.stderr
    if "Traceback (most recent call last)" in text:
        return "traceback", text
    if done.returncode == 0:
        return "silent", text
    error = [line for line in (done.stderr.strip() or done.stdout).splitlines() if line.strip()]
    named = not names or any(name in line for name in names for line in error)
    return "clear" if 0 < len(error) <= LONGEST_ERROR and named else "unclear", text


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
