"""Draws figures: of runs that are there; of none, exact ones, and any other after the training that it takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from gradflow.commands.arguments import (
    Look,
    collect_rarely,
    drawing_processes,
    errors_told,
    figures_folder,
    split_list,
)
from gradflow.commands.columns import by_figure, show_log
from gradflow.commands.words import Setting, Words, context, is_folder, lang, out, start, svg, theme, word

FROM_MODEL = ("name_saliency", "gate_map", "overlap")
OF_NAMES = ("names_corpus", "one_hot")
EXAMPLES = (
    "gradflow figures outputs/train/DATE",
    "gradflow figures outputs/train/DATE figures=gate_timescales,weight_spectrum lang=zh context=paper",
    "gradflow figures outputs/train/DATE figures=name_saliency names=王晓丽,李建国",
    "gradflow figures outputs/train/DATE figures=gate_map names='王晓丽|李建国|张伟'",
    "gradflow figures figures=tanh_derivative,jacobian_product_by_lag      exact: of no run",
    "gradflow figures figures=cell_diagram cell=gru                        trains what the figure is of",
    "gradflow figures figures=names_corpus data=csv data.path=names.csv    your own names",
)


def draw_from_model(name: str, runs: Sequence[Path], names: list[str], folder: Path, look: Look) -> list[Path]:
    """What the models of runs answer to names, which characters decide that, what gates keep meanwhile."""
    from gradflow import figures  # here, as torch takes seconds and the other figures do without
    from gradflow.training import prediction

    if name == "overlap":
        data = prediction.overlap(runs)
    elif not names:
        raise ValueError(f"names: expected names=NAME for {name}, got nothing")
    elif name == "gate_map" and len(names) > 1:
        raise ValueError(f"names: expected one for gate_map, got {len(names)}; those of a roll call are joined by |")
    elif name == "gate_map":
        data = prediction.gate_map(runs[0], names[0])
    else:
        data = prediction.name_saliency(runs[0], names)
    return figures.make(figures.PICTURES[name], data, **look.options).save(folder / name, **look.files)


def draw_exact(name: str, folder: Path, look: Look) -> list[Path]:
    """An exact result, which needs no run."""
    import gradflow as gf  # here, as torch takes seconds

    return gf.figures.make(gf.figures.EXACT[name], gf.theory.EXACT[name](), **look.options).save(
        folder / name, **look.files
    )


def draw_of_runs(path: Path, wanted: Sequence[str] | None, names: list[str], folder: Path, look: Look) -> list[Path]:
    """Those of the runs below a folder that are wanted (None: all that the log supports), and exact ones."""
    from gradflow import open_sweep
    from gradflow.figures import EXACT, draw_all

    files = list[Path]()
    from_log = None if wanted is None else [name for name in wanted if name not in (*FROM_MODEL, *OF_NAMES, *EXACT)]
    if from_log is None or from_log:
        files += draw_all(path, folder, only=from_log, processes=drawing_processes(), **look.options, **look.files)
    for name in dict.fromkeys(wanted or ()):
        if name in EXACT:
            files += draw_exact(name, folder, look)
        elif name in OF_NAMES:
            raise ValueError(f"figures: expected no run for {name}, which is of names alone; leave {path} out")
        elif name in FROM_MODEL:
            runs = [run.path for run in open_sweep(path)] if name == "overlap" else [path]
            files += draw_from_model(name, runs, names, folder, look)
    return files


def draw_from_nothing(name: str, settings: Sequence[str], names: list[str], folder: Path, look: Look) -> list[Path]:
    """Any figure, after the training that it is of; of names, those of the settings."""
    from gradflow.figures import EXACT, PICTURES, draw_all, make
    from gradflow.figures.room import rooms

    if name in EXACT:
        return draw_exact(name, folder, look)
    if name in OF_NAMES:
        from gradflow.commands.names import chosen

        source = chosen(settings)
        data = source.corpus() if name == "names_corpus" else source.one_hot(names[0] if names else "")
        return make(PICTURES[name], data, **look.options).save(folder / name, **look.files)
    from gradflow.commands.networks import networks

    sweep = networks(name, settings)
    if name in FROM_MODEL:
        from gradflow.commands.names import asked_of

        runs = [run.path for run in sweep]
        names = names or asked_of(runs[0], together=name == "gate_map")
        return draw_from_model(name, runs, names, folder, look)
    files = draw_all(sweep, folder, only=[name], **look.options, **look.files)
    if not files:
        across = " or ".join(rooms()[name].across)
        why = f"it needs several values of {across}" if across else "the lines above say why"
        sys.exit(f"{name}: expected networks that it can show, got those of {' '.join(settings) or 'itself'}; {why}")
    return files


@click.command("figures", cls=Words, settings=True, examples=EXAMPLES)
@click.argument("words", nargs=-1, type=Setting(), metavar="[RUN | SETTING=VALUE...]")
@word("figures", "all", "Names with commas between them, or all: whatever the log supports.")
@word("names", "", "What the model is asked: names with commas between them; of a roll call joined by |.")
@lang
@context
@theme
@svg
@out
def command(words: tuple[str, ...], figures: str, names: str, out: str, **look: str) -> None:
    """Draw figures: of a run or a sweep that is there, or of none any that are named.

    Without RUN an exact figure, such as tanh_derivative, is computed; for any other the networks that it shows are
    trained, seconds to a minute, and kept in outputs/figures/networks for the next one. SETTINGS are those of
    `gradflow train`: cell=, init=, data=, ... Such figures go to outputs/figures/LANG.

    name_saliency, gate_map (of an LSTM or a GRU, and one name) and overlap ask the model; of a run they are drawn
    where they are named.
    """
    collect_rarely()
    from gradflow.commands.networks import check_words, own_place
    from gradflow.figures.room import rooms

    runs = [word.removeprefix("run=") for word in words if is_folder(word, "run")]
    settings = [word for word in words if not is_folder(word, "run")]
    wanted = None if figures == "all" else split_list(figures)
    check_words(click.get_current_context().command, runs, settings, wanted, list(rooms()))
    show_log()
    asked, how = split_list(names), Look(**look)
    with errors_told(out):
        if runs:
            folder = figures_folder(out, Path(runs[0]), how)
            files = draw_of_runs(Path(runs[0]), wanted, asked, folder, how)
        else:
            folder = Path(out) if out else own_place(how, settings)
            files = [
                file
                for name in dict.fromkeys(wanted or ())
                for file in draw_from_nothing(name, settings, asked, folder, how)
            ]
    if not files:
        sys.exit(f"figures: none of those asked for is in the log of {runs[0]}; the lines above say why")
    for line in by_figure(files):
        print(line)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
