"""The command line of `gradflow train`, looked at before Hydra does: what is wrong in it is said in one line.

Hydra composes the settings of files and arguments; what it still finds wrong, in files and in its own settings
(`hydra.*`), is put in words by `told.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any, NoReturn, get_args

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from gradflow.checks import require, shown, whole_number
from gradflow.commands.arguments import CONF, named
from gradflow.commands.choices import GROUPS, SETTINGS
from gradflow.commands.sweeping.settings import as_hydra_reads
from gradflow.config import check_folder_name, check_value

UNSEEN = OmegaConf.load(CONF / "hydra" / "default.yaml").job.config.override_dirname.exclude_keys
"""Settings that folders of runs are not named after."""

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
COUNTS: dict[str, tuple[Any, str]] = {  # counts of Hydra's: what else they may be
    "hydra.launcher.n_jobs": (-1, ", or -1 for all cores"),
    "hydra.launcher.batch_size": ("auto", ", or auto"),
    "hydra.sweeper.max_batch_size": (None, ", or null"),
}
MOST_VALUES = 100_000  # of one setting in a sweep
LISTED = "`gradflow train --help` lists all"


def read_command_line(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them: settings first, in its quotes.

    Raises:
        ValueError: With the argument, what was expected, and what came.
    """
    arguments = [as_hydra_reads(argument) for argument in arguments]
    given = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    ordered = [*given, *(word for word in arguments if word not in given)]
    if _options(ordered).config_dir:  # brings groups of its own
        return ordered
    overrides = [_parsed(argument) for argument in given]
    _check_once(overrides)
    for override in overrides:
        _check_key(override)
        for value in [] if override.is_delete() else _values(override):
            _check(_key(override), value)
    return ordered


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; `gradflow train --hydra-help` lists the options")


def _options(arguments: list[str]) -> argparse.Namespace:
    options = _Parser(add_help=False, parents=[get_args_parser()]).parse_args(arguments)
    for word in options.overrides:
        if "=" not in word and not word.startswith("~"):
            raise ValueError(f"{named(word)}: expected KEY=VALUE, such as cell=lstm, got no value; {LISTED}")
    for option in ("resolve", "package"):
        if getattr(options, option) and not options.cfg:
            raise ValueError(f"--{option}: expected --cfg job beside it, got none; add it")
    return options


def _parsed(argument: str) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        raise ValueError(
            f"{named(argument.partition('=')[0])}: expected KEY=VALUE in Hydra's grammar, got {shown(argument)}; put "
            f"special characters in quotes of their own, as in \"data.path='a, b.csv'\""
        ) from None


def _key(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _check_once(overrides: Sequence[Override]) -> None:
    seen: dict[str, Override] = {}
    for override in overrides:
        before = seen.setdefault(_key(override), override)
        if before is not override:
            both = f"{before.input_line} and {override.input_line}"
            raise ValueError(f"{_key(override)}: expected one value, got {both}; leave out one of them")


def _check_key(override: Override) -> None:
    key, argument = _key(override), shown(override.input_line)
    own = key in SETTINGS or key in GROUPS
    if not own and key.replace("/", ".").split(".")[0] != "hydra":
        raise ValueError(f"{named(key)}: expected a setting or a choice, got {argument}; {_nearest(key)}")
    if own and (override.is_delete() or (key in GROUPS and (override.is_add() or override.is_force_add()))):
        raise ValueError(f"{key}: expected {key}=VALUE, got {argument}; what is left out has its default")


def _nearest(key: str) -> str:
    group, _, last = key.rpartition(".")
    lasts = {name: name.rpartition(".")[2] for name in SETTINGS}
    alike = [last] if last in lasts.values() else get_close_matches(last, set(lasts.values()), n=1)
    near = [name for name in SETTINGS if lasts[name] in alike]
    near = near or [name for name in SETTINGS if group and name.startswith(f"{group}.")]
    near = near or get_close_matches(key, GROUPS, n=2)
    return f"did you mean {', '.join(near[:5])}?" if near else f"{LISTED}, Hydra's own begin with hydra."


def _values(override: Override) -> list[Any]:
    """The values that an argument gives: one, or those of a sweep; none of a pattern, which Hydra looks up."""
    key, argument, value = _key(override), override.input_line, override.value()
    if isinstance(value, Glob) and key in GROUPS:
        return []
    if isinstance(value, (Glob, IntervalSweep)):
        raise ValueError(f"{key}: expected values to try one after the other, got {shown(argument)}; list them: 1,2,3")
    if not isinstance(value, (ChoiceSweep, RangeSweep)):
        return [_plain(value)]
    if isinstance(value, RangeSweep):
        require(bool(value.step), key, "a range with a step other than 0", argument)
    values = [_plain(each) for each in islice(override.sweep_iterator(), MOST_VALUES + 1)]
    came = {0: "none", MOST_VALUES + 1: "more"}.get(len(values))
    if came:
        raise ValueError(f"{key}: expected 1 to {MOST_VALUES:,} values, got {came} of {shown(argument)}; change it")
    if len(values) > 1 and key in UNSEEN:
        raise ValueError(
            f"{key}: expected one value, as folders of runs are not named after it, got {shown(argument)}; give each "
            f"its own sweep"
        )
    return values


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value


def _check(key: str, value: Any) -> None:
    """Raises a ValueError for a value that a setting or a group cannot have."""
    if isinstance(value, str) and "${" in value:  # known only when all is composed
        return
    if key in GROUPS:
        if not isinstance(value, str) or value not in GROUPS[key]:
            near = get_close_matches(str(value), GROUPS[key], n=1)
            advice = f"did you mean {near[0]}?" if near else "leave it out for the default"
            came = "null" if value is None else shown(value)
            raise ValueError(f"{key}: expected one of {', '.join(GROUPS[key])}, got {came}; {advice}")
    elif key in SETTINGS:
        kind = SETTINGS[key].type
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_text = str in (kind, *get_args(kind))
        value = check_value(key, SETTINGS[key], str(value) if is_number and is_text else value)
        if key == "name":
            check_folder_name(key, value)
    elif key in FOLDERS:
        require(isinstance(value, str) and bool(value.strip()), key, "the path of a folder", value)
    elif key in COUNTS and value != COUNTS[key][0]:
        whole_number(key, value, 1, COUNTS[key][1])
