"""Trains and records one run; with `-m`, or by an experiment that says so, a sweep. `--help` lists the choices."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from unittest.mock import patch

import click
from click.shell_completion import CompletionItem

from gradflow.commands.words import Told, start


class Overrides(click.Command):
    """A command whose words are all Hydra's: settings, choices, and its own options, `--help` among them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leaves every word as it is."""
        ctx.params["overrides"] = tuple(args)
        return []

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Choices and settings."""
        from gradflow.commands.choices import overrides  # here, as it loads every setting

        return [CompletionItem(word) for word in overrides() if word.startswith(incomplete)]


@click.command("train", cls=Overrides)
def command(overrides: tuple[str, ...]) -> None:
    """Train and record one run; with `-m`, or by an experiment that says so, a sweep."""
    train(overrides)


def train(arguments: Sequence[str]) -> None:
    """Trains by a command line of Hydra's.

    Raises:
        SystemExit: If not all went well, with what is wrong in one line.
    """
    from gradflow.commands.arguments import CONF, collect_rarely

    collect_rarely()
    import hydra

    from gradflow.commands.sweeping.command_line import read_command_line
    from gradflow.commands.sweeping.job import job
    from gradflow.commands.sweeping.launchers import name_missing_plugins
    from gradflow.commands.sweeping.sweeper import in_place_of_hydras
    from gradflow.commands.sweeping.told import is_of_hydra, told

    name_missing_plugins()
    try:
        sys.argv[1:] = read_command_line(arguments)  # where Hydra looks
    except ValueError as error:
        raise Told(str(error)) from None
    whole_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        # errors come here: Hydra has one line for its own, but a traceback for a full disk
        with patch.dict(os.environ, HYDRA_FULL_ERROR="1"), in_place_of_hydras():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: what was recorded until now can be read.\n")
        sys.exit(130)
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as in `| head`
        raise
    except Exception as error:
        ours = not isinstance(error, (OSError, ValueError)) and not is_of_hydra(error)
        if whole_tracebacks or ours:
            raise
        sys.exit(told(error))


def main() -> None:
    """The command line: one run, or with `-m` or an experiment of its own a sweep."""
    start(command, sys.argv[1:])


if __name__ == "__main__":
    main()
