"""What may be set on the command line of a run: settings, and choices out of `conf/`."""

from collections.abc import Iterator
from dataclasses import Field

from gradflow.commands.arguments import CONF
from gradflow.config import settings

SETTINGS: dict[str, Field] = dict(settings())
GROUPS = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in CONF.iterdir() if path.is_dir()}


def overrides() -> Iterator[str]:
    """Every choice, such as `cell=lstm`, and every setting up to its value, such as `train.lr=`."""
    yield from (f"{group}={option}" for group, options in sorted(GROUPS.items()) for option in options)
    yield from (f"{name}=" for name in SETTINGS)
