"""Makes the lecture: trains what its figures need, some minutes, and draws the whole deck in its order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

import gradflow as gf
from gradflow.commands.arguments import LAUNCHERS, own_folder, quoted
from gradflow.commands.columns import told
from gradflow.commands.sweeping.signals import TRAIN, patiently
from gradflow.commands.words import Setting, Words, lang, start, word

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradflow.commands.deck import Drawn, Slide, Step
    from gradflow.figures.gallery import Made

EXAMPLES = (
    "gradflow lecture",
    "gradflow lecture lang=zh path=outputs/lecture/DATE     again in Chinese: nothing is trained anew",
    "gradflow lecture data=csv data.path=names.csv          names of your own",
)


OF_NAMES = ("networks", "names", "gru")
"""The parts whose networks learn from names."""


def train(folder: Path, launcher: str, names: Sequence[str] = ()) -> list[str]:
    """Trains what has not been trained yet.

    Args:
        folder: What is trained goes below it.
        launcher: How.
        names: Settings of the source of names, unless it is the one by default.

    Returns:
        The parts in which some run is not done.
    """
    from gradflow.commands.deck import PARTS

    unfinished = []
    for number, (part, experiment) in enumerate(PARTS.items(), 1):
        sys.stderr.write(f"training {number} of {len(PARTS)}: experiment={experiment}\n")
        settings = [f"experiment={experiment}", f"launcher={launcher}", f"hydra.sweep.dir={quoted(str(folder / part))}"]
        settings += names if part in OF_NAMES else ()
        if patiently([*TRAIN, *settings]):
            unfinished.append(part)
    return unfinished


def draw(slides: Sequence[Slide], folder: Path, out: Path, lang: str) -> tuple[dict[Slide, Drawn], list[str]]:
    """Draws slides from the networks trained in a folder, those of the lecture first, and deck.pdf of all of them.

    Returns:
        What was made of every slide, and a line for each slide that could not be drawn.
    """
    drawn: dict[Slide, Drawn] = {}
    left_out: list[str] = []
    first = next((slide for slide in slides if not slide.core), None)
    with gf.figures.deck(out / "deck.pdf") as add_page:
        for number, slide in enumerate(tqdm(slides, desc="drawing", unit="figure", disable=None), 1):
            if slide == first:
                add_page(divider(lang))
            try:
                drawn[slide] = make(slide, folder, out / f"{number:02}-{slide.title}", lang, add_page)
            except (ValueError, FileNotFoundError) as error:  # a full disk is no reason to go on without a slide
                left_out.append(f"left out {slide.title}: {told(error)}")
    return drawn, left_out


def make(slide: Slide, folder: Path, path: Path, lang: str, add_page: Callable[[Figure], None]) -> Drawn:
    """Draws one slide, adds it to the deck, and saves it.

    Of an animation the deck has the first, the middle and the last frame, of a figure that is built up every step.
    """
    from gradflow.commands.deck import Drawn

    runs = slide.runs(folder)
    made = gf.figures.make(slide.how, slide.table(folder), runs=runs, lang=lang)
    source = source_of(slide, runs, folder, lang)
    if isinstance(made.figure, gf.figures.Animation):
        for frame in (0, len(made.figure) // 2, len(made.figure) - 1):
            made.figure.show(frame)
            add_page(made.figure.figure)
        file = made.save(path)[0]
        return Drawn(file, made.claims, file.read_bytes(), source)
    steps = [_step(number, slide, made, path, lang, add_page) for number in range(1, slide.how.steps)]
    add_page(made.figure)
    return Drawn(made.save(path)[0], made.claims, _bare(slide, made, lang), source, steps)


def _step(number: int, slide: Slide, made: Made, path: Path, lang: str, add_page: Callable[[Figure], None]) -> Step:
    """Draws a step of a figure that is built up, adds it to the deck and saves it as a picture."""
    from gradflow.commands.deck import Step
    from gradflow.figures.catalogue import Labels
    from gradflow.figures.output import picture, place

    figure = slide.how.plot(made.data, claims=made.claims, lang=lang, step=number)
    add_page(figure)
    [file] = place(path.with_name(f"{path.name}-{number}"), {"png": picture(figure, "png")})
    return Step(Labels(lang).headline(made.claims[0], number), file, _bare(slide, made, lang, step=number))


def _bare(slide: Slide, made: Made, lang: str, **step: int) -> bytes:
    """The picture without its headline, in the shape that a slide has left for it (PNG)."""
    from gradflow.commands.slides import SHAPE
    from gradflow.figures.output import picture

    figure: Any = made.figure
    size = (figure.get_figwidth(), SHAPE * figure.get_figwidth())
    return picture(slide.how.plot(made.data, claims=made.claims, lang=lang, title="", size=size, **step), "png")


def divider(lang: str) -> Figure:
    """The page of deck.pdf between the lecture and its appendix."""
    from gradflow.figures.catalogue import texts
    from gradflow.figures.theme import new_figure, style

    with style(lang):
        figure = new_figure()
        figure.text(0.5, 0.5, texts(lang)["section.appendix"], ha="center", va="center", fontsize=40)
    return figure


def source_of(slide: Slide, runs: Sequence[gf.runlog.Run], folder: Path, lang: str) -> str:
    """Where the numbers of a slide are from, in words."""
    from gradflow.commands.deck import PARTS
    from gradflow.figures.catalogue import Labels

    labels = Labels(lang)
    if not runs:
        exact = slide.figure in gf.figures.EXACT
        return labels(f"deck.source_{'exact' if exact else 'asked'}", figure=slide.figure)
    seeds = ", ".join(str(seed) for seed in sorted({run.config["seed"] for run in runs}))
    part = runs[0].path.resolve().relative_to(folder.resolve()).parts[0]
    return labels("deck.source_runs", count=str(len(runs)), experiment=PARTS[part], seeds=seeds)


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


@click.command("lecture", cls=Words, settings=True, examples=EXAMPLES)
@click.argument("words", nargs=-1, type=Setting(), metavar="[data=SOURCE data.path=FILE]")
@word("path", "", "Folder, in which training goes on where it was interrupted; a new one below outputs/lecture.")
@lang
@word("name", "王晓丽", "The name that is shown as one-hot vectors.")
@word("names", "王晓丽,李建国,张伟,刘芳", "The names whose characters are weighed.")
@word("launcher", "processes", "How the networks are trained.", LAUNCHERS)
def command(words: tuple[str, ...], path: str, lang: str, name: str, names: str, launcher: str) -> None:
    """Train what the lecture shows, about ten minutes on two cores, and draw the whole deck in its order.

    It leaves deck/LANG/index.html, a page that shows everything and links to it: deck.pptx, slides to edit with notes
    for who speaks; deck.pdf, a slide a page; every figure as PNG, PDF and SVG with its numbers (CSV) and checked claims
    (JSON), animations as GIF and as players. What the lecture itself shows comes first, then an appendix.

    All that is about names is of those that data= and data.path= choose, as for `gradflow train`.
    """
    from gradflow.commands.names import asked_names, names_of

    source = names_of([Path(path) / part for part in OF_NAMES] if path else [], words)
    name, chosen = asked_names(source, name, names)
    from gradflow.commands.deck import deck
    from gradflow.commands.page import write_page
    from gradflow.commands.slides import write_slides

    folder = Path(path or own_folder(datetime.now().strftime("outputs/lecture/%Y-%m-%d_%H-%M-%S")))
    slides = deck(name, chosen)
    try:
        with replaced(folder / "deck" / lang) as out:
            unfinished = train(folder, launcher, source.settings)
            sys.stderr.write(f"drawing {len(slides)} figures\n")
            drawn, left_out = draw(slides, folder, out, lang)
            write_slides(out / "deck.pptx", drawn, lang)
            write_page(out, drawn, lang)
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
