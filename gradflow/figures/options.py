"""What every plot function takes beside the options of its own, and how these reach whatever draws."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

from gradflow.checks import check_kind, require, shown, whole_number

LANGUAGES = ("en", "zh")
_UNSEEN = ("Cc", "Cf", "Cs")  # categories of Unicode: control, format, half of a pair
THEMES = ("light", "dark")
CONTEXTS = {"slide": 1.0, "notebook": 0.7, "paper": 0.55}
"""Size of everything, relative to a slide; the composition stays the same."""


@dataclass(frozen=True)
class Options:
    """How a figure differs from what it is by itself.

    Attributes:
        title: its headline; None is the sentence of its first claim, "" none.
        caption: whether the small print under it is there; or what it says instead.
        labels: texts of its own by id, such as {"axis.lag": "steps back"}; the ids are those of
            `gradflow/figures/labels/en.yaml` and of the figure's own folder.
        palette: cell -> colour, such as {"rnn": "#D55E00"}.
        size: width and height in inches, a sequence or an array; None is 16:9, 10 inches wide on a slide.
        theme: `light` or `dark`, for a dark hall: near-black ground, light ink, the same cells in lighter colours.
        step: of a figure that is built up, how many of its parts are drawn; None is all.
    """

    title: str | None = None
    caption: bool | str = True
    labels: Mapping[str, str] = field(default_factory=dict)
    palette: Mapping[str, str] = field(default_factory=dict)
    size: Sequence[float] | None = None
    theme: str = "light"
    step: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is of another kind."""
        from matplotlib.colors import is_color_like  # here, as what is drawn is known without matplotlib

        require(self.theme in THEMES, "theme", f"one of {', '.join(THEMES)}", self.theme)
        if self.title is not None:
            check_kind("title", self.title, str, "a text, or None for the figure's claim")
        check_kind("caption", self.caption, (bool, str), "True, False or a text")
        if self.step is not None:
            whole_number("step", self.step, 1)
        for name in ("title", "caption"):
            _check_seen(name, "", getattr(self, name))
            _check_formulas(name, getattr(self, name))
        for name, words in (("labels", "texts by their ids"), ("palette", "colours by cell")):
            check_kind(name, getattr(self, name), Mapping, f"a mapping of {words}")
        for key, text in self.labels.items():
            check_kind("labels", text, str, f"texts by their ids, such as for {shown(key)}")
            _check_seen("labels", f"for {shown(key)} ", text)
        for cell, colour in self.palette.items():
            if not is_color_like(colour):
                raise ValueError(
                    f"palette: expected a colour that matplotlib knows, such as '#D55E00', for {shown(cell)}, "
                    f"got {shown(colour)}"
                )
        if self.size is not None:
            object.__setattr__(self, "size", _checked_size(self.size))


def _check_seen(name: str, whose: str, text: Any) -> None:
    hidden = [sign for sign in text if unicodedata.category(sign) in _UNSEEN] if isinstance(text, str) else []
    if any(sign != "\n" for sign in hidden):
        codes = ", ".join(dict.fromkeys(f"U+{ord(sign):04X}" for sign in hidden if sign != "\n"))
        raise ValueError(
            f"{name}: expected {whose}a text of letters that are seen and line breaks, got {shown(text)} with {codes}; "
            f"leave these out"
        )


def _check_formulas(name: str, text: Any) -> None:
    if not isinstance(text, str) or text.count("$") < 2:
        return
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(text)
    except ValueError as error:
        raise ValueError(
            f"{name}: expected a text whose formulas between $ matplotlib can set, got {shown(text)} "
            f"({str(error).strip().splitlines()[-1]}); a plain dollar is \\$"
        ) from error


NAMES = tuple(entry.name for entry in fields(Options))
_IN_FORCE: ContextVar[Options] = ContextVar("options", default=Options())  # noqa: B039, it is frozen


def in_force() -> Options:
    """The options of the figure that is being drawn."""
    return _IN_FORCE.get()


def built(part: int) -> bool:
    """Whether this part, counted from 1, of a figure that is built up is drawn yet."""
    step = in_force().step
    return step is None or part <= step


@contextmanager
def using(options: Options) -> Iterator[None]:
    """What is drawn inside has these options."""
    token = _IN_FORCE.set(options)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def _checked_size(size: Any) -> tuple[float, ...]:
    """Of a sequence or an array, as plain numbers."""
    there = isinstance(size, Sequence) or getattr(size, "ndim", 0) == 1
    sides = list(size) if there else []
    plain = [float(side) for side in sides if isinstance(side, Real) and not isinstance(side, bool)]
    if len(sides) != 2 or len(plain) != 2 or not all(1 <= side <= 100 for side in plain):
        raise ValueError(f"size: expected width and height in inches, from 1 to 100, got {shown(size)}")
    return tuple(plain)
