"""Compares the runs below a folder: a table, and figures. It trains nothing.

    python experiments/compare.py outputs/compare/DATE
    python experiments/compare.py outputs/compare/DATE lang=zh context=paper
    python experiments/compare.py /shared/runs out=figures

path     the folder of a sweep, of several, or of one run
lang     language of the figures: en, zh
context  what they are for: slide, paper, notebook
out      the folder that they go to; `figures/LANG` in that of the runs, if left out

A run with a damaged file is named and left out; the exit status is then 1.
"""

import sys
from pathlib import Path

import gradflow as gf
from gradflow.commands.arguments import (
    REQUIRED,
    check_look,
    collect_rarely,
    drawing_processes,
    elsewhere,
    figures_folder,
    read_arguments,
)
from gradflow.commands.columns import by_figure, show_log, told
from gradflow.commands.report import not_done, not_proved, printed, table


def main() -> None:
    """The command line."""
    arguments = read_arguments(__doc__, sys.argv[1:], path=REQUIRED, lang="en", context="slide", out="")
    collect_rarely()
    shown = show_log()
    path, lang, out = Path(arguments["path"]), arguments["lang"], arguments["out"]
    check_look(arguments)
    try:
        folder = figures_folder(out, path, lang)
        sweep = gf.open_sweep(path).kept()
        print("\n".join([printed(table(sweep)), *not_done(sweep), *not_proved(sweep)]))
        figures = gf.figures.draw_all(
            sweep, folder, lang=lang, context=arguments["context"], processes=drawing_processes()
        )
    except FileNotFoundError as error:
        sys.exit(told(error))
    except OSError as error:
        sys.exit(told(elsewhere(error, out)))
    except ValueError as error:
        sys.exit(told(error))
    for line in by_figure(figures):
        print(line)
    if shown.warned:
        sys.exit(1)
