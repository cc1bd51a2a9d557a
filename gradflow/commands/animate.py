"""Draws what changes while a network learns as animations: a GIF, and a page to play, stop and step it offline."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradflow.commands.arguments import errors_told, figures_folder, split_list
from gradflow.commands.columns import by_figure, show_log
from gradflow.commands.words import Words, context, lang, out, runs_in, start, theme, word
from gradflow.foreign import file_name

if TYPE_CHECKING:
    from gradflow.runlog import Run

WILD = re.compile(r"[*?]")
EXAMPLES = (
    "gradflow animate outputs/train/DATE",
    "gradflow animate outputs/train/DATE figures=gradient_heatmap lang=zh",
    "gradflow animate 'outputs/compare/DATE/*clip=norm*init=default*names_per_sequence=8*'",
)


def find(text: str) -> tuple[Path, str, list[Run]]:
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


def animate(name: str, runs: list[Run], path: Path, look: dict[str, str]) -> list[Path]:
    """Makes one animation.

    Raises:
        ValueError: The runs do not suit it; the message says why.
    """
    from tqdm import tqdm

    from gradflow import analysis, figures

    kinds = analysis.by_task(runs)
    if len(kinds) > 1:
        raise ValueError(
            f"run: expected runs of one task and size, got {len(kinds)} kinds ({'; '.join(kinds)}); choose among them, "
            f"as in run='outputs/compare/DATE/*names_per_sequence=8*'"
        )
    entry = figures.ANIMATIONS[name]
    bar = partial(tqdm, desc=name, unit="frame", leave=False, disable=None)
    return figures.make(entry, entry.analyse(runs), runs=runs, **look).save(path, progress=bar)


@click.command("animate", cls=Words, examples=EXAMPLES)
@runs_in("run")
@word("figures", "all", "Names with commas between them, or all that move.")
@lang
@context
@theme
@out
def command(run: str, figures: str, lang: str, context: str, theme: str, out: str) -> None:
    """Draw what changes while a network learns: a GIF, and a page to play, stop and step it offline.

    RUN is the folder of a run or of a sweep, or a pattern of folders (in quotes): up to four runs stand side by side.
    """
    from gradflow.analysis.modules import modules_of
    from gradflow.checks import did_you_mean
    from gradflow.figures import ANIMATIONS

    show_log()
    look = {"lang": lang, "context": context, "theme": theme}
    wanted, files = list(ANIMATIONS) if figures == "all" else split_list(figures), list[Path]()
    unknown = [name for name in wanted if name not in ANIMATIONS]
    if unknown or not wanted:
        advice = did_you_mean(unknown[0], list(ANIMATIONS)) if unknown else ""
        got = ", ".join(unknown) or "nothing"
        sys.exit(f"figures: expected names out of {', '.join(ANIMATIONS)}, got {got}{advice}")
    with errors_told(out):
        home, words, runs = find(run)
        folder = figures_folder(out, home, lang, theme)
        for name in wanted:
            for module, own in modules_of(runs).items():
                title = "-".join(filter(None, [f"animated_{name}", words, module]))
                files += animate(name, own, folder / file_name(title), look)
    for line in by_figure(files):
        print(line)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
