"""From Hydra's configuration to :class:`gradflow.config.Config`."""

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError

from experiments.arguments import own_folder, quoted
from gradflow.config import Config

CONF = Path(__file__).resolve().parents[2] / "conf"

SCHEMA = OmegaConf.structured(Config)

ConfigStore.instance().store(name="schema", node=Config)


def side_by_side(threads: int) -> int:
    """How many runs of so many threads this machine has cores for; what `${side_by_side:${threads}}` gives in conf/."""
    try:
        from joblib import cpu_count  # knows the limits of containers as well
    except ImportError:
        return max(1, (os.cpu_count() or 1) // threads)
    return max(1, cpu_count() // threads)


OmegaConf.register_new_resolver("side_by_side", side_by_side, replace=True)
OmegaConf.register_new_resolver("own_folder", own_folder, use_cache=True, replace=True)


PRESETS = {"network": ("cell", "init"), "remedy": ("clip", "omega")}
"""Group -> the groups that it chooses from."""


def check_presets(overrides: Sequence[str]) -> None:
    """Compares the choices of a run with each other.

    Raises:
        ValueError: If one choice would silently undo another.
    """
    chosen = dict(override.split("=", 1) for override in overrides if "=" in override)
    for preset, parts in PRESETS.items():
        also = [f"{part}={chosen[part]}" for part in parts if part in chosen]
        if also and chosen.get(preset, "null") != "null":
            raise ValueError(
                f"{preset}: expected no {' and no '.join(parts)} beside {preset}={chosen[preset]}, which chooses them, "
                f"got {' '.join(also)}; drop one of the two (single settings, such as cell.hidden_size=32, go with it)"
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
        ValueError: If a key is unknown (Hydra lets `+key=value` pass) or a value is out of range.
    """
    own = OmegaConf.masked_copy(settings, [str(key) for key in settings if key != "hydra"])
    values = OmegaConf.to_container(own, resolve=True)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(SCHEMA, values))
    except ConfigKeyError as error:
        raise ValueError(
            f"{error.full_key}: no such setting; `python experiments/train.py --cfg job` lists them all"
        ) from None
    assert isinstance(config, Config)
    return config
