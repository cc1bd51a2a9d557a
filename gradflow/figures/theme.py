"""How figures look: sizes by context, colours by theme, colours and marks by cell, fonts by language."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
from cycler import cycler
from matplotlib import font_manager
from matplotlib.figure import Figure

from gradflow.cells.facts import CELLS
from gradflow.checks import require
from gradflow.figures.options import CONTEXTS, LANGUAGES, THEMES, Options, in_force, using

CHINESE, IN_FORMULAS = "Gradflow Sans SC", "Gradflow Formulas"
FAMILIES = {"en": ["DejaVu Sans", CHINESE], "zh": [CHINESE, "DejaVu Sans"]}
"""Text that holds a formula takes its first family alone, so Chinese text needs the Chinese font first."""
FONTSET = {"en": "dejavusans", "zh": "custom"}
FORMULAS: dict[Any, str] = {
    "mathtext.rm": IN_FORMULAS,
    "mathtext.it": "DejaVu Sans:italic",
    "mathtext.bf": "DejaVu Sans:bold",
    "mathtext.bfit": "DejaVu Sans:bold:italic",
    "mathtext.sf": "DejaVu Sans",
    "mathtext.tt": "DejaVu Sans Mono",
    "mathtext.cal": "DejaVu Sans:italic",
    "mathtext.fallback": "stixsans",
}
"""The fonts of the set `custom`: in Chinese text digits in formulas are those of the text around them."""


class Tone(str):
    """A colour by what it is on white; :func:`shade` gives what it is in the theme in force."""


BLACK, VERMILLION, BLUE = Tone("#000000"), Tone("#D55E00"), Tone("#0072B2")
GREEN, PURPLE, GREY = Tone("#009E73"), Tone("#CC79A7"), Tone("#6E6E6E")
TITLE, INK = Tone("#111111"), Tone("#333333")  # headlines, captions
PAPER, GRID = Tone("#FFFFFF"), Tone("#E4E4E4")
ON_DARK, ON_LIGHT = "#FFFFFF", "#000000"  # on a heat map, which is the same in every theme
PALE = Tone("#D0D0D0")  # a broad line behind others
NOTHING = Tone("#BBBBBB")  # cells of a heat map where the gradient is zero
DARK = {
    BLACK: "#F4F4F4",
    VERMILLION: "#F07A35",
    BLUE: "#4FA3F7",
    GREEN: "#21DB8F",
    PURPLE: "#F59ADA",
    GREY: "#8F959B",
    TITLE: "#FFFFFF",
    INK: "#D5D9DD",
    PAPER: "#14181C",
    GRID: "#2E353C",
    PALE: "#4B545C",
    NOTHING: "#5A5A5A",
}
"""What each is on a dark ground: there, too, told apart by the colour-blind, and words are read (4.5:1)."""
ROOMY = 1.2
FADED = 0.25  # opacity of what stands behind


class Look(NamedTuple):
    """Colour and marker of a cell."""

    colour: str
    marker: str


LOOKS = {name: Look(Tone(facts.colour), facts.marker) for name, facts in CELLS.items()}
DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)))
"""Line styles of the variants of one cell in one axes."""


_FURTHER = ("*", "p", "<", "h", ">")
"""Marks of no cell of LOOKS."""


def marker(cell: str, variant: int) -> str:
    """The mark of one of several starts of a cell, which have one colour: the first has the cell's own.

    Example:
        >>> [marker("lstm", variant) for variant in range(3)]
        ['^', '*', 'p']
    """
    return (look(cell).marker, *_FURTHER)[variant % (len(_FURTHER) + 1)]


def shade(colour: str) -> str:
    """A tone as it is in the theme in force; any other colour as it is.

    Example:
        >>> shade(BLUE), shade("#0072B2")
        ('#0072B2', '#0072B2')
        >>> with using(Options(theme="dark")):
        ...     shade(BLUE), shade("#0072B2")
        ('#4FA3F7', '#0072B2')
    """
    return DARK[colour] if isinstance(colour, Tone) and in_force().theme == "dark" else str(colour)


def look(cell: str) -> Look:
    """Colour and marker of a cell, of the palette if it has one; a model gradflow does not know has that of ink."""
    own = LOOKS.get(cell, Look(BLACK, "o"))
    return own._replace(colour=in_force().palette.get(cell, shade(own.colour)))


def under_words() -> dict[str, Any]:
    """The ground that words have where marks are."""
    return {"facecolor": shade(PAPER), "edgecolor": "none", "alpha": 0.8, "pad": 1.0}


@cache
def register_font() -> None:
    """Make the bundled fonts known to matplotlib, once."""
    for name in ("GradflowSansSC", "GradflowFormulas"):
        font_manager.fontManager.addfont(str(files("gradflow.figures") / "fonts" / f"{name}-Regular.ttf"))


def check_look(lang: str, context: str, theme: str = "light") -> None:
    """Raise a ValueError for an unknown language, context or theme."""
    for argument, value, known in (
        ("lang", lang, LANGUAGES),
        ("context", context, tuple(CONTEXTS)),
        ("theme", theme, THEMES),
    ):
        require(value in known, argument, f"one of {', '.join(known)}", value)


_OF_INK = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color", "patch.edgecolor")
_OF_PAPER = ("figure.facecolor", "axes.facecolor")
_CYCLE = (BLACK, VERMILLION, BLUE, GREEN, PURPLE, GREY)


@contextmanager
def style(lang: str = "en", context: str = "slide") -> Iterator[None]:
    """Apply gradflow's style, in the theme in force, to what is drawn inside, and put everything back afterwards.

    Args:
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Raises:
        ValueError: An unknown language or context.
    """
    check_look(lang, context)
    register_font()
    sheet = mpl.rc_params_from_file(str(files("gradflow.figures") / "gradflow.mplstyle"), use_default_template=False)
    params: dict[str, Any] = {str(key): _scaled(key, value, CONTEXTS[context]) for key, value in sheet.items()}
    fonts = FORMULAS | {"font.family": FAMILIES[lang], "mathtext.fontset": FONTSET[lang]}
    with mpl.style.context(["default", params | _colours() | fonts]):
        yield


def _colours() -> dict[str, Any]:
    ink, paper = dict.fromkeys(_OF_INK, shade(BLACK)), dict.fromkeys(_OF_PAPER, shade(PAPER))
    return ink | paper | {"grid.color": shade(GRID), "axes.prop_cycle": cycler(color=[shade(tone) for tone in _CYCLE])}


def theme_of(figure: Figure) -> AbstractContextManager[None]:
    """Inside, the theme in force is that of a figure."""
    return using(Options(theme=getattr(figure, "theme", "light")))


@contextmanager
def as_drawn(figure: Figure) -> Iterator[None]:
    """The style in which a figure is drawn once more as it was: in its theme, its layout left as it is."""
    with theme_of(figure), style(), without_engine():
        yield


def without_engine() -> AbstractContextManager[None]:
    """Inside, a figure whose layout engine is None stays without; the sheet would have it set anew."""
    return mpl.rc_context({"figure.constrained_layout.use": False})


def _scaled(key: str, value: Any, factor: float) -> Any:
    if key == "figure.figsize":
        return [side * factor for side in value]
    in_points = key.endswith(("size", "pad", "width")) and key != "legend.borderaxespad"
    return value * factor if in_points else value


def thin(share: float = 0.6) -> float:
    """A line width relative to that of the style in force."""
    return mpl.rcParams["lines.linewidth"] * share


class ShownFigure(Figure):
    """A figure that a notebook shows as the value of a cell: matplotlib's own is shown only once pyplot is there.

    Attributes:
        theme: In which it was drawn.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.theme = in_force().theme

    def draw(self, renderer: Any) -> None:
        """Draws it; matplotlib asks for the fonts of formulas only now."""
        with mpl.rc_context(FORMULAS):
            super().draw(renderer)

    def draw_artist(self, a: Any) -> None:
        """Draws a part alone, as in an animation; its formulas are in the same fonts."""
        with mpl.rc_context(FORMULAS):
            super().draw_artist(a)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture as it is saved, and the size at which it is shown, in pixels of 1/96 inch."""
        picture = BytesIO()
        with as_drawn(self):
            self.savefig(picture, format="png", metadata={"Software": "gradflow"})
        width, height = (round(96 * side) for side in self.get_size_inches())
        return picture.getvalue(), {"width": width, "height": height}


def new_figure(width: float = 1.0, height: float = 1.0) -> Figure:
    """An empty figure of 16:9, or of the size that was asked for; call it inside :func:`style`.

    Args:
        width: Of what it shows, in slides; a slide holds up to ROOMY.
        height: The same; a slide holds 1. What is larger makes everything smaller on it.
    """
    size = in_force().size
    if size is not None:
        return ShownFigure(figsize=(size[0], size[1]))
    larger = max(1.0, width / ROOMY, height)
    sides = mpl.rcParams["figure.figsize"]
    return ShownFigure(figsize=(sides[0] * larger, sides[1] * larger))
