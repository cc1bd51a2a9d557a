"""Compares the runs below a folder: a table, and the figures in its folder `figures/LANG`. It trains nothing.

    python experiments/compare.py outputs/compare/DATE
    python experiments/compare.py outputs/compare/DATE lang=zh context=paper

path     the folder of a sweep, of several, or of one run
lang     language of the figures: en, zh
context  what they are for: slide, paper, notebook
"""

import logging
import sys
from pathlib import Path

import gradflow as gf
from experiments.arguments import REQUIRED, check_look, read_arguments
from experiments.columns import by_figure
from experiments.report import not_done, not_proved, printed, table


def main() -> None:
    """The command line."""
    arguments = read_arguments(__doc__, sys.argv[1:], path=REQUIRED, lang="en", context="slide")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("gradflow").setLevel(logging.INFO)
    path, lang = Path(arguments["path"]), arguments["lang"]
    check_look(arguments)
    try:
        sweep = gf.open_sweep(path).kept()
        print("\n".join([printed(table(sweep)), *not_done(sweep), *not_proved(sweep)]))
        figures = gf.figures.draw_all(path, path / "figures" / lang, lang=lang, context=arguments["context"])
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    for figure, suffixes in by_figure(figures).items():
        print(f"{figure} ({', '.join(suffixes)})")


if __name__ == "__main__":
    main()
