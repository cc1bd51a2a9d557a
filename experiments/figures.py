"""Redraws figures of finished runs: those asked for, in the folder `figures/LANG` of the run. It trains nothing.

    python experiments/figures.py run=outputs/train/DATE
    python experiments/figures.py run=outputs/train/DATE figures=gate_timescales,weight_spectrum lang=zh context=paper
    python experiments/figures.py run=outputs/train/DATE figures=name_saliency names=王晓丽,李建国

run      the folder of a run or of a sweep
figures  names with commas between them, or all: whatever the log supports (name_saliency asks the model, and by name)
lang     language of the figures: en, zh
context  what they are for: slide, paper, notebook
names    for name_saliency: names with commas between them; of a roll-call model sequences of names, each joined by |
"""

import logging
import sys
from pathlib import Path

from experiments.arguments import REQUIRED, read_arguments, split_list
from experiments.columns import by_figure

SALIENCY = "name_saliency"


def draw_saliency(run: Path, names: str, folder: Path, lang: str, context: str) -> list[Path]:
    """Which characters decide the answers of the model of a run."""
    from gradflow import analysis, figures
    from gradflow.prediction import name_saliency  # here, as torch takes seconds and the other figures do without

    if not names:
        raise ValueError("names: expected names=NAME,NAME for name_saliency, got nothing")
    data = name_saliency(run, split_list(names))
    claims = analysis.name_saliency_claims(data)
    figure = figures.plot_name_saliency(data, claims=claims, lang=lang, context=context)
    return figures.save(figure, folder / SALIENCY, data=data, claims=claims)


def main() -> None:
    """The command line."""
    arguments = read_arguments(__doc__, sys.argv[1:], run=REQUIRED, figures="all", lang="en", context="slide", names="")
    from gradflow.figures import draw_all

    logging.basicConfig(format="%(message)s")
    logging.getLogger("gradflow").setLevel(logging.INFO)
    run, lang, context = Path(arguments["run"]), arguments["lang"], arguments["context"]
    folder, files = run / "figures" / lang, list[Path]()
    wanted = None if arguments["figures"] == "all" else split_list(arguments["figures"])
    from_log = None if wanted is None else [name for name in wanted if name != SALIENCY]
    try:
        if from_log is None or from_log:
            files += draw_all(run, folder, only=from_log, lang=lang, context=context)
        if wanted is not None and SALIENCY in wanted:
            files += draw_saliency(run, arguments["names"], folder, lang, context)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    if not files:
        sys.exit(f"figures: none of those asked for is in the log of {run}; the lines above say why")
    for figure, suffixes in by_figure(files).items():
        print(f"{figure} ({', '.join(suffixes)})")


if __name__ == "__main__":
    main()
