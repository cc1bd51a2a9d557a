"""Makes the lecture: trains what its figures need, some minutes, and draws the whole deck in the order of the lecture.

    python experiments/lecture.py
    python experiments/lecture.py lang=zh path=outputs/lecture/DATE     (again in Chinese: nothing is trained anew)

path      a folder; training goes on there where it was interrupted (a new one below outputs/lecture, if left out)
lang      language of the deck: en, zh
name      the name that is shown as one-hot vectors
names     the names whose characters are weighed, with commas between them
launcher  how the networks are trained: LAUNCHERS

It leaves deck/LANG/index.html, a page that shows everything and links to it: deck.pdf with a slide a page, every figure
as PNG, PDF and SVG with its numbers (CSV) and checked claims (JSON), and animations as GIF and as players.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.figure import Figure
from tqdm import tqdm

import gradflow as gf
from gradflow.commands.arguments import LAUNCHERS, own_folder, quoted, read_arguments, split_list
from gradflow.commands.columns import told
from gradflow.commands.deck import PARTS, Slide, deck
from gradflow.commands.page import write_page
from gradflow.commands.sweeping.signals import patiently
from gradflow.data import one_hot
from gradflow.figures.theme import LANGUAGES

TRAIN = (sys.executable, "-m", "gradflow.commands.train")


def train(folder: Path, launcher: str) -> list[str]:
    """Trains what has not been trained yet.

    Returns:
        The parts in which some run is not done.
    """
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


def arguments() -> dict[str, str]:
    """The command line.

    Raises:
        SystemExit: With a line that says what is wrong.
    """
    usage = (__doc__ or "").replace("LAUNCHERS", ", ".join(LAUNCHERS))
    new = datetime.now().strftime("outputs/lecture/%Y-%m-%d_%H-%M-%S")
    words = {"name": "王晓丽", "names": "王晓丽,李建国,张伟,刘芳"}
    given = read_arguments(usage, sys.argv[1:], path=new, lang="en", **words, launcher="processes")
    for argument, known in {"lang": LANGUAGES, "launcher": LAUNCHERS}.items():
        if given[argument] not in known:
            sys.exit(f"{argument}: expected one of {', '.join(known)}, got {given[argument]}")
    if not split_list(given["names"]):
        sys.exit("names: expected names with commas between them, got nothing")
    for argument in words:
        try:
            for name in [given["name"]] if argument == "name" else split_list(given["names"]):
                one_hot(name)  # in the alphabet of the generated names that the networks learn from
        except ValueError as error:
            sys.exit(f"{argument}: {str(error).partition(': ')[2]}")
    if given["path"] == new:
        given["path"] = own_folder(new)
    return given


def main() -> None:
    """The command line."""
    given = arguments()
    folder, lang = Path(given["path"]), given["lang"]
    slides = deck(given["name"], split_list(given["names"]))
    try:
        with replaced(folder / "deck" / lang) as out:
            unfinished = train(folder, given["launcher"])
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
    sys.exit(1 if failed else 0)
