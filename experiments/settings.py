"""From Hydra's configuration to :class:`gradflow.config.Config`."""

import os
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError

from gradflow.config import Config

CONF = Path(__file__).resolve().parents[1] / "conf"

ConfigStore.instance().store(name="schema", node=Config)


def side_by_side(threads: int) -> int:
    """How many runs of so many threads this machine has cores for; what `${side_by_side:${threads}}` gives in conf/."""
    try:
        from joblib import cpu_count  # knows the limits of containers as well
    except ImportError:
        return max(1, (os.cpu_count() or 1) // threads)
    return max(1, cpu_count() // threads)


OmegaConf.register_new_resolver("side_by_side", side_by_side, replace=True)


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
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), values))
    except ConfigKeyError as error:
        raise ValueError(
            f"{error.full_key}: no such setting; `python experiments/train.py --cfg job` lists them all"
        ) from None
    assert isinstance(config, Config)
    return config
