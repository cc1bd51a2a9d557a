"""Composes the settings of many runs: what equal choices share is composed once, which is most of the work."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf


class _ReadOnce(CachingConfigRepository):
    """Reads each file once, though Hydra copies the repository for each set of choices, and gives each its own copy."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _ReadOnce:
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self._read:
            self._read[config_path] = pickle.dumps(self.delegate.load_config(config_path))
        return cast("ConfigResult | None", pickle.loads(self._read[config_path]))

    @cached_property
    def _read(self) -> dict[str, bytes]:
        return {}


class Composer:
    """Gives what Hydra's `load_sweep_config` gives for each run of a sweep.

    Choices (`cell=lstm`) decide which files are merged; single values (`seed=3`) are set afterwards, as Hydra does.

    Args:
        loader: Hydra's, which composes for each set of choices.
        master: The settings of the sweep.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = cast(ConfigLoaderImpl, loader), master
        self._loader.repository = cast(ConfigRepository, _ReadOnce(self._loader.repository))
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._choices: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], bytes] = {}  # a fifth of the time that copies of objects take

    def compose(self, run: Sequence[str]) -> DictConfig:
        """The settings of a run.

        Args:
            run: Its overrides.

        Raises:
            HydraException: If a group, key or type is wrong.
        """
        for text in run:
            if text not in self._parsed:
                self._parsed[text] = self._parser.parse_override(text)
        parsed = [self._parsed[text] for text in run]
        choices = [override for text, override in zip(run, parsed, strict=True) if self._is_choice(text)]
        key = tuple(str(override.input_line) for override in choices)
        if key not in self._composed:
            self._composed[key] = pickle.dumps(self._loader.load_sweep_config(self._master, list(key)))
        settings = pickle.loads(self._composed[key])
        ConfigLoaderImpl._apply_overrides_to_config([one for one in parsed if one not in choices], settings)
        settings.hydra.overrides.task = list(run)
        naming = settings.hydra.job.config.override_dirname
        settings.hydra.job.override_dirname = get_overrides_dirname(
            parsed, exclude_keys=naming.exclude_keys, item_sep=naming.item_sep, kv_sep=naming.kv_sep
        )
        OmegaConf.copy_cache(from_config=self._master, to_config=settings)
        return settings

    def _is_choice(self, text: str) -> bool:
        if text not in self._choices:
            self._choices[text] = self._decides_files(self._parsed[text])
        return self._choices[text]

    def _decides_files(self, override: Override) -> bool:
        return self._loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
