"""A run under examination: its places, the lag that matters, what became of it; every table is read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from gradflow.analysis.modules import OneModule
from gradflow.analysis.results import criterion, final_result, has_learned
from gradflow.analysis.runs import identity
from gradflow.analysis.settings import group, of_gradflow, value_of
from gradflow.config import Source
from gradflow.tasks import problem


class Reading:
    """A run that reads each table of the disk once."""

    def __init__(self, run: Any):
        self._run = run
        self.found: dict[Any, Any] = dict(getattr(run, "found", {}))
        self._kept: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in self._kept:
            self._kept[name] = getattr(self._run, name)
        return self._kept[name]

    def frame(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """As of the run; the caller must not change it."""
        key = table, columns if columns is None else tuple(columns)
        if key not in self._kept:
            self._kept[key] = self._run.frame(table, columns=columns)
        return self._kept[key]


@dataclass(frozen=True)
class Place:
    """One layer and direction of one module.

    Attributes:
        run: The run, of which this module alone is seen.
        module: Its dotted name.
        layer: 0-based.
        direction: 0 forward, 1 reverse.
        where: What tells it from the others, in torch's words; empty where there is no other.
        both: Whether the layer has both directions.
    """

    run: Any
    module: str
    layer: int
    direction: int
    where: str = ""
    both: bool = False

    @property
    def at(self) -> dict[str, int]:
        """Layer and direction, as analyses take them."""
        return {"layer": self.layer, "direction": self.direction}

    @property
    def cell(self) -> str:
        """The name of its cell."""
        return identity(self.run)["cell"]


class Case:
    """What conditions are asked of.

    Args:
        run: The run.
        length: Steps that the dependency spans; None: as the task says.
    """

    def __init__(self, run: Any, length: float | None = None):
        self.run: Any = Reading(run)
        self.length = length

    @cached_property
    def places(self) -> list[Place]:
        """Every layer and direction that was recorded."""
        frame = self.run.frame("lag", columns=[])
        if frame.empty:
            frame = self.run.frame("spectrum", columns=[])
        found = frame[["module", "layer", "direction"]].drop_duplicates().sort_values(["module", "layer", "direction"])
        layers = found.groupby("module")["layer"].nunique()
        both = found.groupby(["module", "layer"])["direction"].nunique()
        places = []
        for module, layer, direction in found.itertuples(index=False):
            run, two = OneModule(self.run, module) if len(layers) > 1 else self.run, bool(both[module, layer] > 1)
            tail = f"l{layer}" * bool(layers[module] > 1 or two) + "_reverse" * direction
            where = "/".join(filter(None, [module if len(layers) > 1 else "", tail]))
            places.append(Place(run, module, int(layer), int(direction), where, two))
        return places

    @cached_property
    def of_gradflow(self) -> bool:
        """Whether the training is gradflow's, so that its settings can be changed."""
        return of_gradflow(self.run.config or {})

    @cached_property
    def known_lag(self) -> float:
        """Steps from where the dependency enters to where it is asked for: as given or the task's; NaN: not known.

        Infinite: the whole of the sequences, whose length the settings do not say (names).
        """
        if self.length is not None:
            return self.length - 1
        source = group(self.run.config or {}, "data").get("source")
        if source not in tuple(Source):
            return float("nan")
        if Source(source).of_names:
            return float("inf")
        data = group(self.run.config, "data")
        length, symbols = value_of(data, "length", int, 0), value_of(data, "symbols", int, 0)
        lag = problem(source).lag(SimpleNamespace(length=length, symbols=symbols)) if length > 0 else None
        return float("nan") if lag is None else lag

    def lag(self, place: Place, greatest: float) -> float:
        """The lag that matters in one place; NaN: not known.

        Args:
            place: Where. Of the two directions of a layer, one reaches any position within half of the sequence.
            greatest: The greatest lag that was recorded.
        """
        lag = min(self.known_lag, greatest) if np.isinf(self.known_lag) else self.known_lag
        return lag // 2 if place.both and self.length is None else lag

    @cached_property
    def solved(self) -> bool:
        """Whether the task counts as solved by the last test: what it needed has been learned, however it looks."""
        success = criterion(self.run)
        if not success:
            return False
        value = final_result(self.run, success["quantity"])[0]
        return bool(
            value >= success["threshold"] if success["quantity"] == "test_accuracy" else value <= success["threshold"]
        )

    @cached_property
    def outcome(self) -> str:
        """`solved`; `learned`, beyond chance; `chance`; `unknown`."""
        if self.solved:
            return "solved"
        learned = has_learned(self.run)
        return "unknown" if np.isnan(learned) else "learned" if learned else "chance"

    def setting(self, name: str, kind: type, default: Any) -> Any:
        """A setting of gradflow's own training by its dotted name."""
        first, _, last = name.partition(".")
        return value_of(group(self.run.config or {}, first), last, kind, default) if self.of_gradflow else default

    @cached_property
    def start(self) -> str:
        """The initialisation by name; empty where unknown."""
        return self.setting("init.name", str, "")
