"""Writes the page that says all about a run or a sweep."""

from __future__ import annotations

import sys

import click

from gradflow.commands.columns import show_log, told
from gradflow.commands.words import Words, length, number, runs_in, word

EXAMPLES = (
    "gradflow report outputs/train/DATE",
    "gradflow report outputs/compare/DATE out=page.html",
    "gradflow report outputs/my-run length=100",
)


@click.command("report", cls=Words, examples=EXAMPLES)
@runs_in("path")
@word("out", "", "The file; report.html in the folder of the runs, if left out.")
@length
def command(path: str, out: str, length: str) -> None:
    """Write one page (HTML) about a run or a sweep: outcome, diagnosis, settings, figures with their claims.

    It needs no network and no other file, and is in English and Chinese.
    """
    from gradflow.report import write_report

    show_log()
    try:
        file = write_report(path, out or None, length=number(length))
        print(told(ValueError(str(file))))
    except (FileNotFoundError, ValueError, OSError) as error:
        sys.exit(told(error))
