"""Says what is ill with the gradients of a run, and what helps."""

from __future__ import annotations

import sys
from typing import Any

import click

from gradflow.commands.columns import told
from gradflow.commands.words import Words, lang, runs_in, word

EXAMPLES = ("gradflow diagnose outputs/train/DATE", "gradflow diagnose outputs/my-run length=100 lang=zh")


@click.command("diagnose", cls=Words, examples=EXAMPLES)
@runs_in("run")
@word("length", "", "Steps that the dependency spans which the network is to learn; known of gradflow's own tasks.")
@lang
def command(run: str, length: str, lang: str) -> None:
    """Say what is ill with a run: do gradients vanish or explode, are units dead, is the record proved, and what helps.

    The exit status is 1 if something is ill.
    """
    import gradflow as gf
    from gradflow.commands.terminal import print_marked

    try:
        diagnosis = gf.diagnose(run, length=_number(length) if length else None)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(told(error).replace("path: ", "run: ", 1))
    print_marked(diagnosis.text(lang))
    if diagnosis.ill:
        sys.exit(1)


def _number(text: str) -> Any:
    """A number; what is none stays as it is, for the library to say so."""
    try:
        return float(text)
    except ValueError:
        return text
