"""Every figure that a log supports, in one go; and how the exact results are checked and drawn."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from gradflow import analysis
from gradflow.analysis.runs import DoesNotApply, Run, identity
from gradflow.figures.accuracy_by_lag import plot_accuracy_by_lag
from gradflow.figures.activation_saturation import plot_activation_saturation
from gradflow.figures.animate_gradient_heatmap import animate_gradient_heatmap
from gradflow.figures.animate_weight_spectrum import animate_weight_spectrum
from gradflow.figures.animation import Animation
from gradflow.figures.bidirectional_profile import plot_bidirectional_profile
from gradflow.figures.bifurcation_diagram import plot_bifurcation_diagram
from gradflow.figures.cell_diagram import plot_cell_diagram
from gradflow.figures.clipping_effect import plot_clipping_effect
from gradflow.figures.comparison import plot_comparison
from gradflow.figures.compute_time import plot_compute_time
from gradflow.figures.error_surface_cliff import plot_error_surface_cliff
from gradflow.figures.gate_map import plot_gate_map
from gradflow.figures.gate_timescales import plot_gate_timescales
from gradflow.figures.gradient_by_lag import plot_gradient_by_lag
from gradflow.figures.gradient_heatmap import plot_gradient_heatmap
from gradflow.figures.jacobian_product_by_lag import plot_jacobian_product_by_lag
from gradflow.figures.lstm_cell_highway import plot_lstm_cell_highway
from gradflow.figures.lyapunov_spectrum import plot_lyapunov_spectrum
from gradflow.figures.memory_sensitivity import plot_memory_sensitivity
from gradflow.figures.name_saliency import plot_name_saliency
from gradflow.figures.names_corpus import plot_names_corpus
from gradflow.figures.one_hot import plot_one_hot
from gradflow.figures.output import save
from gradflow.figures.repeated_composition import plot_repeated_composition
from gradflow.figures.residual_analogy import plot_residual_analogy
from gradflow.figures.singular_values_over_training import plot_singular_values_over_training
from gradflow.figures.stacked_lattice import plot_stacked_lattice
from gradflow.figures.tanh_derivative import plot_tanh_derivative
from gradflow.figures.temporal_contributions import plot_temporal_contributions
from gradflow.figures.unrolled_graph import plot_unrolled_graph
from gradflow.figures.weight_spectrum import plot_weight_spectrum
from gradflow.runlog import open_sweep

log = logging.getLogger(__name__)
_LEFT_OUT = "left out %s: %s"


class Entry(NamedTuple):
    """How a figure of the gallery is made.

    Runs that differ in `apart` get a figure each, and `beside` joins them all; runs that differ in `across` share one,
    and one that they do not differ in is not drawn.
    """

    analyse: Callable[[Any], pd.DataFrame]
    check: Callable[[pd.DataFrame], list[dict[str, Any]]]
    plot: Callable[..., Figure]
    apart: tuple[str, ...] = ()
    beside: str | None = None  # value of the last of `apart`
    across: tuple[str, ...] = ()


GALLERY = {
    "comparison": Entry(analysis.comparison, analysis.comparison_claims, plot_comparison),
    "gradient_by_lag": Entry(analysis.gradient_by_lag, analysis.gradient_by_lag_claims, plot_gradient_by_lag),
    "gradient_heatmap": Entry(
        analysis.gradient_heatmap, analysis.gradient_heatmap_claims, plot_gradient_heatmap, ("clip",)
    ),
    "clipping_effect": Entry(
        analysis.clipping_effect, analysis.clipping_effect_claims, plot_clipping_effect, ("init", "clip"), "none"
    ),
    "singular_values_over_training": Entry(
        analysis.singular_values_over_training,
        analysis.singular_values_over_training_claims,
        plot_singular_values_over_training,
        ("init",),
    ),
    "weight_spectrum": Entry(
        analysis.weight_spectrum, analysis.weight_spectrum_claims, plot_weight_spectrum, ("init",)
    ),
    "temporal_contributions": Entry(
        analysis.temporal_contributions, analysis.temporal_contributions_claims, plot_temporal_contributions, ("init",)
    ),
    "lstm_cell_highway": Entry(analysis.lstm_cell_highway, analysis.lstm_cell_highway_claims, plot_lstm_cell_highway),
    "gate_timescales": Entry(
        analysis.gate_timescales, analysis.gate_timescales_claims, plot_gate_timescales, ("clip",)
    ),
    "cell_diagram": Entry(analysis.gate_means, analysis.gate_means_claims, plot_cell_diagram, ("cell", "start")),
    "stacked_lattice": Entry(analysis.stacked_lattice, analysis.stacked_lattice_claims, plot_stacked_lattice),
    "bidirectional_profile": Entry(
        analysis.bidirectional_profile, analysis.bidirectional_profile_claims, plot_bidirectional_profile
    ),
    "accuracy_by_lag": Entry(
        analysis.accuracy_by_lag,
        analysis.accuracy_by_lag_claims,
        plot_accuracy_by_lag,
        across=("data.length", "data.names_per_sequence"),
    ),
    "compute_time": Entry(
        analysis.compute_time,
        analysis.compute_time_claims,
        plot_compute_time,
        across=("data.length", "data.names_per_sequence"),
    ),
}


class Exact(NamedTuple):
    """How a table that is not of a log is checked and drawn."""

    check: Callable[[pd.DataFrame], list[dict[str, Any]]]
    plot: Callable[..., Figure]


EXACT = {
    "jacobian_product_by_lag": Exact(analysis.jacobian_product_by_lag_claims, plot_jacobian_product_by_lag),
    "activation_saturation": Exact(analysis.activation_saturation_claims, plot_activation_saturation),
    "error_surface_cliff": Exact(analysis.error_surface_cliff_claims, plot_error_surface_cliff),
    "bifurcation_diagram": Exact(analysis.bifurcation_diagram_claims, plot_bifurcation_diagram),
    "lyapunov_spectrum": Exact(analysis.lyapunov_spectrum_claims, plot_lyapunov_spectrum),
    "memory_sensitivity": Exact(analysis.memory_sensitivity_claims, plot_memory_sensitivity),
    "tanh_derivative": Exact(analysis.tanh_derivative_claims, plot_tanh_derivative),
    "repeated_composition": Exact(analysis.repeated_composition_claims, plot_repeated_composition),
    "unrolled_graph": Exact(analysis.unrolled_graph_claims, plot_unrolled_graph),
    "residual_analogy": Exact(analysis.residual_analogy_claims, plot_residual_analogy),
}
"""By the names of `gradflow.theory.EXACT`, which computes the tables."""


PICTURES = {
    "names_corpus": Exact(analysis.names_corpus_claims, plot_names_corpus),
    "one_hot": Exact(analysis.one_hot_claims, plot_one_hot),
    "name_saliency": Exact(analysis.name_saliency_claims, plot_name_saliency),
    "gate_map": Exact(analysis.gate_map_claims, plot_gate_map),
}
"""By the functions of `gradflow.data` and `gradflow.training.prediction` (which asks a model) that make tables."""


class Animated(NamedTuple):
    """How an animation is made of up to four runs."""

    analyse: Callable[[Any], pd.DataFrame]
    check: Callable[[pd.DataFrame], list[dict[str, Any]]]
    animate: Callable[..., Animation]


ANIMATIONS = {
    "gradient_heatmap": Animated(analysis.gradient_heatmap, analysis.gradient_heatmap_claims, animate_gradient_heatmap),
    "weight_spectrum": Animated(
        analysis.weight_spectrum_over_training, analysis.weight_spectrum_over_training_claims, animate_weight_spectrum
    ),
}


def draw_all(
    path: str | Path,
    out_dir: str | Path,
    *,
    only: Collection[str] | None = None,
    lang: str = "en",
    context: str = "slide",
) -> list[Path]:
    """Draw every figure that the runs below a path support; say in the log which are left out, and why.

    Runs of different tasks, sizes or other settings never share a figure: each such group has its own, and the name
    of the file says which. Figures of other networks than those there (a stack, two directions, gates) are missed by
    nobody who did not ask for them: about these the log is silent, but for its level DEBUG, unless `only` names them.

    Args:
        path: The folder of a run or of a sweep.
        out_dir: Where the figures go; made if missing.
        only: Names out of `GALLERY`; None is all of them.
        lang: `en` or `zh`.
        context: `slide`, `notebook` or `paper`.

    Returns:
        All files written.

    Raises:
        FileNotFoundError: There is no run below the path.
        ValueError: An unknown language, context or figure.
    """
    unknown = sorted(set(only or ()) - set(GALLERY))
    if unknown:
        raise ValueError(f"figures: expected names out of {', '.join(GALLERY)}, got {', '.join(unknown)}")
    chosen = {name: entry for name, entry in GALLERY.items() if only is None or name in only}
    files: list[Path] = []
    for title, entry, runs in _jobs(open_sweep(path).members, chosen):
        try:
            data = entry.analyse(runs)
            claims = entry.check(data)
            figure = entry.plot(data, claims=claims, lang=lang, context=context)
        except DoesNotApply as reason:
            log.log(logging.DEBUG if only is None else logging.INFO, _LEFT_OUT, title, reason)
            continue
        except ValueError as reason:
            log.info(_LEFT_OUT, title, reason)
            continue
        files += save(figure, Path(out_dir) / title, data=data, claims=claims)
    return files


def _jobs(runs: Sequence[Run], gallery: Mapping[str, Entry]) -> Iterator[tuple[str, Entry, list[Run]]]:
    """Every figure to be tried: its name, how it is made, and of which runs; task by task, then what spans tasks."""
    for group, members in analysis.by_task(runs).items():
        if not any(len(run.scalars) for run in members):
            states = ", ".join(f"{count} {state}" for state, count in Counter(run.status for run in members).items())
            log.info(_LEFT_OUT, group or "all figures", f"no run has recorded anything ({states})")
            continue
        for name, entry in gallery.items():
            if not entry.across:
                for part, own in _apart(members, entry).items():
                    yield "-".join(word for word in (name, group, part) if word), entry, own
    for name, entry in gallery.items():
        for group, members in analysis.by_task(runs, entry.across).items() if entry.across else ():
            if len(analysis.by_task(members)) > 1:
                yield "-".join(word for word in (name, group) if word), entry, members


_IN_FILES = str.maketrans({",": "+", " ": "", "\\": ""})
"""What the settings of a start are told by in the name of a file."""


def _apart(runs: Sequence[Run], entry: Entry) -> dict[str, list[Run]]:
    """Runs by the settings that are kept apart, named where these vary."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(str(identity(run)[key]) for key in entry.apart), []).append(run)
    if entry.beside is not None:
        groups = _joined(groups, entry.beside)
    varying = [i for i in range(len(entry.apart)) if len({values[i] for values in groups}) > 1]
    return {
        ",".join(f"{entry.apart[i]}={values[i].translate(_IN_FILES)}" for i in varying): members
        for values, members in groups.items()
    }


def _joined(groups: dict[tuple[str, ...], list[Run]], beside: str) -> dict[tuple[str, ...], list[Run]]:
    """Groups without that of `beside`, whose runs are in each of the others; alone it stays."""
    baseline = {values[:-1]: members for values, members in groups.items() if values[-1] == beside}
    others = {values: members for values, members in groups.items() if values[-1] != beside}
    alone = {(*start, beside): runs for start, runs in baseline.items() if start not in {v[:-1] for v in others}}
    return {values: baseline.get(values[:-1], []) + members for values, members in others.items()} | alone
