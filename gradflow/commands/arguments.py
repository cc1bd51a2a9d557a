"""The arguments of the reading commands, `key=value` as in Hydra's."""

import gc
import itertools
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from gradflow.checks import shown

LONGEST = 4_000  # characters of a value
REQUIRED = "(required)"
HELP = "--help says what there is"
CONF = next(folder / "conf" for folder in Path(__file__).parents[1:3] if (folder / "conf" / "config.yaml").is_file())
"""Inside of gradflow where it is installed, beside it in a checkout."""
LAUNCHERS = sorted(path.stem for path in CONF.glob("launcher/*.yaml"))


def split_list(text: str) -> list[str]:
    """The entries of a list written with commas, Chinese ones too.

    >>> split_list("王晓丽，李建国, 张伟,")
    ['王晓丽', '李建国', '张伟']
    """
    return [entry.strip() for entry in text.replace("，", ",").split(",") if entry.strip()]


def quoted(value: str) -> str:
    """A value as Hydra reads it whatever it holds: spaces, commas, Chinese characters.

    >>> quoted("结果 1")
    "'结果 1'"
    """
    return "'" + value.replace("'", r"\'") + "'"


def named(key: str) -> str:
    """What was given as the name of an argument, for errors: as it is, or quoted where it is none.

    >>> named("cell.size"), named("a b")
    ('cell.size', "'a b'")
    """
    return key if key.replace(".", "").isidentifier() else shown(key)


def own_folder(name: str) -> str:
    """Makes a folder that is nobody else's: of that name, or where others started in the same second `NAME_2`, ...

    It is what `${own_folder:NAME}` gives in conf/, which asks once and keeps the answer. A folder that cannot be
    made is left to those who need it, who say why.
    """
    for number in itertools.count(1):
        folder = name if number == 1 else f"{name}_{number}"
        made = [place for place in (Path(folder), *Path(folder).parents) if not place.exists()]
        try:
            os.makedirs(folder)
        except FileExistsError:
            continue
        except OSError:
            pass
        else:
            _MADE.extend(made)
        return folder
    raise AssertionError("numbers do not end")


_MADE: list[Path] = []
"""Folders that :func:`own_folder` made, each before the one that it is in."""


def leave_no_empty_folder() -> None:
    """Removes what :func:`own_folder` made and nothing was written into, as of a sweep that is refused."""
    for place in _MADE:
        with suppress(OSError):
            place.rmdir()
    _MADE.clear()


def read_arguments(usage: str | None, arguments: list[str], **defaults: str) -> dict[str, str]:
    """Reads `key=value` arguments; the first key of `defaults` may be left out, as in `compare.py outputs/compare`.

    A value may be empty where its default is.

    Args:
        usage: What `--help` prints.
        arguments: The command line without the program.
        **defaults: Every key with its default, or `REQUIRED`.

    Raises:
        SystemExit: After `--help`, and with a line that says what is wrong: an unknown or missing key, a key given
            twice, an empty value.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage)
        sys.exit(0)
    values: dict[str, str] = {}
    first = next(iter(defaults))
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (equals and key in defaults):
            if argument in defaults and argument != first and not _exists(argument):
                sys.exit(f"{argument}: expected {argument}=VALUE, got nothing; {HELP}")
            if argument.startswith("-") or (equals and not _exists(argument)):
                near = get_close_matches(key, defaults, n=1)
                advice = f"did you mean {near[0]}?" if near else HELP
                sys.exit(f"{named(key)}: expected one of {', '.join(defaults)}, got {shown(argument)}; {advice}")
            key, value = first, argument  # folders of runs are called cell=gru,clip=norm
        if key in values:
            sys.exit(f"{key}: expected one value, got {shown(values[key])} and {shown(value)}; {HELP}")
        values[key] = value
    for key, default in defaults.items():
        value = values.setdefault(key, default)
        if value == REQUIRED or (default and not value.strip()):
            sys.exit(f"{key}: expected {key}=VALUE, got nothing; {HELP}")
        if "\0" in value or len(value) > LONGEST:
            sys.exit(f"{key}: expected a value of at most {LONGEST:,} characters, got {shown(value)}")
    return values


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def collect_rarely() -> None:
    """Has Python look for garbage rarely: imports, tables and figures make many objects, few of them garbage.

    It saves a tenth of the time.
    """
    gc.set_threshold(20_000, 50, 100)


def drawing_processes() -> int:
    """How many processes draw: two, where there are cores for it."""
    return min(2, os.cpu_count() or 1)


def figures_folder(out: str, runs: Path, lang: str) -> Path:
    """Where figures go: into the folder that was asked for, or `figures/LANG` in that of the runs.

    Raises:
        ValueError: If a link there leads elsewhere: whoever made the runs is not to choose where files are written.
    """
    folder = runs / "figures" / lang
    for place in (folder.parent, folder):
        if not out and place.is_symlink():
            raise ValueError(f"out: expected a folder for the figures, got the link {place}; choose one by out=FOLDER")
    return Path(out) if out else folder


def elsewhere(error: OSError, out: str) -> OSError:
    """The error of a file that cannot be written, which also says that figures may go elsewhere."""
    hint = "" if out else "; out=FOLDER puts the figures elsewhere"
    return OSError(error.errno, f"{error.strerror or error}{hint}", error.filename)


def check_look(arguments: Mapping[str, str]) -> None:
    """Compares `lang` and `context` of the command line with those that figures have.

    Raises:
        SystemExit: With a line that says which is wrong.
    """
    from gradflow.figures.theme import CONTEXTS, LANGUAGES

    for argument, known in {"lang": LANGUAGES, "context": tuple(CONTEXTS)}.items():
        if arguments[argument] not in known:
            sys.exit(f"{argument}: expected one of {', '.join(known)}, got {named(arguments[argument])}")
