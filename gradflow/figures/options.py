"""What every plot function takes beside the options of its own, and how these reach whatever draws."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

from gradflow.checks import check_kind, shown, whole_number

LANGUAGES = ("en", "zh")
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
        size: width and height in inches; None is 16:9, 10 inches wide on a slide.
        step: of a figure that is built up, how many of its parts are drawn; None is all.
    """

    title: str | None = None
    caption: bool | str = True
    labels: Mapping[str, str] = field(default_factory=dict)
    palette: Mapping[str, str] = field(default_factory=dict)
    size: Sequence[float] | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is of another kind."""
        from matplotlib.colors import is_color_like  # here, as what is drawn is known without matplotlib

        if self.title is not None:
            check_kind("title", self.title, str, "a text, or None for the figure's claim")
        check_kind("caption", self.caption, (bool, str), "True, False or a text")
        if self.step is not None:
            whole_number("step", self.step, 1)
        for name in ("title", "caption"):
            _check_formulas(name, getattr(self, name))
        for name, words in (("labels", "texts by their ids"), ("palette", "colours by cell")):
            check_kind(name, getattr(self, name), Mapping, f"a mapping of {words}")
        for key, text in self.labels.items():
            check_kind("labels", text, str, f"texts by their ids, such as for {shown(key)}")
        for cell, colour in self.palette.items():
            if not is_color_like(colour):
                raise ValueError(
                    f"palette: expected a colour that matplotlib knows, such as '#D55E00', for {shown(cell)}, "
                    f"got {shown(colour)}"
                )
        if self.size is not None and not _is_size(self.size):
            raise ValueError(f"size: expected width and height in inches, from 1 to 100, got {shown(self.size)}")


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


def _is_size(size: Any) -> bool:
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else []
    numbers = [side for side in sides if isinstance(side, int | float) and not isinstance(side, bool)]
    return len(sides) == len(numbers) == 2 and all(1 <= side <= 100 for side in numbers)
