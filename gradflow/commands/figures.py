"""Draws figures of finished runs, those asked for, and exact ones of no run. It trains nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradflow.commands.arguments import collect_rarely, drawing_processes, errors_told, figures_folder, split_list
from gradflow.commands.columns import by_figure, show_log
from gradflow.commands.words import Told, Words, context, lang, out, runs_in, start, svg, theme, word

if TYPE_CHECKING:
    from gradflow.figures.gallery import Made

FROM_MODEL = ("name_saliency", "gate_map")
EXAMPLES = (
    "gradflow figures outputs/train/DATE",
    "gradflow figures outputs/train/DATE figures=gate_timescales,weight_spectrum lang=zh context=paper",
    "gradflow figures figures=tanh_derivative,jacobian_product_by_lag     exact: of no run",
    "gradflow figures outputs/train/DATE figures=name_saliency names=王晓丽,李建国",
    "gradflow figures outputs/train/DATE figures=gate_map names='王晓丽|李建国|张伟'",
)


def draw_from_model(name: str, run: Path, names: list[str], look: dict[str, str]) -> Made:
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
    return figures.make(figures.PICTURES[name], data, **look)


def draw_exact(name: str, look: dict[str, str]) -> Made:
    """An exact result, which needs no run."""
    import gradflow as gf  # here, as torch takes seconds

    return gf.figures.make(gf.figures.EXACT[name], gf.theory.EXACT[name](), **look)


@click.command("figures", cls=Words, examples=EXAMPLES)
@runs_in("run", required=False)
@word("figures", "all", "Names with commas between them, or all: whatever the log supports.")
@word("names", "", "What the model is asked: names with commas between them; of a roll call joined by |.")
@lang
@context
@theme
@svg
@out
def command(run: str, figures: str, names: str, lang: str, context: str, theme: str, svg: str, out: str) -> None:
    """Draw figures of a run or of a sweep that is there. It trains nothing.

    name_saliency and gate_map (of an LSTM or a GRU, and one name) ask the model; they are drawn where they are named.
    So are the exact ones, such as tanh_derivative, which need no run and go to outputs/figures/LANG without one.
    """
    collect_rarely()
    from gradflow.figures import EXACT, draw_all

    wanted = None if figures == "all" else split_list(figures)
    others = wanted is None or not set(wanted) <= set(EXACT)
    if not run and others:
        exact = ", ".join(EXACT)
        raise Told(f"run: expected the folder of runs for {figures}, got nothing; without one there are {exact}")
    show_log()
    look, svg_text = {"lang": lang, "context": context, "theme": theme}, svg == "text"
    path, files = Path(run or "outputs"), list[Path]()
    from_log = None if wanted is None else [name for name in wanted if name not in (*FROM_MODEL, *EXACT)]
    with errors_told(out):
        folder = figures_folder(out, path, lang, theme)
        if from_log is None or from_log:
            more = {"processes": drawing_processes(), "svg_text": svg_text}
            files += draw_all(path, folder, only=from_log, **look, **more)
        for name in dict.fromkeys(wanted or ()):
            if name in EXACT:
                files += draw_exact(name, look).save(folder / name, svg_text=svg_text)
            elif name in FROM_MODEL:
                made = draw_from_model(name, path, split_list(names), look)
                files += made.save(folder / name, svg_text=svg_text)
    if not files:
        sys.exit(f"figures: none of those asked for is in the log of {path}; the lines above say why")
    for line in by_figure(files):
        print(line)


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
