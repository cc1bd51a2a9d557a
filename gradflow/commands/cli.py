"""The command `gradflow`: what it can do, each in a module that is loaded when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from gradflow import __version__
from gradflow.commands.words import COMPLETE, HELP, start, write_lines

COMMANDS = {
    "Train": {
        "compare": ("compare", "Train the main job, then print its table and draw its figures."),
        "train": ("train", "Train and record one run; settings as Hydra takes them."),
        "sweep": ("sweep", "Train and record a run for each combination of settings."),
        "lecture": ("lecture", "Train what the lecture shows and draw the whole deck."),
        "reproduce": ("reproduce", "Reproduce exact and published results, and judge them."),
    },
    "Look": {
        "show": ("show", "Show how a run goes; follows one that is going on."),
        "diagnose": ("diagnose", "Say what is ill with a run's gradients, and what helps."),
        "live": ("live", "Show gradients that answer to sliders, in the browser."),
        "report": ("html", "Write a page that says all about a run or a sweep."),
        "figures": ("figures", "Draw figures of runs that are there, or any by its name."),
        "animate": ("animate", "Draw what changes while a network learns as animations."),
        "predict": ("predict", "Ask a trained model."),
    },
    "Keep": {
        "check": ("check", "Check that a run's files are whole, complete and proved."),
        "export": ("export", "Write tables as CSV, netCDF or for TensorBoard."),
        "completion": ("completion", "Have a shell complete these commands."),
    },
}
"""By section: the name, its module here, and one line."""

EXAMPLES = (
    "gradflow compare                                 the main job, its table and its figures",
    "gradflow train cell=lstm clip=norm               one run",
    "gradflow show outputs/train/DATE                 how it goes",
    "gradflow diagnose outputs/train/DATE             what is ill with its gradients, and what helps",
)
STATUSES = ("0 all is well, 1 something failed, is ill or unproved, 2 wrong usage, 130 interrupted",)


class Lazy(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None."""
        for commands in COMMANDS.values():
            if cmd_name in commands:
                return import_module(f"gradflow.commands.{commands[cmd_name][0]}").command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words begin with.

        Raises:
            UsageError: There is none of that name.
        """
        if not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from gradflow.checks import did_you_mean, shown

            names = self.list_commands(ctx)
            advice = did_you_mean(args[0], names)
            raise click.UsageError(f"expected a command ({', '.join(names)}), got {shown(args[0])}{advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A line for each, without importing any."""
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples and exit statuses."""
        write_lines(formatter, "Examples", EXAMPLES)
        write_lines(formatter, "Exit status", STATUSES)


@click.group(cls=Lazy, context_settings={"help_option_names": HELP, "max_content_width": 100})
@click.version_option(__version__, prog_name="gradflow")
def gradflow() -> None:
    """What happens to gradients in recurrent networks, recorded exactly while they train.

    `gradflow COMMAND --help` says more of each command.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    if COMPLETE in os.environ:
        from gradflow.commands.completion import register

        register()
    start(gradflow, (sys.argv[1:] if arguments is None else arguments) or ["--help"], "gradflow")
