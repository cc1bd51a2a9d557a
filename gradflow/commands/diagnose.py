"""Says what is ill with the gradients of a run, and what helps."""

from __future__ import annotations

import sys

import click

from gradflow.commands.columns import told
from gradflow.commands.words import Words, lang, length, number, runs_in

EXAMPLES = ("gradflow diagnose outputs/train/DATE", "gradflow diagnose outputs/my-run length=100 lang=zh")


@click.command("diagnose", cls=Words, examples=EXAMPLES)
@runs_in("run")
@length
@lang
def command(run: str, length: str, lang: str) -> None:
    """Say what is ill with a run: do gradients vanish or explode, are units dead, is the record proved, and what helps.

    The exit status is 1 if something is ill.
    """
    import gradflow as gf
    from gradflow.commands.terminal import print_marked

    try:
        diagnosis = gf.diagnose(run, length=number(length))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(told(error, "run"))
    print_marked(diagnosis.text(lang))
    if diagnosis.ill:
        sys.exit(1)
