"""Chinese in and out of the commands, whatever the system holds text in."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper


def speak_any() -> None:
    r"""Has a command open files of any name, and never end because of what it prints.

    Where files are named in another encoding than UTF-8 (LANG=C without Python's own remedy), the program starts once
    more in Python's UTF-8 mode (PEP 540), and prints in the encoding that it had. What an output cannot show is
    spelt out, such as \u738b.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8":
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def what_is_no_text(arguments: Sequence[str]) -> str:
    """What is wrong with the command line, or the current folder, that was written in another encoding; or nothing.

    Args:
        arguments: The command line without the program.
    """
    for name, text in (("current folder", _here()), *(("command line", word) for word in arguments)):
        try:
            text.encode()
        except UnicodeEncodeError:  # a byte that is none of UTF-8, see PEP 383
            return (
                f"{name}: expected text in UTF-8, got {os.fsencode(text)!r}; let the terminal write UTF-8, and give "
                f"what is named otherwise a new name"
            )
    return ""


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed; whoever needs it says so
        return ""
