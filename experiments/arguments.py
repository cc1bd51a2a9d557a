"""The arguments of the reading commands, `key=value` as everywhere in `experiments/`."""

import sys
from collections.abc import Mapping
from pathlib import Path

REQUIRED = "(required)"
LAUNCHERS = sorted(path.stem for path in Path(__file__).parents[1].glob("conf/launcher/*.yaml"))


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


def read_arguments(usage: str | None, arguments: list[str], **defaults: str) -> dict[str, str]:
    """Reads `key=value` arguments; the first key of `defaults` may be left out, as in `compare.py outputs/compare`.

    Args:
        usage: What `--help` prints, and what comes before an error.
        arguments: The command line without the program.
        **defaults: Every key with its default, or `REQUIRED`.

    Raises:
        SystemExit: After `--help`, and with a line that says what is wrong: an unknown or missing key.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage)
        sys.exit(0)
    values = dict(defaults)
    first = next(iter(defaults))
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in defaults:
            values[key] = value
        elif argument in defaults and argument != first and not Path(argument).exists():
            sys.exit(f"{usage}\n{argument}: expected {argument}=VALUE, got nothing")
        elif not equals or Path(argument).exists():  # folders of runs are called cell=gru,clip=norm
            values[first] = argument
        else:
            sys.exit(f"{usage}\n{key}: expected one of {', '.join(defaults)}, got {argument!r}")
    missing = [key for key, value in values.items() if defaults[key] == REQUIRED and value in ("", REQUIRED)]
    if missing:
        sys.exit(f"{usage}\n{missing[0]}: expected {missing[0]}=VALUE, got nothing")
    return values


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
            sys.exit(f"{argument}: expected one of {', '.join(known)}, got {arguments[argument]}")
