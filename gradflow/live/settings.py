"""What one can set on the live page: one table for its sliders, for what the server takes, and for the static grid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from gradflow.cells.facts import bias_of_keeping_gate
from gradflow.checks import check_kind, require

CELL_NAMES = ("rnn", "linear", "lstm", "gru")
LONGEST_NAME, MOST_STEPS = 12, 200


@dataclass(frozen=True)
class Setting:
    """The values that a slider stops at, and the one it starts from."""

    values: tuple[Any, ...]
    default: Any

    def __post_init__(self) -> None:
        """Refuse a default that the slider cannot show."""
        require(self.default in self.values, "default", "one of the values", self.default)


CELL = Setting(CELL_NAMES, "rnn")
GAIN = Setting(tuple(n / 10 for n in range(4, 21)), 0.6)  # torch's own start has 1/√3
BIAS = Setting(tuple(n / 2 for n in range(-4, 11)), 0.0)
STEPS = Setting(tuple(range(5, 61, 5)), 20)
CLIP = Setting((0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, None), None)  # None: not clipped


def start_of(cell: str) -> Setting:
    """How the weights of a cell start: the gain of W_hh, or the bias of the gate that keeps."""
    return GAIN if bias_of_keeping_gate(cell) is None else BIAS


def kind_of_start(cell: str) -> str:
    """What that is called: `gain`, `forget_bias` or `update_bias`."""
    return bias_of_keeping_gate(cell) or "gain"


@dataclass(frozen=True)
class Space:
    """What the static page has computed.

    Attributes:
        starts: cell -> the starts whose gradients are shown.
        steps: T.
        clips: thresholds of the descent.
        trained: cell -> the starts that a run is trained from.
        trained_clips: thresholds of those runs.
        length: steps of each run, see :data:`gradflow.live.training.ITERATIONS`.
        names: those that can be asked.
    """

    starts: Mapping[str, tuple[float, ...]]
    steps: tuple[int, ...]
    clips: tuple[float | None, ...]
    trained: Mapping[str, tuple[float, ...]]
    trained_clips: tuple[float | None, ...]
    length: int
    names: tuple[str, ...]

    def flows(self) -> Iterator[dict[str, Any]]:
        """The arguments of every panel of gradients."""
        for cell, starts in self.starts.items():
            yield from ({"cell": cell, "start": a, "steps": b} for a, b in product(starts, self.steps))

    def surfaces(self) -> Iterator[dict[str, Any]]:
        """The arguments of every surface."""
        yield from ({"steps": steps} for steps in self.steps)

    def descents(self) -> Iterator[dict[str, Any]]:
        """The arguments of every descent."""
        yield from ({"steps": a, "clip": b} for a, b in product(self.steps, self.clips))

    def runs(self) -> Iterator[list[dict[str, Any]]]:
        """Of every run the arguments of each step."""
        for cell, starts in self.trained.items():
            for start, clip in product(starts, self.trained_clips):
                yield [{"cell": cell, "start": start, "clips": [clip] * n} for n in range(1, self.length + 1)]


NAMES = ("王晓丽", "李建国", "张伟", "陈静怡", "刘洋", "赵敏", "林雨欣", "欧阳志强")
GAINS, BIASES = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0), (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0)
ALL = Space(
    starts={cell: start_of(cell).values for cell in CELL_NAMES},
    steps=STEPS.values,
    clips=CLIP.values,
    trained={cell: GAINS if start_of(cell) is GAIN else BIASES for cell in CELL_NAMES},
    trained_clips=(0.05, 0.25, 1.0, None),
    length=24,
    names=NAMES,
)
"""Every stop of the sliders, and runs from seven or eight starts of each cell until nearly all answers are right."""


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the page sends them, each one of the slider's own values.

    Raises:
        TypeError: They are no mapping.
        ValueError: One that the page does not offer.
    """
    check_kind("values", values, Mapping, "settings by their names")
    cell = _stop("cell", values.get("cell", CELL.default), CELL)
    check = {
        "cell": lambda value: _stop("cell", value, CELL),
        "start": lambda value: _stop("start", value, start_of(cell)),
        "steps": lambda value: _stop("steps", value, STEPS),
        "clip": lambda value: _stop("clip", value, CLIP),
        "clips": _history,
        "name": _name,
    }
    for name in values:
        require(name in check, "values", f"some of {', '.join(check)}", name)
    return {name: check[name](value) for name, value in values.items()}


def _stop(name: str, value: Any, setting: Setting) -> Any:
    """The stop of a slider that a value is."""
    found = [stop for stop in setting.values if stop == value and not isinstance(value, bool)]
    offered = ", ".join("off" if stop is None else str(stop) for stop in setting.values)
    require(bool(found), name, f"one of {offered}", value)
    return found[0]


def _history(value: Any) -> list[float | None]:
    require(isinstance(value, list) and len(value) <= MOST_STEPS, "clips", f"at most {MOST_STEPS} steps", value)
    return [_stop("clips", clip, CLIP) for clip in value]


def _name(value: Any) -> str:
    fits = isinstance(value, str) and 0 < len(value) <= LONGEST_NAME
    require(fits, "name", f"1 to {LONGEST_NAME} characters", value)
    return value
