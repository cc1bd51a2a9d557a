"""What arguments of the commands mean: lists, folders, values in Hydra's quotes."""

import gc
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradflow.checks import shown
from gradflow.commands.columns import told

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


def collect_rarely() -> None:
    """Has Python look for garbage rarely: imports, tables and figures make many objects, few of them garbage.

    It saves a tenth of the time.
    """
    gc.set_threshold(20_000, 50, 100)


def collect_as_usual() -> None:
    """Has Python look for garbage as it does by itself: that of a training may hold tensors."""
    gc.set_threshold(*_USUAL)


_USUAL = gc.get_threshold()


def drawing_processes() -> int:
    """How many processes draw: two, where there are cores for it."""
    return min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Look:
    """How figures are asked for, by the words of that name."""

    lang: str
    context: str
    theme: str
    svg: str = "paths"

    @property
    def options(self) -> dict[str, Any]:
        """Of what draws."""
        return {"lang": self.lang, "context": self.context, "theme": self.theme}

    @property
    def files(self) -> dict[str, Any]:
        """Of what writes."""
        return {"svg_text": self.svg == "text"}

    @property
    def folder(self) -> str:
        """The name of a folder of them: the language, and of dark ones that they are, so that both can lie there."""
        return self.lang if self.theme == "light" else f"{self.lang}-{self.theme}"


def figures_folder(out: str, runs: Path, look: Look) -> Path:
    """Where figures go: into the folder that was asked for, or `figures/LANG` in that of the runs.

    Raises:
        ValueError: If a link there leads elsewhere: whoever made the runs is not to choose where files are written.
    """
    folder = runs / "figures" / look.folder
    for place in (folder.parent, folder):
        if not out and place.is_symlink():
            raise ValueError(f"out: expected a folder for the figures, got the link {place}; choose one by out=FOLDER")
    return Path(out) if out else folder


def elsewhere(error: OSError, out: str) -> OSError:
    """The error of a file that cannot be written, which also says that figures may go elsewhere."""
    hint = "" if out else "; out=FOLDER puts the figures elsewhere"
    return OSError(error.errno, f"{error.strerror or error}{hint}", error.filename)


@contextmanager
def errors_told(out: str, path: str = "run") -> Iterator[None]:
    """Ends the program with one line where something inside cannot be read, drawn or written.

    Args:
        out: Where figures were asked to go; empty: beside the runs.
        path: What the command calls the folder of the runs.
    """
    try:
        yield
    except FileNotFoundError as error:
        sys.exit(told(error, path))
    except OSError as error:
        sys.exit(told(elsewhere(error, out)))
    except ValueError as error:
        sys.exit(told(error, path))
