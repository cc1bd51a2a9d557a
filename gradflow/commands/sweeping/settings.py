"""From Hydra's configuration to :class:`gradflow.config.Config`."""

import pickle
from collections.abc import Container, Sequence
from dataclasses import replace
from inspect import getfile
from typing import Any, NamedTuple, cast

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradflow.commands.arguments import own_folder, quoted
from gradflow.commands.sweeping.told import told
from gradflow.config import MANY, ClipName, Config, Source

SCHEMA = OmegaConf.structured(Config)

ConfigStore.instance().store(name="schema", node=Config)


def side_by_side(threads: int) -> int:
    """How many runs of so many threads this machine has cores for; what `${side_by_side:${threads}}` gives in conf/."""
    from joblib import cpu_count  # knows the limits of containers as well; only a sweep asks

    return max(1, cpu_count() // max(1, threads))


OmegaConf.register_new_resolver("side_by_side", side_by_side, replace=True)
OmegaConf.register_new_resolver("config_file", lambda: getfile(Config), replace=True)
OmegaConf.register_new_resolver("own_folder", own_folder, use_cache=True, replace=True)


PRESETS = {"network": ("cell", "init"), "remedy": ("clip", "omega")}
"""Group -> the groups that it chooses from."""
NO_PRESET = {"network": ("null", "none"), "remedy": ("null",)}
"""Group -> its choices that choose nothing."""


NAMED = ("cell", "init", "clip")
"""Groups whose choice has a name, which is a setting, too."""


class Use(NamedTuple):
    """When settings have an effect: where another is one of these values; in words for errors."""

    setting: str
    values: Container[Any]
    words: str


OF_NAMES = Use("data.source", [source for source in Source if source.of_names], "names, such as data=generated")
OF_LENGTH = {source for source in Source if not source.of_names and source != "digits"}
CLIPPED = Use("clip.name", {*ClipName} - {ClipName.none}, "clip=norm or another")
FLOSSED = Use("flossing.iterations", range(1, MANY + 1), "flossing=before")
USES = {
    "clip.threshold": CLIPPED,
    "flossing.exponents": FLOSSED,
    "flossing.lr": FLOSSED,
    "data.names_per_sequence": OF_NAMES,
    "data.vocabulary_size": OF_NAMES,
    "data.train_size": OF_NAMES,
    "data.path": OF_NAMES,
    "data.length": Use("data.source", OF_LENGTH, "a task, such as data=adding"),
    "data.symbols": Use("data.source", {"temporal_order", "copy_memory"}, "data=temporal_order or copy_memory"),
    "data.gain": Use("data.source", {"chaotic_map"}, "data=chaotic_map"),
}
"""Setting -> when it has an effect; those of `init` are in :data:`gradflow.config.INIT_USES`."""


def check_presets(overrides: Sequence[str], settings: DictConfig) -> None:
    """Compares the choices of a run with each other.

    Args:
        overrides: what was said on the command line, or by the grid of an experiment.
        settings: what came of it.

    Raises:
        ValueError: If one choice would silently undo another, or what was said has no effect.
    """
    chosen = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    for preset, parts in PRESETS.items():
        choices = [choice for part in parts for choice in (part, f"{part}.name") if choice in chosen]
        if choices and chosen.get(preset, "null") not in NO_PRESET[preset]:
            raise ValueError(
                f"{preset}: expected no {' and no '.join(parts)} beside {preset}={chosen[preset]}, which chooses them, "
                f"got {' '.join(f'{choice}={chosen[choice]}' for choice in choices)}; drop one of the two (single "
                f"settings, such as cell.hidden_size=32, go with it)"
            )
    for group in NAMED:
        name = chosen.get(f"{group}.name")
        if group in chosen and name is not None:
            raise ValueError(
                f"{group}.name: expected none beside {group}={chosen[group]}, got {name}; drop one of the two"
            )
    for setting in chosen.keys() & USES.keys():
        _check_used(setting, settings)


def _check_used(setting: str, settings: DictConfig) -> None:
    use = USES[setting]
    given, default, found = (
        OmegaConf.select(tree, name, throw_on_resolution_failure=False)
        for tree, name in ((settings, setting), (OmegaConf.structured(Config), setting), (settings, use.setting))
    )
    if given != default and found not in use.values:
        raise ValueError(
            f"{setting}: expected {use.words}, which uses it, got {given} with {use.setting}={found}; drop one of the "
            f"two"
        )


def as_hydra_reads(argument: str) -> str:
    """A setting from the command line, quoted where Hydra's grammar would not take it as it is: Chinese file names.

    >>> as_hydra_reads("data.path=姓名.csv"), as_hydra_reads("cell=rnn,lstm"), as_hydra_reads("-m")
    ("data.path='姓名.csv'", 'cell=rnn,lstm', '-m')
    """
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals:
        return argument
    for candidate in (argument, f"{key}={quoted(value)}"):
        try:
            OverridesParser.create().parse_override(candidate)
            return candidate
        except HydraException:
            pass
    return argument


def to_config(settings: DictConfig) -> Config:
    """Checks a composed configuration and turns it into gradflow's own settings.

    Args:
        settings: The configuration of one run; its `hydra` part, if any, is ignored.

    Raises:
        ValueError: If a key is unknown, a value is out of range, or what it refers to is not there.
    """
    try:
        values = {str(key): _resolved(settings, str(key)) for key in settings if key != "hydra"}
        seed = values.get("seed")
        if (key := repr(values | {"seed": type(seed)})) not in _CONFIGS:
            config = OmegaConf.to_object(_merged(values))
            assert isinstance(config, Config)
            _CONFIGS[key] = pickle.dumps(config)
    except OmegaConfBaseException as error:
        raise ValueError(told(error)) from None
    config = pickle.loads(_CONFIGS[key])
    return replace(config, seed=seed) if type(seed) is int else config


_CONFIGS: dict[str, bytes] = {}
"""What runs that differ in the seed alone have in common -> the settings of one of them, pickled."""


def _resolved(settings: DictConfig, key: str) -> Any:
    value = settings[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


_MERGED: dict[str, bytes] = {}
"""Groups of settings that many runs of a sweep share -> these in the schema, pickled: to merge them takes ten times."""


def _merged(values: dict[str, Any]) -> DictConfig:
    """Settings in the schema, which names what does not fit there."""
    groups = {key: value for key, value in values.items() if isinstance(value, dict)}
    try:
        if (key := repr(groups)) not in _MERGED:
            _MERGED[key] = pickle.dumps(OmegaConf.merge(SCHEMA, groups))
        merged = pickle.loads(_MERGED[key])
        for name in values.keys() - groups.keys():
            merged[name] = values[name]
        return merged
    except OmegaConfBaseException:
        return cast(DictConfig, OmegaConf.merge(SCHEMA, values))
