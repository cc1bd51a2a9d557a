"""What the lecture shows, in its order: each figure, and where its numbers come from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import gradflow as gf
from gradflow.analysis.runs import identity
from gradflow.figures.gallery import EXACT, GALLERY, Entry, Exact

PARTS = {
    "networks": "lecture",
    "names": "lecture_names",
    "clipping": "lecture_clipping",
    "architectures": "lecture_architectures",
}
"""Folder -> the experiment whose runs it holds."""


class Slide(NamedTuple):
    """One figure of the deck.

    Attributes:
        section: Part of the lecture it opens or belongs to.
        figure: Its name.
        table: Its numbers, from the folder of the trained parts.
        about: What tells it from other slides with the same figure.
    """

    section: str
    figure: str
    table: Callable[[Path], pd.DataFrame]
    about: str = ""

    @property
    def how(self) -> Entry | Exact:
        """How its claims are checked and it is drawn."""
        return (GALLERY | EXACT)[self.figure]

    @property
    def title(self) -> str:
        """Name of its files, without their number."""
        return "-".join(word for word in (self.figure, self.about) if word)


def logged(section: str, figure: str, part: str, about: str = "", **wanted: Any) -> Slide:
    """A figure of those runs of a part that have these values, or one of each tuple of them, in their identity."""
    return Slide(section, figure, lambda folder: GALLERY[figure].analyse(runs_of_part(folder, part, wanted)), about)


def runs_of_part(folder: Path, part: str, wanted: Mapping[str, Any]) -> list[gf.runlog.Run]:
    """The runs of a part of the lecture with these values in their identity.

    Raises:
        ValueError: There is none.
    """
    runs = [run for run in gf.open_sweep(folder / part).members if _matches(identity(run), wanted)]
    if not runs:
        raise ValueError(f"{folder / part}: expected runs with {dict(wanted)}, got none")
    return runs


def _matches(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(own[key] in (value if isinstance(value, tuple) else (value,)) for key, value in wanted.items())


def exact(section: str, figure: str) -> Slide:
    """A figure of :mod:`gradflow.theory`."""
    return Slide(section, figure, lambda folder: gf.theory.EXACT[figure]())


SHOWN: dict[str, Any] = {"names_per_sequence": 8, "seed": 0}
"""Of the roll calls, those whose gradients are shown: about 30 steps."""
TANH = SHOWN | {"cell": "rnn"}
LSTM = SHOWN | {"cell": "lstm"}


def deck(name: str, names: Sequence[str]) -> list[Slide]:
    """All slides in the order of the lecture.

    Args:
        name: The name that is shown as one-hot vectors.
        names: Those whose characters are weighed.
    """
    return [
        logged("names", "comparison", "names"),
        exact("forgetting", "activation_saturation"),
        exact("forgetting", "jacobian_product_by_lag"),
        logged("forgetting", "weight_spectrum", "networks", **TANH),
        logged("forgetting", "gradient_by_lag", "networks", **SHOWN),
        logged("forgetting", "temporal_contributions", "networks", **TANH),
        exact("exploding", "bifurcation_diagram"),
        exact("exploding", "error_surface_cliff"),
        logged("exploding", "clipping_effect", "clipping"),
        logged("exploding", "singular_values_over_training", "networks", **TANH),
        logged("gates", "gradient_heatmap", "networks", **SHOWN),
        logged("gates", "lstm_cell_highway", "networks", **LSTM),
        logged("gates", "gate_timescales", "networks", **SHOWN),
        logged("architectures", "stacked_lattice", "architectures", num_layers=4),
        logged("architectures", "bidirectional_profile", "architectures", bidirectional=True),
        logged("architectures", "accuracy_by_lag", "networks"),
        exact("further", "lyapunov_spectrum"),
        exact("further", "memory_sensitivity"),
    ]
