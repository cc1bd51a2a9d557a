"""The record of a condition, and what an examination of it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradflow.diagnosis.case import Case, Place


@dataclass(frozen=True)
class Remedy:
    """One line of settings, for the command line, and one of Python, for a script of one's own."""

    config: str = ""
    code: str = ""


@dataclass(frozen=True)
class Measurement:
    """What one place shows of a condition.

    Attributes:
        value: The number.
        threshold: What it is held against.
        ill: Whether it is on the wrong side.
        badness: How far on the wrong side, to compare places; larger is worse.
        remedy: Where ill.
        values: Further numbers and names for the sentences; `variant` chooses other ones.
    """

    value: float
    threshold: float
    ill: bool
    badness: float = 0.0
    remedy: Remedy = Remedy()
    values: Mapping[str, Any] = field(default_factory=dict)


class Unknown(ValueError):
    """The log does not say; the first argument is the id of the reason, the rest of it is for the sentence.

    Args:
        reason: Id of the sentences `reason.<id>` (why) and `record.<id>` (what would tell).
        value: The number, as far as there is one.
        threshold: What it would be held against.
        **values: For the sentences.
    """

    def __init__(self, reason: str, value: float = float("nan"), threshold: float = float("nan"), **values: Any):
        super().__init__(reason)
        self.reason, self.value, self.threshold, self.values = reason, value, threshold, values


@dataclass(frozen=True)
class Condition:
    """One condition that a run may have.

    Attributes:
        name: As in `Finding.name`, and of its sentences.
        unit: Of what is measured.
        examine: The measurement of a case in one place, None where the condition cannot occur (gates of a cell
            without); raises Unknown where the log does not say. A condition of the whole run is given no place.
        figure: The figure to look at.
        whole: Whether it is of the run rather than of a place.
    """

    name: str
    unit: str
    examine: Callable[..., Measurement | None]
    figure: str = ""
    whole: bool = False

    def examined(self, case: Case, place: Place | None) -> Measurement | None:
        """The measurement in one place, or of the whole run."""
        return self.examine(case) if place is None else self.examine(case, place)
