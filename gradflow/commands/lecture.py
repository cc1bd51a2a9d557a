"""Makes the lecture: trains what its figures need, some minutes, and draws the whole deck in its order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

import gradflow as gf
from gradflow.commands.arguments import LAUNCHERS, own_folder, quoted, split_list
from gradflow.commands.columns import told
from gradflow.commands.sweeping.signals import TRAIN, patiently
from gradflow.commands.words import Told, Words, lang, start, word

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradflow.commands.deck import Slide

EXAMPLES = (
    "gradflow lecture",
    "gradflow lecture lang=zh path=outputs/lecture/DATE     again in Chinese: nothing is trained anew",
)


def train(folder: Path, launcher: str) -> list[str]:
    """Trains what has not been trained yet.

    Returns:
        The parts in which some run is not done.
    """
    from gradflow.commands.deck import PARTS

    unfinished = []
    for number, (part, experiment) in enumerate(PARTS.items(), 1):
        sys.stderr.write(f"training {number} of {len(PARTS)}: experiment={experiment}\n")
        settings = [f"experiment={experiment}", f"launcher={launcher}", f"hydra.sweep.dir={quoted(str(folder / part))}"]
        if patiently([*TRAIN, *settings]):
            unfinished.append(part)
    return unfinished


def draw(slides: Sequence[Slide], folder: Path, out: Path, lang: str) -> tuple[dict[Slide, Path], list[str]]:
    """Draws slides from the networks trained in a folder.

    Returns:
        The PNG or GIF file of every slide, and a line for each slide that could not be drawn.
    """
    drawn, left_out = dict[Slide, Path](), list[str]()
    with gf.figures.deck(out / "deck.pdf") as add_page:
        for number, slide in enumerate(tqdm(slides, desc="drawing", unit="figure", disable=None), 1):
            try:
                drawn[slide] = make(slide, folder, out / f"{number:02}-{slide.title}", lang, add_page)
            except (ValueError, FileNotFoundError) as error:  # a full disk is no reason to go on without a slide
                left_out.append(f"left out {slide.title}: {told(error)}")
    return drawn, left_out


def make(slide: Slide, folder: Path, path: Path, lang: str, add_page: Callable[[Figure], None]) -> Path:
    """Draws one slide, adds it to the deck unless it moves, and saves it; its picture."""
    made = gf.figures.make(slide.how, slide.table(folder), runs=slide.runs(folder), lang=lang)
    if not slide.moves:
        add_page(made.figure)
    return made.save(path)[0]


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Gives a new folder that takes the place of this one at the end, or of nothing if that does not come.

    Raises:
        OSError: It cannot be made, or the one that is there cannot be moved, which then stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as new:
        yield Path(new) / folder.name
        before = Path(new) / "before"
        if folder.exists():
            folder.rename(before)
        try:
            (Path(new) / folder.name).rename(folder)
        except BaseException:
            if before.exists() and not folder.exists():
                before.rename(folder)
            raise


def sections(slides: Sequence[Slide], drawn: Mapping[Slide, Path]) -> list[tuple[str, list[Path]]]:
    """The parts of the lecture and the pictures that were drawn for each."""
    groups = groupby(slides, lambda slide: slide.section)
    return [(section, [drawn[slide] for slide in group if slide in drawn]) for section, group in groups]


def check_names(**given: Sequence[str]) -> None:
    """Raises a usage error for a name that is not in the alphabet of the generated names that networks learn from."""
    from gradflow.data import one_hot

    for argument, names in given.items():
        if not names:
            raise Told(f"{argument}: expected names with commas between them, got nothing")
        try:
            for name in names:
                one_hot(name)
        except ValueError as error:
            raise Told(f"{argument}: {str(error).partition(': ')[2]}") from None


@click.command("lecture", cls=Words, examples=EXAMPLES)
@word("path", "", "Folder, in which training goes on where it was interrupted; a new one below outputs/lecture.")
@lang
@word("name", "王晓丽", "The name that is shown as one-hot vectors.")
@word("names", "王晓丽,李建国,张伟,刘芳", "The names whose characters are weighed.")
@word("launcher", "processes", "How the networks are trained.", LAUNCHERS)
def command(path: str, lang: str, name: str, names: str, launcher: str) -> None:
    """Train what the lecture shows, about ten minutes on two cores, and draw the whole deck in its order.

    It leaves deck/LANG/index.html, a page that shows everything and links to it: deck.pdf with a slide a page, every
    figure as PNG, PDF and SVG with its numbers (CSV) and checked claims (JSON), animations as GIF and as players.
    """
    check_names(name=[name], names=split_list(names))
    from gradflow.commands.deck import deck
    from gradflow.commands.page import write_page

    folder = Path(path or own_folder(datetime.now().strftime("outputs/lecture/%Y-%m-%d_%H-%M-%S")))
    slides = deck(name, split_list(names))
    try:
        with replaced(folder / "deck" / lang) as out:
            unfinished = train(folder, launcher)
            sys.stderr.write(f"drawing {len(slides)} figures\n")
            drawn, left_out = draw(slides, folder, out, lang)
            write_page(out, sections(slides, drawn), lang)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nInterrupted; the same command with path={folder} goes on.\n")
        sys.exit(130)
    except OSError as error:
        sys.exit(told(ValueError(f"path: expected a folder that can be written, got {folder} ({error})")))
    failed = [f"{part}: not all runs are done, see the lines above" for part in unfinished] + left_out
    moving = sum(slide.moves for slide in drawn)
    page = folder / "deck" / lang / "index.html"
    print("\n".join([*failed, f"{len(drawn) - moving} figures and {moving} animations: {page}"]))
    if failed:
        sys.exit(1)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
