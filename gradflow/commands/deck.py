"""What the lecture shows, in its order, and the appendix: each figure, and where its numbers come from."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import gradflow as gf
from gradflow.analysis.runs import identity
from gradflow.commands.names import learnt_from
from gradflow.data import SEPARATOR
from gradflow.figures.catalogue import Labels, texts
from gradflow.figures.gallery import ANIMATIONS, EXACT, GALLERY, PICTURES
from gradflow.figures.room import rooms

PARTS = {
    "networks": "lecture",
    "names": "lecture_names",
    "clipping": "lecture_clipping",
    "architectures": "lecture_architectures",
    "gru": "lecture_gru",
}
"""Folder -> the experiment whose runs it holds."""


Runs = Callable[[Path], Sequence[gf.runlog.Run]]


def _no_runs(folder: Path) -> Sequence[gf.runlog.Run]:
    return ()


class Slide(NamedTuple):
    """One figure of the deck. A second process can draw it: nothing in it is a function without a name.

    Attributes:
        section: Part of the lecture it belongs to.
        figure: Its name.
        table: Its numbers, from the folder of the trained parts.
        about: What tells it from other slides with the same figure.
        moves: Whether it is an animation.
        runs: Those that its numbers are of, from the same folder; none where they are of no log.
        core: Whether the lecture shows it; else it is in the appendix.
    """

    section: str
    figure: str
    table: Callable[[Path], pd.DataFrame]
    about: str = ""
    moves: bool = False
    runs: Runs = _no_runs
    core: bool = False

    @property
    def how(self) -> Any:
        """How its claims are checked, and how it is drawn."""
        return ANIMATIONS[self.figure] if self.moves else (GALLERY | EXACT | PICTURES)[self.figure]

    @property
    def title(self) -> str:
        """Name of its files, without their number."""
        return "-".join(word for word in (self.figure, self.about) if word)

    def reading(self, lang: str) -> str:
        """How it is read."""
        known = texts(lang).get(f"reading.{self.figure}")
        told = rooms()[self.figure].part("animate" if self.moves else "plot").__doc__ or ""
        return known or " ".join(told.split())


class Step(NamedTuple):
    """What was made of one step, but the last, of a figure that is built up.

    Attributes:
        headline: What is said at it.
        picture: Its PNG file, `<figure>-<step>.png` beside that of the whole; PDF and SVG lie beside it.
        top: The share of its height that the headline takes.
    """

    headline: str
    picture: Path
    top: float


class Drawn(NamedTuple):
    """What was made of a slide.

    Attributes:
        picture: Its PNG or GIF file, beside which the others lie. Beside a GIF its last frame is a PNG, and three key
            frames are the pages of a PDF.
        claims: The checks of what it claims; the first is its headline.
        source: Where its numbers are from.
        top: The share of its height that the headline takes.
        steps: Those before the whole picture, of a figure that is built up; a page and a slide each.
        moving: Of an animation the GIF without the headline, for slides that have it as a title.
    """

    picture: Path
    claims: Sequence[Mapping[str, Any]]
    source: str
    top: float
    steps: Sequence[Step] = ()
    moving: bytes = b""

    @property
    def parts(self) -> list["Step | Drawn"]:
        """All that is shown of it, one after the other: its steps and the whole."""
        return [*self.steps, self]


def logged(section: str, figure: str, part: str, about: str = "", **wanted: Any) -> Slide:
    """A figure of those runs of a part that have these values, or one of each tuple of them, in their identity."""
    runs = of_part(part, **wanted)
    return Slide(section, figure, partial(_analysed, figure, runs), about, runs=runs)


def animated(section: str, figure: str, part: str, **wanted: Any) -> Slide:
    """An animation of such runs, four at most."""
    runs = of_part(part, **wanted)
    return Slide(section, figure, partial(_analysed_moving, figure, runs), "animated", True, runs)


def exact(section: str, figure: str) -> Slide:
    """A figure of :mod:`gradflow.theory`."""
    return Slide(section, figure, partial(_computed, figure))


def of_part(part: str, **wanted: Any) -> Runs:
    """How :func:`runs_of_part` finds these runs, once the folder is known."""
    return partial(runs_of_part, part=part, **wanted)


def runs_of_part(folder: Path, part: str, **wanted: Any) -> list[gf.runlog.Run]:
    """The runs of a part of the lecture with these values in their identity.

    Raises:
        ValueError: There is none.
    """
    runs = [run for run in gf.open_sweep(folder / part).readable.members if _matches(identity(run), wanted)]
    if not runs:
        raise ValueError(f"{folder / part}: expected runs with {wanted}, got none; the same command trains them")
    return runs


def _matches(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(own[key] in (value if isinstance(value, tuple) else (value,)) for key, value in wanted.items())


def _analysed(figure: str, runs: Runs, folder: Path) -> pd.DataFrame:
    return GALLERY[figure].analyse(runs(folder))


def _analysed_moving(figure: str, runs: Runs, folder: Path) -> pd.DataFrame:
    return ANIMATIONS[figure].analyse(runs(folder))


def _computed(figure: str, folder: Path) -> pd.DataFrame:
    return gf.theory.EXACT[figure]()


def _corpus(folder: Path) -> pd.DataFrame:
    return learnt_from(folder / "names").corpus()


def _one_hot(name: str, folder: Path) -> pd.DataFrame:
    return learnt_from(folder / "names").one_hot(name)


def _overlap(folder: Path) -> pd.DataFrame:
    from gradflow.training.prediction import overlap  # here, as torch takes seconds

    return overlap([run.path for run in runs_of_part(folder, "names")])


def _reach(folder: Path) -> pd.DataFrame:
    return gf.analysis.accuracy_by_lag(runs_of_part(folder, "networks"), "accuracy")


def _saliency(names: Sequence[str], folder: Path) -> pd.DataFrame:
    from gradflow.training.prediction import name_saliency  # here, as torch takes seconds

    return name_saliency(runs_of_part(folder, "names", cell="rnn", seed=0)[0].path, names)


def _gates(names: Sequence[str], folder: Path) -> pd.DataFrame:
    from gradflow.training.prediction import gate_map

    [run] = runs_of_part(folder, "networks", start="default, b_f=3", **SHOWN)
    return gate_map(run.path, SEPARATOR.join(names))


SHOWN: dict[str, Any] = {"names_per_sequence": 8, "seed": 0}
"""Of the roll calls, those whose gradients are shown: about 30 steps."""
TANH = SHOWN | {"cell": "rnn"}
LSTM = SHOWN | {"cell": "lstm"}
FOUR = SHOWN | {"start": ("default", "orthogonal", "default, b_f=3")}


def section_title(core: bool, section: str, labels: Labels) -> str:
    """What a part of the lecture is called, or of its appendix."""
    name = labels(f"section.{section}")
    return name if core else labels("section.of_appendix", section=name)


def deck(name: str, names: Sequence[str]) -> list[Slide]:
    """The slides of the lecture in its order, then those of the appendix, at whose end are figures without a place.

    Args:
        name: The name that is shown as one-hot vectors.
        names: Those whose characters are weighed, and that a network reads as one sequence.
    """
    chosen = [*(slide._replace(core=True) for slide in core(name, names)), *appendix(names)]
    shown = {slide.figure for slide in chosen}
    return [
        *chosen,
        *(exact("further", figure) for figure in EXACT if figure not in shown),
        *(logged("further", figure, "networks", **SHOWN) for figure in GALLERY if figure not in shown),
    ]


def core(name: str, names: Sequence[str]) -> list[Slide]:
    """What the lecture itself shows, in the order of its slides."""
    return [
        Slide("names", "one_hot", partial(_one_hot, name)),
        logged("names", "comparison", "names"),
        Slide("names", "name_saliency", partial(_saliency, names)),
        exact("forgetting", "unrolled_graph"),
        exact("forgetting", "chain_rule"),
        exact("forgetting", "tanh_derivative"),
        exact("forgetting", "jacobian_product_by_lag"),
        exact("exploding", "error_surface_cliff"),
        logged("gates", "cell_diagram", "networks", about="lstm", start="default, b_f=3", **SHOWN),
        logged("gates", "lstm_cell_highway", "networks", **LSTM),
        exact("gates", "residual_analogy"),
        logged("gates", "cell_diagram", "gru", about="gru", seed=0),
        logged("gates", "gradient_by_lag", "networks", **SHOWN),
        logged("architectures", "stacked_lattice", "architectures", num_layers=4),
        logged("architectures", "bidirectional_profile", "architectures", bidirectional=True),
        logged("architectures", "compute_time", "networks"),
    ]


def appendix(names: Sequence[str]) -> list[Slide]:
    """What answers questions, by the same parts."""
    return [
        Slide("names", "names_corpus", _corpus),
        Slide("names", "overlap", _overlap, runs=of_part("names")),
        exact("forgetting", "activation_saturation"),
        exact("forgetting", "repeated_composition"),
        logged("forgetting", "weight_spectrum", "networks", **TANH),
        animated("forgetting", "weight_spectrum", "networks", **TANH),
        logged("forgetting", "temporal_contributions", "networks", **TANH),
        exact("exploding", "bifurcation_diagram"),
        logged("exploding", "clipping_effect", "clipping"),
        logged("exploding", "singular_values_over_training", "networks", **TANH),
        logged("exploding", "jacobian_norm_over_training", "networks", **TANH),
        logged("learning", "gradient_heatmap", "networks", **FOUR),
        animated("learning", "gradient_heatmap", "networks", **FOUR),
        logged("gates", "gate_timescales", "networks", **SHOWN),
        Slide("gates", "gate_map", partial(_gates, names)),
        Slide("architectures", "accuracy_by_lag", _reach, runs=of_part("networks")),
        exact("further", "lyapunov_spectrum"),
        exact("further", "memory_sensitivity"),
    ]
