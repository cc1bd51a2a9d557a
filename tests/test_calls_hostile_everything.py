"""Wrong calls of what draws, diagnoses and reports; and whatever is public has its trials, here or beside."""

import inspect
import tempfile
from collections.abc import Callable, Iterator
from math import inf, nan
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from hostile_calls import not_clear
from test_calls_hostile import LAYERS, Trial, lstm, recorded, with_gradients
from test_calls_hostile import TRIALS as TRIALS_OF_NUMBERS
from test_calls_hostile import WRONG as WRONG_NUMBERS
from test_calls_hostile_recording import TRIALS as TRIALS_OF_RECORDING
from test_calls_hostile_recording import WRONG as WRONG_IN_RECORDING
from test_calls_hostile_recording import run, sweep

import gradflow as gf
from gradflow import analysis, data, figures, theory
from gradflow.figures.options import NAMES

WRONG: dict[str, list[Any]] = {
    **WRONG_NUMBERS,
    **WRONG_IN_RECORDING,
    "a run": [None, 3, object(), [], [3], {}, "", "no such"],
    "a run at hand": [None, 3, "x", [], {}],
    "runs": [None, 3, "x", [3], [None]],
    "runs or none": [3, "x", [3]],
    "file or none": [3, 1.5, "", "a\0b", b"x", ["x"]],
    "file": [None, 3, 1.5, "", " ", "a\0b", b"x", ["x"]],
    "length": ["x", 0, 0.5, -1, nan, inf, True, [3]],
    "tried": [3, "x", [3], ["x"]],
    "processes": [None, "x", 0, 3, 1.5, nan, True],
    "option title": [3, ["x"], True, r"$\nosuch$"],
    "option caption": [3, None, ["x"], r"$\nosuch$"],
    "option labels": ["x", 3, None, [1], {"axis.lag": 3}],
    "option palette": ["x", 3, None, ["red"], {"rnn": "no such"}, {"no such": "red"}, {"rnn": 3}],
    "option theme": [None, "no such", 3, ["dark"]],
    "option step": ["x", 0, -1, 1.5, nan, True, [1]],
    "option size": ["x", 3, (1,), (0, 5), (nan, 3), (5, 1000), [1, 2, 3], ("a", "b"), (True, True)],
    "settings": ["x", 3, [3]],
    "norm": [None, "x", -1.0, 0.0, nan, [1.0]],
    "progress": [3, "x"],
}
OPTIONS = {name: f"option {name}" for name in NAMES}


OF_RUNS = {
    "clipping_effect": {"source": "source"},
    "compute_time": {"source": "source"},
    "runs_of": {"source": "source"},
    "weight_spectrum_over_training": {"source": "source", "layer": "place", "direction": "direction"},
}


def decked(path: Any, figure: Any) -> None:
    with figures.deck(path) as add:
        add(figure)


def new(name: str) -> Path:
    return Path(tempfile.mkdtemp()) / name


def spectrum() -> pd.DataFrame:
    return analysis.weight_spectrum(recorded())


def moving() -> Any:
    return figures.animate_gradient_heatmap(analysis.gradient_heatmap(recorded()))


