"""Trains and records a run for each combination of settings: `train` with Hydra's `-m`."""

from __future__ import annotations

import click

from gradflow.commands.train import Overrides, train


@click.command("sweep", cls=Overrides)
def command(overrides: tuple[str, ...]) -> None:
    """Train and record a run for each combination of settings."""
    train(["-m", *overrides])
