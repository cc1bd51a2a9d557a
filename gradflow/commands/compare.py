"""Trains the main job and compares its runs, or those that are there: a table, figures, a report."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

import gradflow as gf
from gradflow.commands.arguments import (
    Look,
    collect_rarely,
    drawing_processes,
    errors_told,
    figures_folder,
    leave_no_empty_folder,
    own_folder,
)
from gradflow.commands.columns import LONGEST, by_figure, show_log
from gradflow.commands.sweeping.signals import TRAIN, patiently
from gradflow.commands.words import Setting, Words, context, is_folder, lang, out, start, svg, theme
from gradflow.foreign import printable

FOLDER = "hydra.sweep.dir="
EXAMPLES = (
    "gradflow compare",
    "gradflow compare cell=lstm,gru seed=0,1,2                     fewer or more runs",
    "gradflow compare data=csv data.path=names.csv                 your own names",
    "gradflow compare outputs/compare/DATE lang=zh context=paper   of runs that are there; trains nothing",
    "gradflow compare /shared/runs out=figures                     ... in a folder that cannot be written",
)


def only_asks(words: Sequence[str]) -> bool:
    """Whether Hydra is to say something, as by `--cfg job`, and not to train."""
    return any(word.startswith("-") and word not in ("-m", "--multirun") for word in words)


def train(settings: Sequence[str]) -> tuple[Path | None, int]:
    """Trains the main job; the folder of its runs, if there are any, and the exit status."""
    command = [*TRAIN, "experiment=compare"]
    if only_asks(settings):
        return None, patiently([*command, *settings])
    given = [word.removeprefix(FOLDER).strip("'\"") for word in settings if word.startswith(FOLDER)]
    folder = Path(given[-1] if given else own_folder(datetime.now().strftime("outputs/compare/%Y-%m-%d_%H-%M-%S")))
    command += [] if given else [f"{FOLDER}{folder}"]
    status = patiently([*command, *settings], stdout=subprocess.DEVNULL)  # whose table comes again
    leave_no_empty_folder()
    return (folder if folder.is_dir() and any(folder.iterdir()) else None), status


def show(path: Path, look: Look, out: str) -> bool:
    """Prints the table of the runs below a folder, draws their figures, writes their report; whether all could be read.

    Raises:
        SystemExit: Nothing can be read or written, with a line that says why.
    """
    from gradflow.commands.report import not_done, not_proved, printed, table
    from gradflow.figures.drawing import in_processes
    from gradflow.figures.gallery import draw_each
    from gradflow.report.page import begin_chart_library

    collect_rarely()
    shown = show_log()
    with errors_told(out, "path"), in_processes(drawing_processes()) as share:
        folder = figures_folder(out, path, look)
        sweep = gf.open_sweep(path).kept()
        begin_chart_library(share)
        print("\n".join([printed(table(sweep)), *not_done(sweep), *not_proved(sweep)]))
        figures = draw_each(sweep, folder, processes=drawing_processes(), **look.options, **look.files)
        shown.setLevel(logging.ERROR)  # what the report leaves out has been said
        report = gf.write_report(sweep, folder / "report.html" if out else None, figures=figures)
    for line in by_figure(file for figure in figures for file in figure.files):
        print(line)
    print(printable(str(report), LONGEST))
    return not shown.warned


@click.command("compare", cls=Words, settings=True, examples=EXAMPLES)
@click.argument("words", nargs=-1, type=Setting(), metavar="[FOLDER | SETTING=VALUE...]")
@lang
@context
@theme
@svg
@out
def command(words: tuple[str, ...], out: str, **look: str) -> None:
    """Train the main job, then print a table of its runs, draw their figures and write their report.

    Four cells, with and without clipping, from torch's start and from one that remembers: a little over two minutes on
    two cores. SETTINGS are those of `gradflow train --help`. Given a FOLDER instead, all these are of the runs
    below it: of a sweep, of several, or of one run; nothing is trained.

    A run with a damaged file is named and left out; the exit status is then 1.
    """
    folders = [word.removeprefix("path=") for word in words if is_folder(word, "path") and not only_asks(words)]
    if folders and len(words) > 1:
        raise click.UsageError(f"path: expected the folder of runs alone, got {' '.join(words)}")
    if folders and not folders[0].strip():
        raise click.UsageError("path: expected path=VALUE, got nothing")
    path, status = (Path(folders[0]), 0) if folders else train(words)
    whole = show(path, Look(**look), out) if path else True
    if status or not whole:
        sys.exit(status or 1)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
