"""What settings on a command line ask for: which runs of a sweep, and which names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from gradflow.commands.arguments import CONF
from gradflow.commands.sweeping.command_line import UNSEEN, read_command_line
from gradflow.config import DataConfig

OF_THE_MACHINE = ("launcher", "threads", "device")


def runs_asked_for(folder: Path, settings: Sequence[str]) -> list[Path]:
    """The folders of runs of a sweep that these settings ask for.

    Args:
        folder: Of sweeps of one experiment, which may have been of other settings, too.
        settings: As of the command that trained the runs, with ``experiment=``.
    """
    parsed = OverridesParser.create().parse_overrides(_of_the_run(read_command_line(settings)))
    [grid] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    swept = _swept({word.partition("=")[0]: word.partition("=")[2] for word in grid[0]}["experiment"])
    found = []
    for file in sorted(folder.glob("*/.hydra/overrides.yaml")):
        own = _of_the_run(OmegaConf.to_object(OmegaConf.load(file)))
        if any(_is_of(own, run, swept) for run in grid):
            found.append(file.parents[1])
    return found


def _of_the_run(words: Any) -> list[str]:
    return [word for word in words if word.partition("=")[0] not in OF_THE_MACHINE]


def _swept(experiment: str) -> set[str]:
    """The settings that an experiment sweeps."""
    settings = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml")
    return set(OmegaConf.select(settings, "hydra.sweeper.params") or {})


def _is_of(run: Sequence[str], wanted: Sequence[str], swept: set[str]) -> bool:
    """Whether a run has all settings that are wanted, and else only those that its experiment sweeps."""
    others = {word.partition("=")[0] for word in set(run) - set(wanted)}
    return set(wanted) <= set(run) and others <= swept


def unseen(settings: Sequence[str]) -> list[str]:
    """The settings that folders of runs are not named after, but for those that say how and by what they are run."""
    keys = set(UNSEEN) - {*OF_THE_MACHINE, "experiment", "name"}
    return [word for word in settings if word.partition("=")[0] in keys]


def data_of(settings: Sequence[str]) -> DataConfig:
    """What is learned from, by the settings `data=` and `data.*`.

    Raises:
        ValueError: One of them is unknown, cannot be, or has several values.
    """
    given = [word for word in settings if word.partition("=")[0].partition(".")[0] == "data"]
    values: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(read_command_line(given)):
        key, value = override.get_key_element(), override.value()
        if override.is_sweep_override():
            raise ValueError(f"{key}: expected one value, got {override.input_line}; give one")
        if key == "data":
            values = {**dict(OmegaConf.load(CONF / "data" / f"{value}.yaml")), **values}
        else:
            values[key.removeprefix("data.")] = getattr(value, "text", value)
    return DataConfig(**values)
