"""Every figure that a log supports, in one go; and how the exact results are checked and drawn."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from gradflow.analysis.modules import modules_of
from gradflow.analysis.proofs import proof_claims
from gradflow.analysis.runs import DoesNotApply, Run, identity
from gradflow.analysis.tasks import by_task
from gradflow.checks import check_kind, check_path, did_you_mean, listed, whole_number
from gradflow.figures.animation import Animation, save_animation
from gradflow.figures.drawing import Answer, in_processes
from gradflow.figures.output import save
from gradflow.figures.room import of_kind, rooms
from gradflow.figures.theme import ShownFigure, check_look
from gradflow.foreign import file_name
from gradflow.runlog import Sweep, Unreadable, open_sweep

log = logging.getLogger(__name__)
T = TypeVar("T")
_LEFT_OUT = "left out %s: %s"


class Entry(NamedTuple):
    """How a figure of the gallery is made.

    Runs that differ in `apart` get a figure each, and `beside` joins them all; runs that differ in `across` share one,
    and one that they do not differ in is not drawn. Unless it is of models as a `whole`, each recorded module has one.
    """

    analyse: Callable[[Any], pd.DataFrame]
    check: Callable[[pd.DataFrame], list[dict[str, Any]]]
    plot: Callable[..., Figure]
    apart: tuple[str, ...] = ()
    beside: str | None = None  # value of the last of `apart`
    across: tuple[str, ...] = ()
    whole: bool = False
    steps: int = 1  # in which its picture is built up


class Exact(NamedTuple):
    """How a table that is not of a log is checked and drawn."""

    check: Callable[[pd.DataFrame], list[dict[str, Any]]]
    plot: Callable[..., Figure]
    steps: int = 1  # in which its picture is built up


class Animated(NamedTuple):
    """How an animation is made of up to four runs."""

    analyse: Callable[[Any], pd.DataFrame]
    check: Callable[[pd.DataFrame], list[dict[str, Any]]]
    animate: Callable[..., Animation]


GALLERY = {
    name: Entry(room.analyse, room.check, room.plot, room.apart, room.beside, room.across, room.whole, room.steps)
    for name, room in of_kind("log").items()
}
EXACT = {name: Exact(room.check, room.plot, room.steps) for name, room in of_kind("exact").items()}
"""By the names of `gradflow.theory.EXACT`, which computes the tables."""

PICTURES = {name: Exact(room.check, room.plot, room.steps) for name, room in of_kind("picture").items()}
"""By the functions of `gradflow.data` and `gradflow.training.prediction` (which asks a model) that make tables."""

ANIMATIONS = {
    name: Animated(room.analyse_moving, room.check_moving, room.animate)
    for name, room in rooms().items()
    if room.moving
}


class Made(NamedTuple):
    """A figure or an animation with its numbers and the checks of its claims. In a notebook it shows the figure."""

    figure: Figure | Animation
    data: pd.DataFrame
    claims: list[dict[str, Any]]

    def __repr__(self) -> str:
        held = sum(bool(claim["holds"]) for claim in self.claims)
        return f"Made({self.figure!r}, {len(self.data)} rows of numbers, {held} of {len(self.claims)} claims hold)"

    def _repr_png_(self) -> Any:
        return self.figure._repr_png_() if isinstance(self.figure, ShownFigure) else None

    def _repr_html_(self) -> str | None:
        return self.figure._repr_html_() if isinstance(self.figure, Animation) else None

    def save(self, path: str | Path, **options: Any) -> list[Path]:
        """Writes all of it; see :func:`save` and :func:`save_animation` for what each takes."""
        if isinstance(self.figure, Animation):
            return save_animation(self.figure, path, data=self.data, claims=self.claims, **options)
        return save(self.figure, path, data=self.data, claims=self.claims, **options)


def make(how: Entry | Exact | Animated, data: pd.DataFrame, *, runs: Sequence[Run] = (), **options: Any) -> Made:
    """Checks the claims of a figure on its table and draws it; where the proof of a record failed, the caption says so.

    Args:
        how: Out of `GALLERY`, `EXACT`, `PICTURES` or `ANIMATIONS`.
        data: Its table.
        runs: Those that the table was made of.
        **options: lang, context, theme and, but of an animation, title, caption, labels, palette, size, step.
    """
    check_kind("how", how, (Entry, Exact, Animated), "an entry of GALLERY, EXACT, PICTURES or ANIMATIONS")
    check_kind("data", data, pd.DataFrame, "the table of the figure")
    check_look(options.get("lang", "en"), options.get("context", "slide"))
    runs = listed("runs", runs, "a list of runs")
    try:
        claims = _claims(how, data, runs)
    except (KeyError, AttributeError, IndexError) as error:
        raise ValueError(f"data: expected the table of the figure, got {list(data)[:8]} ({error})") from error
    draw = how.animate if isinstance(how, Animated) else how.plot
    return Made(draw(data, claims=claims, **options), data, claims)


def _claims(how: Entry | Exact | Animated, data: pd.DataFrame, runs: Sequence[Run]) -> list[dict[str, Any]]:
    return how.check(data) + (proof_claims(runs, data) if runs else [])


def draw_all(
    path: str | Path | Sweep,
    out_dir: str | Path,
    *,
    only: Collection[str] | None = None,
    lang: str = "en",
    context: str = "slide",
    theme: str = "light",
    svg_text: bool = False,
    processes: int = 1,
) -> list[Path]:
    """Draw every figure that the runs below a path support; say in the log which are left out, and why.

    Runs of different tasks, sizes or other settings never share a figure, nor do modules of one model or runs of which
    nothing is known: each has its own, and the name of the file says which. Figures of other networks than those there
    (a stack, two directions, gates) are missed by nobody who did not ask for them: about these the log is silent, but
    for its level DEBUG, unless `only` names them.

    Args:
        path: The folder of a run or of a sweep, or what :func:`gradflow.open_sweep` returned.
        out_dir: Where the figures go; made if missing.
        only: Names out of `GALLERY`; None is all of them.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.
        theme: `light` or `dark`.
        svg_text: As :func:`save` takes it.
        processes: 1, or 2 to have half of the figures drawn by a second process; a script that asks for it does so
            below `if __name__ == "__main__":`.

    Returns:
        All files written.

    Raises:
        FileNotFoundError: There is no run below the path.
        ValueError: An unknown language, context, theme or figure, or no run that can be read; one among others that
            cannot is left out and named in the log (WARNING).
        OSError: A figure cannot be written.
    """
    tried = draw_each(
        path, out_dir, only=only, lang=lang, context=context, theme=theme, svg_text=svg_text, processes=processes
    )
    return [file for figure in tried for file in figure.files]


def draw_each(
    path: str | Path | Sweep,
    out_dir: str | Path,
    *,
    only: Collection[str] | None = None,
    lang: str = "en",
    context: str = "slide",
    theme: str = "light",
    svg_text: bool = False,
    processes: int = 1,
) -> list["Tried"]:
    """As :func:`draw_all`, of which it has the arguments and errors; what was tried, in the order of the files."""
    check_look(lang, context, theme)
    check_path("out_dir", out_dir, "the folder for the figures")
    whole_number("processes", processes, 1, most=2)
    only = None if only is None else listed("only", only, "a list of names of figures")
    unknown = [str(name) for name in only or () if name not in GALLERY]
    if unknown:
        advice = did_you_mean(unknown[0], list(GALLERY))
        raise ValueError(f"figures: expected names out of {', '.join(GALLERY)}, got {', '.join(unknown)}{advice}")
    chosen = {name: entry for name, entry in GALLERY.items() if only is None or name in only}
    sweep = (path if isinstance(path, Sweep) else open_sweep(path)).kept()
    begun: list[tuple[Tried, Answer]] = []
    titles: set[str] = set()
    with in_processes(processes) as share:
        for figure in tried(sweep.readable.members, chosen):
            reason = figure.reason or (figure.not_worth if only is None else None)
            if reason is not None:
                _say(figure.job.title, reason, asked_for=only is not None)
                begun.append((figure, list))
                continue
            title = figure.job.title
            while title in titles:  # only a stranger's settings make two alike
                title += "+"
            titles.add(title)
            where = Path(out_dir) / file_name(title)
            options = {"lang": lang, "context": context, "theme": theme}
            begun.append((figure, share(_draw, figure.job.name, figure.data, figure.claims, where, svg_text, options)))
        drawn = []
        for figure, answer in begun:
            outcome = answer()
            if isinstance(outcome, Exception):
                _say(figure.job.title, outcome, asked_for=only is not None)
                drawn.append(figure._replace(reason=outcome))
            else:
                drawn.append(figure._replace(files=outcome, lang=lang))
    return drawn


class Tried(NamedTuple):
    """A figure that was tried.

    Attributes:
        job: What it is of.
        data: Its table, empty if there is none.
        claims: The checks on it.
        reason: Why it is left out, if it is.
        lacks: What its table lacks to be worth a figure that nobody asked for by name; empty if nothing.
        files: Where it was drawn.
        lang: In which language.
    """

    job: "Job"
    data: pd.DataFrame
    claims: list[dict[str, Any]]
    reason: Exception | None = None
    lacks: str = ""
    files: Sequence[Path] = ()
    lang: str = ""

    @property
    def not_worth(self) -> Exception | None:
        """Why it is not drawn unless somebody asks for it by name, if so."""
        return ValueError(f"{self.lacks}; asked for by name it is drawn") if self.lacks else None


def tried(runs: Sequence[Run], gallery: Mapping[str, Entry]) -> Iterator[Tried]:
    """The table of every figure, checked, or why there is none; runs that turn out to be damaged are left out."""
    lost: set[Any] = set()
    for job in jobs(runs, gallery):
        try:
            data, claims = of_readable(partial(_numbers, job.entry), job.runs, lost)
            yield Tried(job, data, claims, lacks=rooms()[job.name].lacks(data))
        except Exception as reason:
            yield Tried(job, pd.DataFrame(), [], reason)


def _numbers(entry: Entry, runs: Sequence[Run]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    data = entry.analyse(runs)
    return data, _claims(entry, data, runs)


def _draw(
    name: str, data: pd.DataFrame, claims: list[dict[str, Any]], path: Path, svg_text: bool, options: dict[str, Any]
) -> list[Path] | Exception:
    """Draws and writes one figure of the gallery: its files, or what keeps it from being drawn."""
    try:
        made = Made(GALLERY[name].plot(data, claims=claims, **options), data, claims)
    except Exception as reason:
        return reason
    return made.save(path, svg_text=svg_text)


def _say(title: str, reason: Exception, *, asked_for: bool) -> None:
    """Why a figure is left out; settings and numbers that nobody foresaw cost that one, and no other."""
    if isinstance(reason, DoesNotApply):
        log.log(logging.INFO if asked_for else logging.DEBUG, _LEFT_OUT, title, reason)
    elif isinstance(reason, ValueError):
        log.info(_LEFT_OUT, title, reason)
    else:
        log.warning(_LEFT_OUT, title, f"{type(reason).__name__}: {reason}")
        log.debug("%s", title, exc_info=reason)


def of_readable(make_of: Callable[[list[Any]], T], runs: Sequence[Any], lost: set[Any]) -> T:
    """What is made of runs, without those in `lost`, to which those are added whose tables turn out to be damaged.

    Raises:
        ValueError: What `make_of` raises, or no run is left.
    """
    while True:
        runs = [run for run in runs if run not in lost]
        try:
            return make_of(runs)
        except Unreadable as damage:
            owners = {run for run in runs if damage.file.is_relative_to(run.path)}
            if not owners:
                raise
            log.warning("left out: %s", damage)
            lost |= owners


class Job(NamedTuple):
    """A figure to be tried.

    Attributes:
        name: Out of `GALLERY`.
        group: The task of its runs, where there are several; see :func:`gradflow.analysis.by_task`.
        part: The settings of `apart` that tell its runs from those of others.
        module: The recorded module it is of, where there are several.
        entry: How it is made.
        runs: Of which.
    """

    name: str
    group: str
    part: str
    module: str
    entry: Entry
    runs: list[Run]

    @property
    def title(self) -> str:
        """What it is called in the log and by its file."""
        return "-".join(word for word in (self.name, self.group, self.part, self.module) if word)


def jobs(runs: Sequence[Run], gallery: Mapping[str, Entry]) -> Iterator[Job]:
    """Every figure to be tried, task by task, then what spans tasks; of a task without rows it is said in the log."""
    for group, members in by_task(runs).items():
        if not any(len(run.scalars) for run in members):
            states = ", ".join(f"{count} {state}" for state, count in Counter(run.status for run in members).items())
            log.info(_LEFT_OUT, group or "all figures", f"no run has recorded anything ({states})")
            continue
        for name, entry in gallery.items():
            if not entry.across:
                for part, own in _apart(members, entry).items():
                    for module, seen in {"": own}.items() if entry.whole else modules_of(own).items():
                        yield Job(name, group, part, module, entry, seen)
    for name, entry in gallery.items():
        for group, members in by_task(runs, entry.across).items() if entry.across else ():
            if len(by_task(members)) > 1:
                yield Job(name, group, "", "", entry, members)


_IN_FILES = str.maketrans({",": "+", " ": "", "\\": ""})
"""What the settings of a start are told by in the name of a file."""


def _apart(runs: Sequence[Run], entry: Entry) -> dict[str, list[Run]]:
    """Runs by the settings that are kept apart, named where these vary."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        names = identity(run) if entry.apart else {}
        groups.setdefault(tuple(str(names[key]) for key in entry.apart), []).append(run)
    if entry.beside is not None:
        groups = _joined(groups, entry.beside)
    varying = [i for i in range(len(entry.apart)) if len({values[i] for values in groups}) > 1]
    named: dict[str, list[Run]] = {}
    for number, (values, members) in enumerate(groups.items(), 1):
        name = ",".join(f"{entry.apart[i]}={values[i].translate(_IN_FILES)}" for i in varying)
        named[f"{name},group={number}" if name in named else name] = members
    return named


def _joined(groups: dict[tuple[str, ...], list[Run]], beside: str) -> dict[tuple[str, ...], list[Run]]:
    """Groups without that of `beside`, whose runs are in each of the others; alone it stays."""
    baseline = {values[:-1]: members for values, members in groups.items() if values[-1] == beside}
    others = {values: members for values, members in groups.items() if values[-1] != beside}
    alone = {(*start, beside): runs for start, runs in baseline.items() if start not in {v[:-1] for v in others}}
    return {values: baseline.get(values[:-1], []) + members for values, members in others.items()} | alone
