"""Makes the lecture: trains what its figures need, some minutes, and draws the whole deck in its order."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

import gradflow as gf
from gradflow.commands.arguments import LAUNCHERS, Look, collect_rarely, drawing_processes, own_folder, quoted
from gradflow.commands.columns import told
from gradflow.commands.sweeping.signals import TRAIN, patiently
from gradflow.commands.words import Setting, Words, lang, start, theme, word

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradflow.commands.deck import Drawn, Slide, Step
    from gradflow.figures import Animation
    from gradflow.figures.drawing import Answer
    from gradflow.figures.gallery import Made

EXAMPLES = (
    "gradflow lecture",
    "gradflow lecture lang=zh path=outputs/lecture/DATE     again in Chinese: nothing is trained anew",
    "gradflow lecture theme=dark path=outputs/lecture/DATE  again for a dark hall: light on black",
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


class NotWorth(ValueError):
    """What a figure shows cannot be told from its numbers."""


class NotShown(str):
    """The line of a slide that is :class:`NotWorth` showing: nothing of the lecture failed."""

    __slots__ = ()


def draw(
    slides: Sequence[Slide], folder: Path, out: Path, lang: str, processes: int = 1, theme: str = "light"
) -> tuple[dict[Slide, Drawn], list[str]]:
    """Draws slides from the networks trained in a folder, those of the lecture first, and deck.pdf of all of them.

    Returns:
        What was made of every slide, and a line for each slide that could not be drawn.
    """
    from gradflow.figures.drawing import in_processes

    answers: dict[Slide, Answer] = {}
    with in_processes(processes) as share:
        for number, slide in enumerate(tqdm(slides, desc="drawing", unit="figure", disable=None), 1):
            answers[slide] = share(attempt, slide, folder, out / f"{number:02}-{slide.title}", lang, theme)
        outcomes = {slide: answer() for slide, answer in answers.items()}
    drawn = {slide: outcome for slide, outcome in outcomes.items() if not isinstance(outcome, str)}
    bind(out / "deck.pdf", drawn, lang, theme)
    return drawn, [outcome for outcome in outcomes.values() if isinstance(outcome, str)]


def attempt(slide: Slide, folder: Path, path: Path, lang: str, theme: str) -> Drawn | str:
    """Draws one slide and saves it; or the line that says why it could not be drawn."""
    collect_rarely()
    try:
        return make(slide, folder, path, lang, theme)
    except NotWorth as error:
        return NotShown(f"left out {slide.title}: {error}")
    except (ValueError, FileNotFoundError) as error:  # a full disk is no reason to go on without a slide
        return f"left out {slide.title}: {told(error)}"


def make(slide: Slide, folder: Path, path: Path, lang: str, theme: str = "light") -> Drawn:
    """Draws one slide and saves it.

    Raises:
        NotWorth: Its table lacks something without which there is nothing to show.
    """
    from gradflow.commands.deck import Drawn
    from gradflow.figures.layout import headline_share
    from gradflow.figures.room import rooms

    runs, data = slide.runs(folder), slide.table(folder)
    if not slide.moves and (lacks := rooms()[slide.figure].lacks(data)):
        raise NotWorth(lacks)
    made = gf.figures.make(slide.how, data, runs=runs, lang=lang, theme=theme)
    source = source_of(slide, runs, folder, lang)
    if isinstance(made.figure, gf.figures.Animation):
        return _moving(made, made.figure, path, source, lang)
    steps = [_step(number, slide, made, path, lang, theme) for number in range(1, slide.how.steps)]
    top = max([headline_share(made.figure), *(step.top for step in steps)])  # so that nothing moves from step to step
    steps = [step._replace(top=top) for step in steps]
    return Drawn(made.save(path)[0], made.claims, source, top, steps)


def _step(number: int, slide: Slide, made: Made, path: Path, lang: str, theme: str) -> Step:
    """Draws a step of a figure that is built up and saves it as a picture."""
    from gradflow.commands.deck import Step
    from gradflow.figures.catalogue import Labels
    from gradflow.figures.layout import headline_share
    from gradflow.figures.output import save

    figure = slide.how.plot(made.data, claims=made.claims, lang=lang, step=number, theme=theme)
    picture = save(figure, path.with_name(f"{path.name}-{number}"))[0]
    return Step(Labels(lang).headline(made.claims[0], number), picture, headline_share(figure))


def _moving(made: Made, animation: Animation, path: Path, source: str, lang: str) -> Drawn:
    """Saves an animation, its key frames as pages, each of which says which it is, and the last one as a picture."""
    from gradflow.commands.deck import Drawn
    from gradflow.figures import animation as moving
    from gradflow.figures.catalogue import Labels
    from gradflow.figures.layout import headline_share
    from gradflow.figures.output import Shown, bound, evidence, page, picture, place
    from gradflow.figures.theme import style

    labels, images, pages = Labels(lang), animation.images(), list[bytes]()
    for which, frame in zip(("first", "middle", "last"), animation.key_frames, strict=True):
        animation.show(frame)
        with style(lang):
            pages.append(page(animation.figure, labels(f"deck.frame_{which}", count=str(len(animation)))))
    contents = moving.contents(animation, images) | evidence(made.data, made.claims)
    contents |= {"png": picture(animation.figure, "png"), "pdf": bound([Shown("", "", pages)])}
    top = headline_share(animation.figure)
    box = (0, round(top * images[0].height), *images[0].size)
    bare = moving.gif([image.crop(box) for image in images])
    return Drawn(place(path, contents)[0], made.claims, source, top, moving=bare)


def bind(file: Path, drawn: Mapping[Slide, Drawn], lang: str, theme: str = "light") -> None:
    """Writes deck.pdf of the pages of all slides, in their order, before the appendix one that says so."""
    from gradflow.commands.deck import section_title
    from gradflow.figures.catalogue import Labels
    from gradflow.figures.output import Shown, bound, page
    from gradflow.files import write_files
    from gradflow.report.formulas import plain

    labels, shown = Labels(lang), list[Shown]()
    for core, slides in groupby(drawn, lambda slide: slide.core):
        if not core:
            shown.append(Shown("", labels("section.appendix"), [page(divider(lang, theme))]))
        for slide in slides:
            made = drawn[slide]
            title = plain(labels.headline(made.claims[0]) if made.claims else slide.reading(lang))
            files = [own.picture.with_suffix(".pdf") for own in made.parts]
            section = section_title(core, slide.section, labels)
            shown.append(Shown(section, title, [file.read_bytes() for file in files]))
    if shown:
        write_files({file: bound(shown, labels("deck.title"))})


def divider(lang: str, theme: str = "light") -> Figure:
    """The page of deck.pdf between the lecture and its appendix."""
    from gradflow.figures.catalogue import texts
    from gradflow.figures.options import Options, using
    from gradflow.figures.theme import new_figure, style

    with using(Options(theme=theme)), style(lang):
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
@theme
@word("name", "王晓丽", "The name that is shown as one-hot vectors.")
@word("names", "王晓丽,李建国,张伟,刘芳", "The names whose characters are weighed.")
@word("launcher", "processes", "How the networks are trained.", LAUNCHERS)
def command(words: tuple[str, ...], path: str, lang: str, theme: str, name: str, names: str, launcher: str) -> None:
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
    slides, look = deck(name, chosen), Look(lang, "slide", theme)
    try:
        with replaced(folder / "deck" / look.folder) as out:
            unfinished = train(folder, launcher, source.settings)
            sys.stderr.write(f"drawing {len(slides)} figures\n")
            drawn, left_out = draw(slides, folder, out, lang, drawing_processes(), theme)
            write_slides(out / "deck.pptx", drawn, lang, theme)
            write_page(out, drawn, lang, theme)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nInterrupted; the same command with path={folder} goes on.\n")
        sys.exit(130)
    except OSError as error:
        sys.exit(told(ValueError(f"path: expected a folder that can be written, got {folder} ({error})")))
    failed = [f"{part}: not all runs are done, see the lines above" for part in unfinished] + left_out
    moving = sum(slide.moves for slide in drawn)
    page = folder / "deck" / look.folder / "index.html"
    print("\n".join([*failed, f"{len(drawn) - moving} figures and {moving} animations: {page}"]))
    if any(not isinstance(line, NotShown) for line in failed):
        sys.exit(1)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
