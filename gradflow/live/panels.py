"""What the page can ask for: the parts of it, each a function of its own settings alone."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any

from gradflow.checks import check_name, shown
from gradflow.live.cliff import descent, surface
from gradflow.live.gradients import flow
from gradflow.live.settings import Space, checked
from gradflow.live.tables import plain
from gradflow.live.training import Runs, answer, training

SETTINGS = {
    "flow": ("cell", "start", "steps"),
    "surface": ("steps",),
    "descent": ("steps", "clip"),
    "training": ("cell", "start", "clips"),
    "answer": ("cell", "start", "clips", "name"),
}
"""Panel -> its settings, in the order in which the page's script names them."""

TOGETHER = 16
"""Panels of gradients that are computed as one part."""


class Panels:
    """Computes what is asked for, one at a time; holds the training runs that go on."""

    def __init__(self) -> None:
        self._runs, self._lock = Runs(), Lock()
        self._panels: dict[str, Callable[..., dict[str, Any]]] = {
            "flow": flow,
            "surface": surface,
            "descent": descent,
            "training": partial(training, self._runs),
            "answer": partial(answer, self._runs),
        }

    def __call__(self, panel: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The table of a panel, as JSON takes it.

        Args:
            panel: one of `SETTINGS`.
            values: its settings.

        Raises:
            TypeError: settings that are no mapping.
            ValueError: an unknown panel, or settings that the page does not offer.
        """
        check_name("panel", panel, list(SETTINGS))
        values = checked(values)
        if set(values) != set(SETTINGS[panel]):
            raise ValueError(f"values: expected {', '.join(SETTINGS[panel])}, got {shown(list(values))}")
        with self._lock:
            return plain(self._panels[panel](**values))

    def close(self) -> None:
        """Ends the training runs."""
        with self._lock:
            self._runs.close()


def key(panel: str, values: Mapping[str, Any]) -> str:
    """By what the page finds a table that it has, written as its script writes it.

    >>> key("descent", {"clip": None, "steps": 20}), key("flow", {"cell": "rnn", "start": 1.0, "steps": 5})
    ('["descent",20,null]', '["flow","rnn",1,5]')
    """
    ordered = [panel, *(values[name] for name in SETTINGS[panel])]
    return json.dumps(_as_script(ordered), ensure_ascii=False, separators=(",", ":"))


def _as_script(value: Any) -> Any:
    """Numbers as JavaScript prints them: whole ones without a point."""
    if isinstance(value, list):
        return [_as_script(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


Asked = tuple[str, dict[str, Any]]
"""A panel, and its settings."""


def asked(space: Space) -> Iterator[list[Asked]]:
    """Everything that the static page has, in parts that can be computed side by side; a run is one, step by step."""
    for panel, each in (("flow", space.flows()), ("surface", space.surfaces()), ("descent", space.descents())):
        questions = ((panel, values) for values in each)
        while some := list(islice(questions, TOGETHER)):
            yield some
    for steps in space.runs():
        yield [asks for values in steps for asks in _of_step(values, space.names)]


def _of_step(values: dict[str, Any], names: Sequence[str]) -> list[Asked]:
    return [("training", values), *(("answer", values | {"name": name}) for name in names)]


def answered(questions: Sequence[Asked]) -> dict[str, Any]:
    """The tables of a part, by :func:`key`."""
    panels = Panels()
    try:
        return {key(panel, values): panels(panel, values) for panel, values in questions}
    finally:
        panels.close()