TRIALS: dict[str, Callable[[], Trial]] = {
    "diagnose": lambda: Trial(gf.diagnose, {"run": run()}, {"run": "a run", "length": "length"}),
    "write_report": lambda: Trial(
        gf.write_report,
        {"path": sweep().path, "out": new("report.html")},
        {"path": "folder", "out": "file or none", "length": "length", "figures": "tried"},
    ),
    "figures.deck": lambda: Trial(
        decked, {"path": new("deck.pdf"), "figure": plt.Figure()}, {"path": "file", "figure": "figure"}
    ),
    "figures.draw": lambda: Trial(
        figures.draw,
        {"name": "weight_spectrum", "source": recorded()},
        {"name": "word", "source": "source", "lang": "lang", "context": "context", **OPTIONS},
    ),
    "figures.make": lambda: Trial(
        figures.make,
        {"how": figures.GALLERY["weight_spectrum"], "data": spectrum()},
        {"how": "entry", "data": "data", "runs": "runs", "lang": "lang", "context": "context", **OPTIONS},
    ),
    "figures.draw_all": lambda: Trial(
        figures.draw_all,
        {"path": sweep().path, "out_dir": new("figures"), "only": ["weight_spectrum"]},
        {"processes": "processes", "theme": "word", "svg_text": "flag"},
    ),
    "figures.save_animation": lambda: Trial(
        figures.save_animation,
        {"animation": moving(), "path": new("a")},
        {"data": "data or none", "claims": "claims", "progress": "progress"},
    ),
    "figures.plot_gradient_heatmap": lambda: Trial(
        figures.plot_gradient_heatmap,
        {"data": analysis.gradient_heatmap(recorded())},
        {"relative": "flag"},
    ),
    "figures.save": lambda: Trial(figures.save, {"figure": plt.Figure(), "path": new("a")}, {"svg_text": "flag"}),
    "analysis.ending": lambda: Trial(analysis.ending, {"run": recorded()}, {"run": "a run at hand"}),
    **{
        f"figures.{name}": lambda name=name: Trial(getattr(figures, name), {"data": pd.DataFrame()}, OPTIONS)
        for name in figures.__all__
        if name.startswith("plot_") and name != "plot_gradient_heatmap"
    },
    "clip_grad_norm_": lambda: Trial(
        gf.clip_grad_norm_,
        {"parameters": with_gradients(), "max_norm": 1.0},
        {"parameters": "parameters", "max_norm": "positive or infinite", "norm_type": "norm"}
        | {"error_if_nonfinite": "flag"},
    ),
    "lyapunov_loss": lambda: Trial(
        gf.lyapunov_loss, {"layer": lstm(), "x": torch.zeros(5, 2, 3), "exponents": 1}, {"hx": "state"}
    ),
    "floss_": lambda: Trial(
        gf.floss_,
        {"layer": lstm(), "x": torch.zeros(5, 2, 3), "iterations": 1, "lr": 0.1, "exponents": 1},
        {"hx": "state"},
    ),
    "analysis.by_module": lambda: Trial(analysis.by_module, {"run": recorded()}, {"run": "a run at hand"}),
    "analysis.by_task": lambda: Trial(analysis.by_task, {"runs": [recorded()]}, {"runs": "runs", "across": "settings"}),
    "analysis.identity": lambda: Trial(analysis.identity, {"run": recorded()}, {"run": "a run at hand"}),
    "analysis.solved_at": lambda: Trial(analysis.solved_at, {"run": recorded()}, {"run": "a run at hand"}),
    "analysis.verdict_table": lambda: Trial(analysis.verdict_table, {"claims": {}}, {"claims": "claims"}),
    "analysis.proof_claims": lambda: Trial(
        analysis.proof_claims, {"source": recorded(), "data": spectrum()}, {"source": "source", "data": "data"}
    ),
    **{
        f"analysis.{name}": lambda name=name, kinds=kinds: Trial(getattr(analysis, name), {"source": recorded()}, kinds)
        for name, kinds in OF_RUNS.items()
    },
    **{
        f"theory.{name}": lambda name=name: Trial(getattr(theory, name), {}, {"seed": "seed"})
        for name in ("additive_paths", "lyapunov_gains", "memory_curse", "chain_of_jacobians")
    },
    "data.one_hot": lambda: Trial(data.one_hot, {"name": "ab", "alphabet": "abc"}, {"alphabet": "names"}),
}
MADE_BY_GRADFLOW = {"Jacobian", "Clipping", "StateClipping", "Animation", "Dataset", "Names", "Sequences"}
"""Classes whose objects users are given."""
LEFT = {  # arguments that torch checks, and those that stand for others
    **{layer.__name__: {"kwargs", "device", "dtype"} for layer in LAYERS},
    "clip_grad_norm_": {"foreach"},
    "clip_grad_value_": {"foreach"},
    "figures.draw": {"options"},
    "figures.make": {"options"},
    "Cell": {"kwargs"},
    "Coefficients": {"rows", "shown", "reset"},
    "data.Success": {"quantity", "threshold", "source"},
    "data.Task": set(inspect.signature(data.Task).parameters),
}
ALSO = {"figures": ["figures:"], "labels": ["labels"], "only": ["figures: expected"], "figure": ["figure:"]}


def public() -> Iterator[tuple[str, Any]]:
    """Every function and class that users are told of, by its name."""
    homes = {"": gf, "analysis.": analysis, "theory.": theory, "figures.": figures, "data.": data}
    for place, home in homes.items():
        for name in home.__all__:
            if callable(getattr(home, name)) and name not in MADE_BY_GRADFLOW:
                yield f"{place}{name}", getattr(home, name)


def test_every_public_argument_has_its_trial() -> None:
    tried: dict[str, set[str]] = {}
    for trials in (TRIALS, TRIALS_OF_NUMBERS, TRIALS_OF_RECORDING):
        for name, make in trials.items():
            tried.setdefault(name.split(" ")[0].rpartition(".")[2], set()).update(make().kinds)
    missing = [
        f"{name}({argument}=)"
        for name, function in public()
        for argument, parameter in inspect.signature(function).parameters.items()
        if parameter.kind != parameter.VAR_POSITIONAL
        if argument not in tried.get(name.rpartition(".")[2], set()) | LEFT.get(name, set())
    ]
    assert not missing, "without a trial: " + ", ".join(missing)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_a_wrong_call_is_told_its_argument(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = not_clear(name, TRIALS[name], WRONG, (":", " ", ", "), ALSO)
    plt.close("all")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)
