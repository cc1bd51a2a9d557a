"""How figures look: sizes by context, colours and marks by cell, fonts by language."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
from matplotlib import font_manager
from matplotlib.figure import Figure

from gradflow.cells.facts import CELLS
from gradflow.checks import require
from gradflow.figures.options import CONTEXTS, LANGUAGES, in_force

CHINESE, IN_FORMULAS = "Gradflow Sans SC", "Gradflow Formulas"
FAMILIES = {"en": ["DejaVu Sans", CHINESE], "zh": [CHINESE, "DejaVu Sans"]}
"""Text that holds a formula takes its first family alone, so Chinese text needs the Chinese font first."""
FONTSET = {"en": "dejavusans", "zh": "custom"}
FORMULAS = {
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

BLACK, VERMILLION, BLUE, GREEN, PURPLE, GREY = "#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#6E6E6E"
TITLE, INK = "#111111", "#333333"  # headlines, captions
GROUND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}  # under words on marks
NOTHING = "#BBBBBB"  # cells of a heat map where the gradient is zero
ROOMY = 1.2
FADED = 0.25  # opacity of what stands behind


class Look(NamedTuple):
    """Colour and marker of a cell."""

    colour: str
    marker: str


LOOKS = {name: Look(facts.colour, facts.marker) for name, facts in CELLS.items()}
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


def look(cell: str) -> Look:
    """Colour and marker of a cell, of the palette if it has one; a model gradflow does not know is black."""
    own = LOOKS.get(cell, Look(BLACK, "o"))
    return own._replace(colour=in_force().palette.get(cell, own.colour))


@cache
def register_font() -> None:
    """Make the bundled fonts known to matplotlib, once."""
    for name in ("GradflowSansSC", "GradflowFormulas"):
        font_manager.fontManager.addfont(str(files("gradflow.figures") / "fonts" / f"{name}-Regular.ttf"))


def check_look(lang: str, context: str) -> None:
    """Raise a ValueError for an unknown language or context."""
    for argument, value, known in (("lang", lang, LANGUAGES), ("context", context, tuple(CONTEXTS))):
        require(value in known, argument, f"one of {', '.join(known)}", value)


@contextmanager
def style(lang: str = "en", context: str = "slide") -> Iterator[None]:
    """Apply gradflow's style to what is drawn inside, and put everything back afterwards.

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
    with mpl.style.context(
        ["default", params | FORMULAS | {"font.family": FAMILIES[lang], "mathtext.fontset": FONTSET[lang]}]
    ):
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
    """A figure that a notebook shows as the value of a cell: matplotlib's own is shown only once pyplot is there."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture as it is saved, and the size at which it is shown, in pixels of 1/96 inch."""
        picture = BytesIO()
        with style(), without_engine():
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
