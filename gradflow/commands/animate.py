"""Draws what changes while a network learns as animations: a GIF, and a page to play, stop and step it offline.

    python experiments/animate.py run=outputs/train/DATE
    python experiments/animate.py run=outputs/train/DATE figures=gradient_heatmap lang=zh
    python experiments/animate.py run='outputs/compare/DATE/*clip=norm*init=default*names_per_sequence=8*'

run      the folder of a run or of a sweep, or a pattern of folders (in quotes): up to four runs stand side by side
figures  names with commas between them: MOVING
lang     language: en, zh
context  what they are for: slide, paper, notebook
out      the folder that they go to; `figures/LANG` in that of the run or that the pattern starts from, if left out
"""

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from gradflow.commands.arguments import REQUIRED, check_look, elsewhere, figures_folder, read_arguments, split_list
from gradflow.commands.columns import by_figure, show_log, told
from gradflow.figures.room import rooms
from gradflow.foreign import file_name

if TYPE_CHECKING:
    from gradflow.runlog import Run

WILD = re.compile(r"[*?]")


def find(text: str) -> tuple[Path, str, "list[Run]"]:
    """The folder that figures of these runs belong to, what its pattern says of them, and the runs.

    Raises:
        FileNotFoundError: There is no run.
    """
    import gradflow as gf

    path = Path(text)
    if path.exists() or not WILD.search(text):
        return path, "", list(gf.open_sweep(path).readable.members)
    fixed = 0
    while not WILD.search(path.parts[fixed]):
        fixed += 1
    folder, pattern = Path(*path.parts[:fixed]), "/".join(path.parts[fixed:])
    found = sorted(match for match in folder.glob(pattern) if match.is_dir())
    if not found:
        raise FileNotFoundError(f"run: expected a pattern that folders match, got {text}; none below {folder} does")
    words = [word.strip(",") for word in re.split(r"[*?/]+", pattern)]
    runs = tuple(run for match in found for run in gf.open_sweep(match).members)
    return folder, ",".join(filter(None, words)), list(gf.runlog.Sweep(folder, runs).readable.members)


def animate(name: str, runs: "list[Run]", path: Path, lang: str, context: str) -> list[Path]:
    """Makes one animation.

    Raises:
        ValueError: The runs do not suit it; the message says why.
    """
    from gradflow import analysis, figures

    kinds = analysis.by_task(runs)
    if len(kinds) > 1:
        raise ValueError(
            f"run: expected runs of one task and size, got {len(kinds)} kinds ({'; '.join(kinds)}); choose among them, "
            f"as in run='outputs/compare/DATE/*names_per_sequence=8*'"
        )
    entry = figures.ANIMATIONS[name]
    bar = partial(tqdm, desc=name, unit="frame", leave=False, disable=None)
    return figures.make(entry, entry.analyse(runs), runs=runs, lang=lang, context=context).save(path, progress=bar)


def main() -> None:
    """The command line."""
    moving = [name for name, room in rooms().items() if room.moving]
    usage = (__doc__ or "").replace("MOVING", ", ".join(moving))
    from gradflow.analysis.modules import modules_of

    defaults = {"run": REQUIRED, "figures": ",".join(moving), "lang": "en", "context": "slide", "out": ""}
    arguments = read_arguments(usage, sys.argv[1:], **defaults)
    from gradflow.figures import ANIMATIONS

    show_log()
    check_look(arguments)
    wanted, files = split_list(arguments["figures"]), list[Path]()
    unknown = [name for name in wanted if name not in ANIMATIONS]
    if unknown or not wanted:
        sys.exit(f"figures: expected names out of {', '.join(ANIMATIONS)}, got {', '.join(unknown) or 'nothing'}")
    try:
        home, words, runs = find(arguments["run"])
        folder = figures_folder(arguments["out"], home, arguments["lang"])
        for name in wanted:
            for module, own in modules_of(runs).items():
                title = "-".join(filter(None, [f"animated_{name}", words, module]))
                files += animate(name, own, folder / file_name(title), arguments["lang"], arguments["context"])
    except FileNotFoundError as error:
        sys.exit(told(error).replace("path: ", "run: ", 1))
    except OSError as error:
        sys.exit(told(elsewhere(error, arguments["out"])))
    except ValueError as error:
        sys.exit(told(error))
    for line in by_figure(files):
        print(line)
