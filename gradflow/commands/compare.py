"""Compares the runs below a folder: a table, figures, and a report of it all. It trains nothing.

    python experiments/compare.py outputs/compare/DATE
    python experiments/compare.py outputs/compare/DATE lang=zh context=paper
    python experiments/compare.py /shared/runs out=figures

path     the folder of a sweep, of several, or of one run
lang     language of the figures: en, zh
context  what they are for: slide, paper, notebook
out      the folder that figures and report go to; `figures/LANG` and `report.html` in that of the runs, if left out

A run with a damaged file is named and left out; the exit status is then 1.
"""

import logging
import sys
from pathlib import Path

import gradflow as gf
from gradflow.commands.arguments import REQUIRED, check_look, elsewhere, figures_folder, read_arguments
from gradflow.commands.columns import LONGEST, by_figure, show_log, told
from gradflow.commands.report import not_done, not_proved, printed, table
from gradflow.foreign import printable


def main() -> None:
    """The command line."""
    arguments = read_arguments(__doc__, sys.argv[1:], path=REQUIRED, lang="en", context="slide", out="")
    shown = show_log()
    path, lang, out = Path(arguments["path"]), arguments["lang"], arguments["out"]
    check_look(arguments)
    try:
        folder = figures_folder(out, path, lang)
        sweep = gf.open_sweep(path).kept()
        print("\n".join([printed(table(sweep)), *not_done(sweep), *not_proved(sweep)]))
        figures = gf.figures.draw_all(path, folder, lang=lang, context=arguments["context"])
        shown.setLevel(logging.ERROR)  # what the report leaves out has been said
        report = gf.write_report(path, folder / "report.html" if out else None)
    except FileNotFoundError as error:
        sys.exit(told(error))
    except OSError as error:
        sys.exit(told(elsewhere(error, out)))
    except ValueError as error:
        sys.exit(told(error))
    for line in by_figure(figures):
        print(line)
    print(printable(str(report), LONGEST))
    if shown.warned:
        sys.exit(1)
