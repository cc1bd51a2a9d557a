"""Draws what changes while a network learns as animations: a GIF, and a page to play, stop and step it offline."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradflow.commands.arguments import Look, errors_told, figures_folder, split_list
from gradflow.commands.columns import by_figure, show_log
from gradflow.commands.words import Setting, Words, context, is_folder, lang, out, start, theme, word
from gradflow.foreign import file_name

if TYPE_CHECKING:
    from gradflow.runlog import Run

WILD = re.compile(r"[*?]")
EXAMPLES = (
    "gradflow animate outputs/train/DATE",
    "gradflow animate outputs/train/DATE figures=gradient_heatmap lang=zh",
    "gradflow animate 'outputs/compare/DATE/*clip=norm*init=default*names_per_sequence=8*'",
    "gradflow animate figures=gradient_heatmap cell=rnn,lstm     trains what it is of",
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


def animate(name: str, runs: list[Run], path: Path, look: Look) -> list[Path]:
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
    return figures.make(entry, entry.analyse(runs), runs=runs, **look.options).save(path, progress=bar)


def animate_each(name: str, runs: list[Run], folder: Path, words: str, look: Look) -> list[Path]:
    """Makes an animation of each module that the runs recorded."""
    from gradflow.analysis.modules import modules_of

    files = list[Path]()
    for module, own in modules_of(runs).items():
        title = "-".join(filter(None, [f"animated_{name}", words, module]))
        files += animate(name, own, folder / file_name(title), look)
    return files


@click.command("animate", cls=Words, settings=True, examples=EXAMPLES)
@click.argument("words", nargs=-1, type=Setting(), metavar="[RUN | SETTING=VALUE...]")
@word("figures", "all", "Names with commas between them, or all that move.")
@lang
@context
@theme
@out
def command(words: tuple[str, ...], figures: str, out: str, **look: str) -> None:
    """Draw what changes while a network learns: a GIF, and a page to play, stop and step it offline.

    RUN is the folder of a run or of a sweep, or a pattern of folders (in quotes): up to four runs stand side by side.
    Without it the networks of those that are named are trained, as by `gradflow figures`.
    """
    from gradflow.checks import did_you_mean
    from gradflow.commands.networks import check_words, own_place
    from gradflow.figures import ANIMATIONS

    show_log()
    how = Look(**look)
    wanted, files = list(ANIMATIONS) if figures == "all" else split_list(figures), list[Path]()
    unknown = [name for name in wanted if name not in ANIMATIONS]
    runs = [word.removeprefix("run=") for word in words if is_folder(word, "run")]
    settings = [word for word in words if not is_folder(word, "run")]
    if unknown or not wanted:
        advice = did_you_mean(unknown[0], list(ANIMATIONS)) if unknown else ""
        got = ", ".join(unknown) or "nothing"
        sys.exit(f"figures: expected names out of {', '.join(ANIMATIONS)}, got {got}{advice}")
    command, named = click.get_current_context().command, None if figures == "all" else wanted
    check_words(command, runs, settings, named, list(ANIMATIONS))
    with errors_told(out):
        if runs:
            home, pattern, found = find(runs[0])
            folder = figures_folder(out, home, how)
            for name in wanted:
                files += animate_each(name, found, folder, pattern, how)
        else:
            from gradflow.commands.networks import networks

            folder = Path(out) if out else own_place(how, settings)
            for name in dict.fromkeys(wanted):
                files += animate_each(name, list(networks(name, settings).members), folder, "", how)
    for line in by_figure(files):
        print(line)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
