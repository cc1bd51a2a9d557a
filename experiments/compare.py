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

import pandas as pd

import gradflow as gf
from experiments.arguments import REQUIRED, read_arguments
from experiments.report import by_figure, describe, summary
from gradflow.runlog import Sweep


def table(sweep: Sweep) -> pd.DataFrame:
    """A row per run, sorted: the settings that vary (the run's folder, if none do) and how it ended."""
    settings = sweep.runs.drop(columns=["path", "status", "iteration", "error"])
    if len(settings.columns) > 1:
        settings = settings.drop(columns="run")
    ends = pd.DataFrame([summary(run) for run in sweep.members])
    settings = settings.rename(columns={name: f"{name} (set)" for name in ends})
    return settings.join(ends).sort_values([*settings.columns])


def unfinished(sweep: Sweep) -> list[str]:
    """A line for each run that did not come to its end."""
    return [
        f"{run.path}: {describe(run)}" for run in sweep.members if run.status not in ("finished", "diverged", "running")
    ]


def main() -> None:
    """The command line."""
    arguments = read_arguments(__doc__, sys.argv[1:], path=REQUIRED, lang="en", context="slide")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("gradflow").setLevel(logging.INFO)
    path, lang = Path(arguments["path"]), arguments["lang"]
    try:
        sweep = gf.open_sweep(path)
        print(table(sweep).to_string(index=False, float_format="{:.3g}".format))
        for line in unfinished(sweep):
            print(line)
        figures = gf.figures.draw_all(path, path / "figures" / lang, lang=lang, context=arguments["context"])
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    for figure, suffixes in by_figure(figures).items():
        print(f"{figure} ({', '.join(suffixes)})")


if __name__ == "__main__":
    main()
