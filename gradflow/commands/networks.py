"""Networks for a figure that is asked for without runs: the smallest training that shows what it claims, kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from gradflow.checks import did_you_mean, shown
from gradflow.commands.arguments import CONF, Look, named, quoted
from gradflow.commands.choices import GROUPS, SETTINGS
from gradflow.commands.words import Told
from gradflow.figures.room import Room, rooms
from gradflow.foreign import file_name

if TYPE_CHECKING:
    from gradflow.runlog import Sweep

FOLDER = Path("outputs/figures")
"""Where figures go that no folder of runs was given for, and the networks that were trained for them."""
PAIR = {"cell", "init"}
"""What `network=` chooses."""


def key_of(word: str) -> str:
    """The setting that a word is of.

    >>> key_of("cell.name=lstm")
    'cell.name'
    """
    return word.partition("=")[0].lstrip("+")


def _group(word: str) -> str:
    return key_of(word).removesuffix(".name")


def training_of(figure: str, settings: Sequence[str]) -> list[str]:
    """The settings of the training that a figure is of: its own, but for those that were given.

    A cell or a start that is given takes the place of the networks that the figure else compares; another experiment
    that of the whole training.

    Raises:
        ValueError: The figure needs no network, or cannot be of these.
    """
    room = rooms()[figure]
    _check_cells(room, settings)
    if room.kind == "picture" and _learns_a_task(settings):
        raise ValueError(f"data: expected names for {figure}, such as data=generated, got {' '.join(settings)}")
    given = {_group(word) for word in settings}
    own = [] if "experiment" in given else room.training.split()
    if "network" in given:
        own = [word for word in own if _group(word) not in PAIR]
    elif given & PAIR and own:
        own = [*(word for word in own if _group(word) != "network"), "network=none"]
    if _learns_a_task(settings):
        own = [word for word in own if key_of(word) != "data.names_per_sequence"] + ["data.names_per_sequence=1"]
    keys = {key_of(word) for word in settings}
    return [*(word for word in own if _group(word) not in given and key_of(word) not in keys), *settings]


def _learns_a_task(settings: Sequence[str]) -> bool:
    from gradflow.tasks import problem_names

    return any(_value(word) in problem_names() for word in settings if key_of(word) in ("data", "data.source"))


def _value(word: str) -> str:
    return word.partition("=")[2].strip("'\"")


def _check_cells(room: Room, settings: Sequence[str]) -> None:
    """Raises a ValueError where a figure is of cells with gates, and another is given."""
    from gradflow.cells.facts import CELLS

    if not room.gated:
        return
    gated = [name for name, facts in CELLS.items() if facts.keeping_gate]
    for word in settings:
        for value in _value(word).split(",") if key_of(word) in ("cell", "cell.name", "network") else ():
            file = CONF / "network" / f"{value}.yaml"
            known = key_of(word) == "network" and file.is_file()
            cell = yaml.safe_load(file.read_text(encoding="utf-8"))["cell"]["name"] if known else value
            if cell in CELLS and cell not in gated:
                raise ValueError(
                    f"{key_of(word)}: expected a cell with gates for {room.name} ({', '.join(gated)}), got {value}; "
                    f"choose one of them, or another figure"
                )


def networks(figure: str, settings: Sequence[str]) -> Sweep:
    """The networks that a figure is of, trained unless they are there.

    Raises:
        ValueError: The settings are wrong, or not of what the figure can show.
        KeyboardInterrupt: It was interrupted; what was trained is kept.
        SystemExit: Training failed, which has said why.
    """
    import gradflow as gf
    from gradflow.commands.sweeping.asked import runs_asked_for, unseen
    from gradflow.commands.sweeping.command_line import read_command_line
    from gradflow.commands.sweeping.signals import TRAIN, patiently

    words = training_of(figure, settings)
    read_command_line(words)
    experiment = next((_value(word) for word in words if key_of(word) == "experiment"), "")
    if not (CONF / "experiment" / f"{experiment}.yaml").is_file():
        raise ValueError(f"experiment: expected one experiment, got {shown(experiment)}; leave it out")
    folder = FOLDER / "networks" / file_name(",".join([experiment, *map(_told_apart, unseen(words))]))
    sys.stderr.write(f"{figure}: networks of {' '.join(words)}{_how_long(figure, settings)}, kept in {folder}\n")
    command = [*TRAIN, *words, f"hydra.sweep.dir={quoted(str(folder))}"]
    if patiently(command, stdout=subprocess.DEVNULL):
        sys.exit(f"{figure}: not all networks are trained; the lines above say why")
    return gf.runlog.Sweep(folder, tuple(map(gf.open_run, runs_asked_for(folder, words)))).kept()


def _how_long(figure: str, settings: Sequence[str]) -> str:
    seconds = rooms()[figure].seconds
    changed = [word for word in settings if _group(word) not in ("cell", "init", "clip", "network", "seed")]
    return f", about {seconds} s on two cores" if seconds and not changed else ""


def _told_apart(word: str) -> str:
    """A setting as part of the name of a folder; a file by its name and what it holds."""
    key, path = key_of(word), Path(_value(word)).expanduser()
    if key != "data.path":
        return word
    content = path.read_bytes() if path.is_file() else str(path.absolute()).encode()
    return f"{path.name}-{hashlib.sha256(content).hexdigest()[:8]}"


def own_place(look: Look, settings: Sequence[str]) -> Path:
    """Where figures go that no folder of runs was given for; those of other settings elsewhere."""
    folder = FOLDER / look.folder
    return folder / file_name(",".join(map(_told_apart, settings))) if settings else folder


def check_words(
    command: click.Command, runs: Sequence[str], settings: Sequence[str], wanted: Sequence[str] | None, known: list[str]
) -> None:
    """Raise a usage error unless there is one folder of runs, or figures that are named.

    Args:
        command: Which has options of its own.
        runs: The folders that were given.
        settings: Those of a training.
        wanted: The names of figures; None is all.
        known: The figures that there are.
    """
    options = [str(param.name) for param in command.params if isinstance(param, click.Option)]
    for word in settings:
        key = key_of(word)
        if word.startswith("-") or key not in {*SETTINGS, *GROUPS}:
            near = did_you_mean(key.lstrip("-"), [*options, *GROUPS, *SETTINGS])
            raise click.UsageError(
                f"{named(key)}: expected one of {', '.join(options)} or a setting, got {shown(word)}{near}"
            )
    if len(runs) > 1 or (runs and settings):
        raise click.UsageError(f"run: expected the folder of runs alone, got {' '.join([*runs, *settings])}")
    if runs and not runs[0].strip():
        raise click.UsageError("run: expected run=VALUE, got nothing")
    if runs:
        return
    if not wanted:
        raise Told(
            "run: expected the folder of runs, or figures=NAME,..., for which networks are trained, got neither; "
            f"there are {', '.join(known)}"
        )
    for name in wanted:
        if name not in known:
            raise Told(f"figures: expected names out of {', '.join(known)}, got {name}{did_you_mean(name, known)}")
    if settings and all(rooms()[name].kind == "exact" for name in wanted):
        raise Told(f"{key_of(settings[0])}: expected no settings for {', '.join(wanted)}, exact and of no network")
