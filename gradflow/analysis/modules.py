"""The recorded modules of a run, each as a run of its own, and what their layers say of themselves."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gradflow.checks import shown

_KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn", "LinearRNN": "linear"}
_KINDS |= {f"{name}Cell": cell for name, cell in _KINDS.items()}
"""Class of a layer -> its cell; others stand for themselves."""


@dataclass(frozen=True)
class OneModule:
    """A run of which one module alone is seen; see :func:`by_module`.

    Attributes:
        run: The whole one.
        module: Dotted name of the module; empty: the only one.
        calls: Of up to how many calls per iteration one is shown.
    """

    run: Any
    module: str = ""
    calls: int = 1

    def __getattr__(self, name: str) -> Any:
        if name == "run":  # of an object that is only being made
            raise AttributeError(name)
        return getattr(self.run, name)

    def frame(self, table: str, columns: Sequence[str] | None = None, **more: Any) -> pd.DataFrame:
        """The rows of the module, and those of tables that know no modules."""
        frame = self.run.frame(table, columns=columns, **more)
        if not self.module or "module" not in frame:
            return frame
        return frame[frame["module"] == self.module].reset_index(drop=True)


def by_module(run: Any) -> dict[str, Any]:
    """A run for each recorded module, by its dotted name: what every analysis and figure takes in place of a run.

    Example:
        `gradflow.analysis.gradient_by_lag(by_module(run)["encoder"])`
    """
    check_run(run)
    names = list(modules_in(run))
    return {name: OneModule(run, name) for name in names} if len(names) > 1 else dict.fromkeys(names or [""], run)


def check_run(run: Any) -> None:
    """Raise a TypeError unless this is a run."""
    if not hasattr(run, "frame"):
        raise TypeError(f"run: expected a run, such as gradflow.open_run(PATH), got {shown(run)}")


def modules_of(runs: Sequence[Any]) -> dict[str, list[Any]]:
    """Runs as they are, under an empty name; if any recorded several modules, by the name of each."""
    parts = [by_module(run) for run in runs]
    if all(len(part) == 1 for part in parts):
        return {"": list(runs)}
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [part[name] for part in parts if name in part] for name in names}


def modules_in(run: Any) -> Mapping[str, Any]:
    """The recorded modules of a run: dotted name -> layer, as torch prints it."""
    found = run.meta.get("modules", {})
    return found if isinstance(found, Mapping) else {}


def layer_facts(layers: Collection[Any]) -> dict[str, Any]:
    """What layers have in common, as torch prints them: cell (empty: unknown), num_layers, bidirectional."""
    facts = [_facts(str(text)) for text in layers]
    alike = facts[:1] if all(other == facts[0] for other in facts) else []
    return alike[0] if alike else {"cell": "", "num_layers": 1, "bidirectional": False}


def _facts(text: str) -> dict[str, Any]:
    """Out of a layer as torch prints it.

    Example:
        >>> _facts("GRU(3, 4, num_layers=2)"), _facts("Tagger(3, 4, bidirectional=True)")["cell"]
        ({'cell': 'gru', 'num_layers': 2, 'bidirectional': False}, 'Tagger')
    """
    own = re.search(r"\(cell\): (\w+)\(", text)
    kind = re.match(r"\w*", text)
    name = own[1] if own else _KINDS.get(kind[0], kind[0]) if kind else ""
    layers = re.search(r"\bnum_layers=(\d+)", text)
    return {
        "cell": "gru_before" if name == "gru" and "reset=before" in text else name,
        "num_layers": int(layers[1]) if layers else 1,
        "bidirectional": "bidirectional=True" in text,
    }
