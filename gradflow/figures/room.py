"""The record of a figure, and how all of them are found: a figure is a folder here, and its record says what it needs.

A folder ``gradflow/figures/<figure>/`` holds

- ``__init__.py``: what the figure claims, and `ROOM`, its record
- ``numbers.py``: its table `<figure>` out of a log, and `<figure>_claims`, the checks on that table; no matplotlib.
  Where a table may be right and still too little to show, `<figure>_lacks` says what of
- ``exact.py``, of an exact figure: `compute`, which makes its table with torch, loaded when called
- ``plot.py``: `plot_<figure>`; ``animate.py``, of one that moves: `animate_<figure>`
- ``en.yaml``, ``zh.yaml``: the texts that no other figure uses

and nothing else names it. Neither torch nor matplotlib is imported here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gradflow.figures.animation import Animation

from gradflow.cells.facts import CELLS
from gradflow.checks import check_kind, check_name, listed, shown
from gradflow.figures.options import NAMES, Options, using

PACKAGE = "gradflow.figures"
TWO_NETWORKS = "experiment=lecture seed=0 data.names_per_sequence=8 network=lstm_forget_3,tanh"
"""Settings of a training that shows most of what a log can show."""
Check = Callable[["pd.DataFrame"], list[dict[str, Any]]]


@dataclass(frozen=True)
class Room:
    """What must be known of a figure to make it.

    Attributes:
        package: Its folder, as `__name__` there.
        kind: What its table is made of: a `log`; nothing but torch (`exact`); or a `picture` of data or of a model,
            whose table is made by :mod:`gradflow.data` or :mod:`gradflow.training.prediction`.
        order: Its place among those of its kind; those without one come last, by their names.
        table: The function of its numbers, where that has not the name of the figure.
        moving: The one whose table the animation shows; none if it does not move.
        apart: Settings of runs; those that differ in one get a figure each.
        beside: Value of the last of `apart` whose runs join all the others.
        across: Settings of runs; those that differ in one share a figure, and without a difference there is none.
        whole: Whether it shows a model as a whole; else each recorded module of one has a figure.
        steps: Parts in which its picture is built up; its plot function draws the first of them with `step=1`, and all
            without. Every step but the last has its headline from the claim's `build`, see
            :meth:`gradflow.figures.catalogue.Labels.headline`.
        trained: Settings of the smallest training that shows what it claims, for who asks for it without runs; none
            for a figure that needs no network. Without any, one of a log is of two networks of the lecture.
        seconds: How long that takes on two cores, about.
        gated: Whether it is of cells with a gate that keeps, alone.
    """

    package: str
    kind: Literal["log", "exact", "picture"]
    order: float = math.inf
    table: str = ""
    moving: str = ""
    apart: tuple[str, ...] = ()
    beside: str | None = None
    across: tuple[str, ...] = ()
    whole: bool = False
    steps: int = 1
    trained: str = ""
    seconds: int = 0
    gated: bool = False

    @property
    def name(self) -> str:
        """The name of the figure."""
        return self.package.rpartition(".")[2]

    @property
    def training(self) -> str:
        """Settings of the training that it is of, where it is asked for without runs; empty if it needs none."""
        return self.trained or (TWO_NETWORKS if self.kind == "log" else "")

    @property
    def analyses(self) -> list[str]:
        """The names that `gradflow.analysis` has from here: tables out of a log, and checks."""
        tables = list(dict.fromkeys(filter(None, (self.table or self.name, self.moving))))
        return [*(tables if self.kind == "log" else ()), *(f"{table}_claims" for table in tables)]

    @property
    def drawings(self) -> list[str]:
        """The names that `gradflow.figures` has from here."""
        return [f"plot_{self.name}", *([f"animate_{self.name}"] if self.moving else ())]

    def part(self, name: str) -> ModuleType:
        """One of its modules: numbers, exact, plot or animate."""
        return import_module(f"{self.package}.{name}")

    @property
    def analyse(self) -> Callable[[Any], "pd.DataFrame"]:
        """Its table, of a run, a sweep or a sequence of runs."""
        return getattr(self.part("numbers"), self.table or self.name)

    @property
    def check(self) -> Check:
        """The checks of its claims on its table."""
        return getattr(self.part("numbers"), f"{self.table or self.name}_claims")

    @property
    def lacks(self) -> Callable[["pd.DataFrame"], str]:
        """What its table lacks to be worth a figure that nobody asked for by name (`<figure>_lacks`); or nothing."""
        return getattr(self.part("numbers"), f"{self.name}_lacks", lambda data: "")

    @property
    def plot(self) -> Callable[..., "Figure"]:
        """The figure, of its table; options: claims, lang, context, and those of all figures."""
        return with_options(getattr(self.part("plot"), f"plot_{self.name}"), self.steps)

    @property
    def analyse_moving(self) -> Callable[[Any], "pd.DataFrame"]:
        """The table of its animation."""
        return getattr(self.part("numbers"), self.moving)

    @property
    def check_moving(self) -> Check:
        """The checks of its claims on that table."""
        return getattr(self.part("numbers"), f"{self.moving}_claims")

    @property
    def animate(self) -> Callable[..., "Animation"]:
        """The animation, of that table; options: claims, lang, context."""
        return with_options(getattr(self.part("animate"), f"animate_{self.name}"))


def check_claims(claims: Any) -> None:
    """Raise a TypeError unless these are checked claims, or None."""
    for claim in () if claims is None else listed("claims", claims, "a list of checked claims"):
        check_kind("claims", claim, Mapping, "checked claims, each with claim, value, expected, holds")
        if "claim" not in claim:
            raise ValueError(f"claims: expected each to have claim, value, expected and holds, got {shown(claim)}")


_WAYS = {
    "log": "gradflow.figures.draw({figure!r}, run) makes and draws it",
    "exact": "gradflow.theory.EXACT[{figure!r}]() makes it",
    "picture": "gradflow.data or gradflow.training.prediction makes it",
}


def _options(data: Any, own: Mapping[str, Any], steps: int) -> Options:
    """The options that all figures have, each as it should be."""
    options = Options(**own)
    if options.step is not None and options.step > steps:
        known = f"a number from 1 to {steps}" if steps > 1 else "none, as this figure is not built up in steps"
        raise ValueError(f"step: expected {known}, got {options.step}; without it all is drawn")
    if options.palette:
        there = data["cell"].unique() if "cell" in getattr(data, "columns", ()) else ()
        for cell in options.palette:
            check_name("palette", cell, {*CELLS, *there})
    return options


@cache
def with_options(draw: Callable[..., Any], steps: int = 1) -> Callable[..., Any]:
    """A function that draws, which also takes the options that all figures have."""

    @wraps(draw)
    def drawn(data: "pd.DataFrame", **given: Any) -> Any:
        own = {name: given.pop(name) for name in NAMES if name in given}
        with using(_options(data, own, steps)):
            return draw(data, **given)

    return drawn


@cache
def of_its_table(draw: Callable[..., Any], figure: str) -> Callable[..., Any]:
    """A function that draws, which names its argument where that is not the table of the figure."""

    @wraps(draw)
    def drawn(data: "pd.DataFrame", **options: Any) -> Any:
        from gradflow.figures.theme import check_look  # it knows matplotlib

        steps = rooms()[figure].steps
        check_look(options.get("lang", "en"), options.get("context", "slide"))
        check_claims(options.get("claims"))
        _options(data, {name: options[name] for name in NAMES if name in options}, steps)
        signature(draw).bind(data, **{name: value for name, value in options.items() if name not in NAMES})
        try:
            return with_options(draw, steps)(data, **options)
        except (KeyError, AttributeError, TypeError, IndexError) as error:
            got = list(data)[:8] if hasattr(data, "iloc") else shown(data)  # a run has columns, too
            way = _WAYS[rooms()[figure].kind].format(figure=figure)
            raise ValueError(f"data: expected the table of {figure}, got {got} ({error}); {way}") from error

    return drawn


@cache
def rooms() -> Mapping[str, Room]:
    """Every figure's record by its name, in order."""
    folders = [module.name for module in iter_modules(import_module(PACKAGE).__path__) if module.ispkg]
    found: list[Room] = [import_module(f"{PACKAGE}.{name}").ROOM for name in folders]
    return {room.name: room for room in sorted(found, key=lambda room: (room.order, room.name))}


def of_kind(kind: str) -> dict[str, Room]:
    """The records of one kind, in order."""
    return {name: room for name, room in rooms().items() if room.kind == kind}
