"""Redraws figures of finished runs, those asked for. It trains nothing.

    python experiments/figures.py run=outputs/train/DATE
    python experiments/figures.py run=outputs/train/DATE figures=gate_timescales,weight_spectrum lang=zh context=paper
    python experiments/figures.py run=outputs/train/DATE figures=name_saliency names=王晓丽,李建国
    python experiments/figures.py run=outputs/train/DATE figures=gate_map names='王晓丽|李建国|张伟'

run      the folder of a run or of a sweep
figures  names with commas between them, or all: whatever the log supports. name_saliency and gate_map (of an LSTM or a
         GRU) ask the model; they are drawn where they are named
lang     language of the figures: en, zh
context  what they are for: slide, paper, notebook
out      the folder that they go to; `figures/LANG` in that of the run, if left out
names    what the model is asked: names with commas between them (for gate_map one); of a roll-call model sequences of
         names, each joined by |
"""

import sys
from pathlib import Path

from gradflow.commands.arguments import (
    REQUIRED,
    check_look,
    collect_rarely,
    drawing_processes,
    elsewhere,
    figures_folder,
    read_arguments,
    split_list,
)
from gradflow.commands.columns import by_figure, show_log, told

FROM_MODEL = ("name_saliency", "gate_map")


def draw_from_model(name: str, run: Path, names: list[str], folder: Path, lang: str, context: str) -> list[Path]:
    """Which characters decide the answers of the model of a run, or what its gates keep while it reads."""
    from gradflow import figures  # here, as torch takes seconds and the other figures do without
    from gradflow.training import prediction

    if not names:
        raise ValueError(f"names: expected names=NAME for {name}, got nothing")
    if name == "gate_map":
        if len(names) > 1:
            raise ValueError(
                f"names: expected one for gate_map, got {len(names)}; those of a roll call are joined by |"
            )
        data = prediction.gate_map(run, names[0])
    else:
        data = prediction.name_saliency(run, names)
    return figures.make(figures.PICTURES[name], data, lang=lang, context=context).save(folder / name)


def main() -> None:
    """The command line."""
    defaults = {"run": REQUIRED, "figures": "all", "lang": "en", "context": "slide", "names": "", "out": ""}
    arguments = read_arguments(__doc__, sys.argv[1:], **defaults)
    collect_rarely()
    from gradflow.figures import draw_all

    show_log()
    check_look(arguments)
    run, lang, context, files = Path(arguments["run"]), arguments["lang"], arguments["context"], list[Path]()
    wanted = None if arguments["figures"] == "all" else split_list(arguments["figures"])
    from_log = None if wanted is None else [name for name in wanted if name not in FROM_MODEL]
    try:
        folder = figures_folder(arguments["out"], run, lang)
        if from_log is None or from_log:
            files += draw_all(run, folder, only=from_log, lang=lang, context=context, processes=drawing_processes())
        for name in FROM_MODEL:
            if name in (wanted or ()):
                files += draw_from_model(name, run, split_list(arguments["names"]), folder, lang, context)
    except FileNotFoundError as error:
        sys.exit(told(error).replace("path: ", "run: ", 1))
    except OSError as error:
        sys.exit(told(elsewhere(error, arguments["out"])))
    except ValueError as error:
        sys.exit(told(error))
    if not files:
        sys.exit(f"figures: none of those asked for is in the log of {run}; the lines above say why")
    for line in by_figure(files):
        print(line)
