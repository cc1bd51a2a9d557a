"""What a sweep is to do: every run is composed, checked and compared with what its folder holds before any starts."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict
from tqdm import tqdm

from gradflow.commands.sweeping.composing import Composer
from gradflow.commands.sweeping.settings import check_presets, to_config
from gradflow.commands.sweeping.signals import LEASH
from gradflow.commands.sweeping.standing import DONE, check_settings, holds_rows, standing
from gradflow.data import load

LEFT_ALONE = {
    "running": "another process records into it",
    "unreadable": "a file of it is damaged; move the folder away to train it anew",
}
LONGEST_NAME = 255  # bytes of a folder's name on the usual file systems


class Composed(str):
    """The overrides of a run as text, which bring along the settings that were composed of them, and the leash.

    Those of a run that is done, which is not launched, bring nothing.
    """

    settings: bytes
    leash: str | None = None


class AsPlanned:
    """Gives launchers the settings as they were checked, whatever has become of the files in conf/ since then.

    It stands in for Hydra's ConfigLoader, of which launchers use no more.
    """

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The settings of one run."""
        [overrides] = sweep_overrides
        assert isinstance(overrides, Composed)
        settings = pickle.loads(overrides.settings)
        if overrides.leash:
            with open_dict(settings):
                settings.hydra.job.env_set[LEASH] = overrides.leash
        return settings


@dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Attributes:
        overrides: What a launcher is given.
        path: The run's folder.
        before: The status of the run that is already there, if any.
    """

    overrides: Composed
    path: Path
    before: str | None


def plan(config: DictConfig) -> list[Planned]:
    """Composes and checks every run of a sweep.

    Returns:
        The runs in the order in which they start.

    Raises:
        ValueError: If the settings of a run are wrong, its folder is not its own, or it holds a run with others.
        HydraException: If a group, key or type is wrong.
    """
    directory = Path(config.hydra.sweep.dir)  # first of all: it holds the time, which is kept once it was asked for
    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={values}" for key, values in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create(loader).parse_overrides([*swept, *config.hydra.overrides.task])
    [grid] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    composer, runs = Composer(loader, config), dict[Path, Planned]()
    for number, run in enumerate(tqdm(grid, desc="checking", unit="run", leave=False, delay=2, disable=None)):
        settings = composer.compose(run)
        with open_dict(settings):
            settings.hydra.job.num = number
        path = directory / settings.hydra.sweep.subdir
        try:
            if path in runs:
                raise ValueError(f"two runs would share the folder {path}: name each value once")
            check_presets(run, settings)
            before = _checked(settings, path)
            composed = Composed(" ".join(run)) if before in DONE else _composed(run, settings, path)
            runs[path] = Planned(composed, path, before)
        except ValueError as error:
            raise ValueError(f"{' '.join(run)}\n{error}") from None
    return list(runs.values())


def _checked(settings: DictConfig, path: Path) -> str | None:
    """Checks the settings of a run against their ranges and its folder; the status of the run that is there."""
    config = to_config(settings)
    if len(path.name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"hydra.sweep.subdir: expected a name of at most {LONGEST_NAME} bytes, got {len(path.name.encode())}; "
            f"set fewer or shorter values on the command line, or hydra.sweep.subdir='${{hydra.job.num}}'"
        )
    if path.exists() and not path.is_dir():
        raise ValueError(f"hydra.sweep.dir: {path} is to be the folder of this run, but it is a file; move it away")
    before = standing(path)
    if before == "unreadable":
        return before
    if before in (*DONE, "running") or holds_rows(path):
        check_settings(path, config)
    return before


def _composed(run: Sequence[str], settings: DictConfig, path: Path) -> Composed:
    with open_dict(settings):
        settings.hydra.sweep.dir = str(path.parent.absolute())  # a worker on another machine starts elsewhere
        settings.hydra.sweep.subdir = path.name
    overrides = Composed(" ".join(run))
    overrides.settings = pickle.dumps(settings)
    return overrides


def to_launch(runs: Sequence[Planned]) -> list[Planned]:
    """The runs that are not done, that no other process records, and that can be read."""
    return [run for run in runs if run.before not in (*DONE, *LEFT_ALONE)]


def check_names(runs: Sequence[Planned]) -> None:
    """Raises what is wrong with the names of all runs, before any starts; if some can have theirs, others fail alone.

    Raises:
        ValueError: No run can have its names from the file that it is to read.
    """
    wrong: dict[str, Exception] = {}
    for run in runs:
        config = replace(to_config(pickle.loads(run.overrides.settings)).data, names_per_sequence=1)
        if repr(config) in wrong:
            continue
        if not (config.path and config.source.of_names):
            return
        try:
            load(config, seed=0)
            return
        except (ValueError, OSError) as error:
            wrong[repr(config)] = error
    if wrong:
        raise ValueError(str(next(iter(wrong.values()))))


def announcement(runs: Sequence[Planned]) -> str:
    """What a sweep will do in a folder that holds runs already.

    Such as `12 of 24 already done, 3 redone (2 lost, 1 failed), 9 new`, and a line for each that is left alone.
    """
    standings = Counter(run.before for run in runs)
    again = {name: count for name, count in standings.items() if name not in (None, *LEFT_ALONE, *DONE)}
    counts = [
        (sum(standings[state] for state in DONE), f"of {len(runs)} already done"),
        (sum(again.values()), f"redone ({', '.join(f'{count} {name}' for name, count in again.items())})"),
        (standings[None], "new"),
        (sum(standings[state] for state in LEFT_ALONE), "left alone"),
    ]
    parts = [f"{count} {what}" for count, what in counts if count or what.endswith("already done")]
    alone = [f"{run.path}: left alone, {LEFT_ALONE[run.before]}" for run in runs if run.before in LEFT_ALONE]
    return "\n".join([", ".join(parts), *alone])
