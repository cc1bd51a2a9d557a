"""Wrong calls of the public interface: the error names the argument, says what was expected, and is short."""

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from math import inf, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hostile_calls import Plain, not_clear
from synthetic_runs import Planted, config_of, write_run
from torch import nn

import gradflow as gf
from gradflow import analysis, data, theory
from gradflow.config import Config, DataConfig
from gradflow.training.model import build_model

WRONG: dict[str, list[Any]] = {
    "count": [None, "x", -1, 0, 1.5, nan, True, [1]],
    "count or none": ["x", -1, 0, 1.5, nan, True, [1]],
    "index": [None, "x", -1, 1.5, nan, [0], 10**6],
    "seed": [None, "x", -1, 1.5, nan, [0]],
    "positive": [None, "x", -1.0, 0.0, nan, inf, [1.0], 1j],
    "positive or infinite": [None, "x", -1.0, 0.0, nan, [1.0], 1j],
    "positive or none": ["x", -1.0, 0.0, nan, inf, [1.0]],
    "not negative": [None, "x", -1.0, nan, inf, [1.0]],
    "number or none": ["x", nan, inf, [1.0]],
    "share": [None, "x", -0.1, 1.0, 0.0, nan, inf, [0.5]],
    "flag": ["x", None, 2, nan],
    "name": [None, "no such", 3, ["x"], ""],
    "layer": [None, "x", 3, nn.Linear(2, 2), nn.RNN, [nn.RNN(2, 3)]],
    "input": [None, "x", 3, torch.zeros(2), torch.zeros(4, 2, 7), torch.zeros(4, 2, 3, 2), np.zeros((4, 2, 3))],
    "vector": [None, "x", 3, torch.zeros(2), torch.zeros(4, 2, 7), np.zeros((4, 2, 3))],
    "sequence": [None, "x", 3, torch.zeros(2), torch.zeros(4, 2, 3, 2), np.zeros((4, 2, 3))],
    "state of 3": ["x", 3, torch.zeros(2), torch.zeros(4, 2, 7), np.zeros((1, 2, 3))],
    "factor": [None, "x", -1.0, [1.0]],
    "place": ["x", -1, 1.5, nan, [0]],
    "direction": [None, "x", -1, 2, 0.5, nan, [0]],
    "word": ["no such", 3, ["x"], ("a",)],
    "state": ["x", 3, torch.zeros(2), torch.zeros(4, 2, 7), np.zeros((1, 2, 4))],
    "last": [None, "x", 1.5, nan, [0], 10**6],
    "tensors": ["x", 3, {}, {"h": 3}],
    "parameters": [None, "x", 3, [], [3], ["x"], [None]],
    "traces": [None, "x", 3, [3], [None], [torch.zeros(2)]],
    "config": [None, "x", 3, {}],
    "names": [None, "x", 3, [], [""], [3]],
    "table": [None, "x", 3, [], pd.DataFrame(), pd.DataFrame({"no": [1]})],
    "array": [None, "x", ["x"], [[1.0, 2.0]], object()],
    "column": [None, "no such", 3],
    "columns": [["no such"], 3, "no such"],
    "source": [None, 3, object(), [], [3], {}],
    "path": [None, 3, "", "no such", 1.5, "a\0b"],
    "probability": [None, "x", -0.1, 1.5, nan, inf],
}


class Trial(NamedTuple):
    """A call that works, and of what kind its arguments are, as in `WRONG`."""

    call: Callable[..., Any]
    right: Mapping[str, Any]
    kinds: Mapping[str, str]


@cache
def step() -> Any:
    torch.manual_seed(0)
    return gf.trace(gf.RNN(3, 4), torch.randn(5, 2, 3))[0, 0]


def rnn() -> Any:
    return gf.RNN(3, 4)


def lstm() -> Any:
    return gf.LSTM(3, 4)


def traces() -> list[Any]:
    trace = gf.trace(rnn(), torch.randn(5, 2, 3))
    trace.output.sum().backward()
    return [trace]


def with_gradients() -> list[Any]:
    layer = rnn()
    layer(torch.randn(5, 2, 3))[0].sum().backward()
    return list(layer.parameters())


@cache
def recorded() -> Any:
    """A synthetic run of two layers and two directions."""
    folder = Path(tempfile.mkdtemp()) / "run"
    return gf.open_run(write_run(folder, config_of("lstm", layers=2, bidirectional=True), Planted()))


PLACE = {"layer": "place", "direction": "direction"}
READING: dict[str, dict[str, str]] = {
    "gradient_by_lag": {"iteration": "place", **PLACE},
    "gradient_decay": {"vanished": "share", **PLACE},
    "gradient_heatmap": {"relative": "flag", **PLACE},
    "weight_gradient_reach": {"steps": "count", **PLACE},
    "spectrum_drift": {"gate": "word", **PLACE},
    "singular_values_over_training": {"gate": "word", **PLACE},
    "weight_spectrum": PLACE,
    "gate_timescales": PLACE,
    "gate_means": PLACE,
    "temporal_contributions": {"iteration": "place", **PLACE},
    "lstm_cell_highway": {"iteration": "place", **PLACE},
    "jacobian_norm_over_training": PLACE,
    "stacked_lattice": {"iteration": "place", "direction": "direction"},
    "bidirectional_profile": {"iteration": "place", "layer": "place"},
    "exploding_events": {"before": "place", "fence": "positive", "window": "count", **PLACE},
    "ranking": {"by": "name"},
    "accuracy_by_lag": {"quantity": "word"},
}
SIZES = {
    "input_size": "count",
    "hidden_size": "count",
    "num_layers": "count",
    "bias": "flag",
    "batch_first": "flag",
    "dropout": "probability",
    "bidirectional": "flag",
}
LAYERS = [gf.RNN, gf.LinearRNN, gf.LSTM, gf.GRU]
SEEDS = pd.DataFrame({"seed": [0, 1, 0, 1], "clip": ["a", "a", "b", "b"], "rate": [1.0, 2.0, 3.0, 4.0]})
LAG, VALUE = np.arange(8), -np.arange(8.0)

TRIALS: dict[str, Callable[[], Trial]] = {
    **{
        layer.__name__: lambda layer=layer: Trial(layer, {"input_size": 3, "hidden_size": 4}, SIZES) for layer in LAYERS
    },
    "RNN kind": lambda: Trial(gf.RNN, {"input_size": 3, "hidden_size": 4}, {"nonlinearity": "name"}),
    "GRU kind": lambda: Trial(gf.GRU, {"input_size": 3, "hidden_size": 4}, {"reset": "name"}),
    **{
        f"{layer.__name__} call": lambda layer=layer: Trial(
            layer(3, 4), {"input": torch.zeros(5, 2, 3)}, {"input": "input", "hx": "state"}
        )
        for layer in LAYERS
    },
    "Recurrent": lambda: Trial(gf.Recurrent, {"cell": Plain()}, {"cell": "layer", "batch_first": "flag"}),
    "Recurrent call": lambda: Trial(
        gf.Recurrent(Plain()), {"input": torch.zeros(5, 2, 3)}, {"input": "sequence", "hx": "state of 3"}
    ),
    "check_cell": lambda: Trial(
        gf.testing.check_cell, {"cell": Plain(), "input_size": 3}, {"cell": "layer", "input_size": "count"}
    ),
    "Coefficients": lambda: Trial(
        gf.Coefficients, {"diagonal": {("h", "h"): torch.zeros(2, 3)}}, {"diagonal": "tensors"}
    ),
    "J.matvec": lambda: Trial(step().jacobian.matvec, {"v": torch.zeros(5, 2, 4)}, {"v": "vector"}),
    "J.rmatvec": lambda: Trial(step().jacobian.rmatvec, {"u": torch.zeros(5, 2, 4)}, {"u": "vector"}),
    "J.leading": lambda: Trial(step().jacobian.leading_singular_values, {"count": 1}, {"count": "count"}),
    "jacobian_product": lambda: Trial(
        gf.jacobian_product,
        {"J": step().jacobian, "start": -1, "stop": 3},
        {"J": "layer", "stop": "last"},
    ),
    "product_norms": lambda: Trial(gf.product_norms, {"J": step().jacobian}, {"J": "layer"}),
    "lyapunov_exponents": lambda: Trial(
        gf.lyapunov_exponents, {"J": step().jacobian}, {"J": "layer", "burn_in": "index", "count": "count or none"}
    ),
    "recurrent_spectrum": lambda: Trial(gf.recurrent_spectrum, {"layer": rnn()}, {"layer": "layer"}),
    "initialise_": lambda: Trial(
        gf.initialise_,
        {"layer": lstm()},
        {"layer": "layer", "name": "name", "gain": "positive", "forget_bias": "number or none"}
        | {"update_bias": "number or none"},
    ),
    "initialise_ sparse": lambda: Trial(
        gf.initialise_,
        {"layer": rnn(), "name": "sparse"},
        {"gain": "positive", "std": "positive or none", "connections": "count or none"},
    ),
    "initialise_ chrono": lambda: Trial(
        gf.initialise_,
        {"layer": lstm(), "name": "chrono", "time_scale": 9.0},
        {"time_scale": "positive or none"},
    ),
    "clip_grad_value_": lambda: Trial(
        gf.clip_grad_value_,
        {"parameters": with_gradients(), "clip_value": 1.0},
        {"parameters": "parameters", "clip_value": "positive or infinite"},
    ),
    "clip_grad_parameter_norm_": lambda: Trial(
        gf.clip_grad_parameter_norm_,
        {"parameters": with_gradients(), "max_norm": 1.0},
        {"parameters": "parameters", "max_norm": "positive or infinite"},
    ),
    "add_omega_gradient_": lambda: Trial(
        gf.add_omega_gradient_,
        {"traces": traces(), "weight": 1.0},
        {"traces": "traces", "weight": "not negative", "squared": "flag"},
    ),
    "clip_state_gradients_": lambda: Trial(
        gf.clip_state_gradients_,
        {"traces": traces(), "clip_value": 1.0},
        {"traces": "traces", "clip_value": "positive or infinite"},
    ),
    "lyapunov_loss": lambda: Trial(
        gf.lyapunov_loss,
        {"layer": rnn(), "x": torch.zeros(5, 2, 3), "exponents": 1},
        {"layer": "layer", "x": "input", "exponents": "count"},
    ),
    "floss_": lambda: Trial(
        gf.floss_,
        {"layer": rnn(), "x": torch.zeros(5, 2, 3), "iterations": 1, "lr": 0.1, "exponents": 1},
        {"layer": "layer", "x": "input", "iterations": "count", "lr": "positive", "exponents": "count"},
    ),
    "watch_backward": lambda: Trial(gf.watch_backward, {"model": rnn()}, {"model": "layer"}),
    "encode": lambda: Trial(data.encode, {"names": ["ab"], "alphabet": "abc"}, {"names": "names", "alphabet": "names"}),
    "load": lambda: Trial(data.load, {"config": DataConfig("adding"), "seed": 0}, {"config": "config", "seed": "seed"}),
    "all_names": lambda: Trial(data.all_names, {"config": DataConfig()}, {"config": "config", "seed": "seed"}),
    "names_corpus": lambda: Trial(
        data.names_corpus,
        {"names": pd.DataFrame({"name": ["ab"], "label": ["x"]})},
        {"names": "table", "vocabulary": "count"},
    ),
    "one_hot": lambda: Trial(data.one_hot, {"name": "ab", "alphabet": "abc"}, {"name": "name"}),
    **{
        f"theory.{name}": lambda name=name: Trial(getattr(theory, name), {}, {"seed": "seed"})
        for name in ("linear_slopes", "repeated_composition", "unrolled_gradients", "mean_field_slopes")
    },
    "over_seeds": lambda: Trial(
        analysis.over_seeds,
        {"data": SEEDS, "value": "rate"},
        {"data": "table", "value": "column", "by": "columns", "confidence": "share"},
    ),
    "difference_over_seeds": lambda: Trial(
        analysis.difference_over_seeds,
        {"data": SEEDS, "value": "rate", "across": "clip", "baseline": "a"},
        {"data": "table", "value": "column", "across": "column", "baseline": "column", "by": "columns"}
        | {"confidence": "share"},
    ),
    "mean_interval": lambda: Trial(
        analysis.mean_interval, {"values": [1.0, 2.0]}, {"values": "array", "confidence": "share"}
    ),
    "wilson_interval": lambda: Trial(
        analysis.wilson_interval, {"share": 0.5, "n": 10}, {"share": "probability", "n": "count", "z": "positive"}
    ),
    "horizon": lambda: Trial(analysis.horizon, {"factor": 0.5}, {"factor": "factor", "vanished": "share"}),
    "vanishing_lag": lambda: Trial(
        analysis.vanishing_lag,
        {"lag": LAG, "log_value": VALUE},
        {"lag": "array", "log_value": "array", "vanished": "share"},
    ),
    "factor_per_step": lambda: Trial(
        analysis.factor_per_step, {"lag": LAG, "log_value": VALUE}, {"lag": "array", "log_value": "array"}
    ),
    "effective_lag": lambda: Trial(analysis.effective_lag, {"share": np.array([0.5, 1.0])}, {"share": "array"}),
    "spectral_distance": lambda: Trial(
        analysis.spectral_distance,
        {"before": np.array([1.0, 0.5]), "after": np.array([1.0, 0.5])},
        {"before": "array", "after": "array"},
    ),
    "explosion_threshold": lambda: Trial(
        analysis.explosion_threshold,
        {"log_norm": pd.Series([0.0, 1.0])},
        {"log_norm": "array", "fence": "positive", "window": "count"},
    ),
    **{
        f"analysis.{name}": lambda name=name: Trial(getattr(analysis, name), {}, {"source": "source"})
        for name in analysis.__all__
        if name in ("ranking", "clipped_share", "comparison", "gradient_decay", "gradient_by_lag", "exploding_events")
    },
    **{
        f"analysis.{name}": lambda name=name: Trial(getattr(analysis, name), {}, {"data": "table"})
        for name in analysis.__all__
        if name.endswith("_claims") and name != "proof_claims"
    },
    **{
        f"analysis.{name} of a run": lambda name=name: Trial(
            getattr(analysis, name), {"source": recorded()}, {"source": "source", **READING[name]}
        )
        for name in READING
    },
    "build_model": lambda: Trial(
        build_model,
        {"config": Config(), "input_size": 3, "outputs": 2},
        {"config": "config", "input_size": "count", "outputs": "count", "everywhere": "flag", "numbers": "flag"},
    ),
    "Config": lambda: Trial(
        Config, {}, {"data": "config", "seed": "seed", "threads": "count", "name": "column", "dtype": "name"}
    ),
}
RIGHT_AFTER_ALL = [
    ("Config", "name", "no such"),
    ("names_corpus", "vocabulary", "x"),
    ("vanishing_lag", "vanished", 1.0),
]
ALSO = {  # what the errors call an argument
    "v": ["vector:"],
    "u": ["vector:"],
    "alphabet": ["names: expected characters of the alphabet"],
    "before": ["after: expected as many values as before"],
    "lag": ["log_value: expected as many values as lags"],
    "threads": ["threads:"],
}


@pytest.mark.parametrize("name", TRIALS)
def test_a_wrong_call_is_told_its_argument(name: str) -> None:
    trial = TRIALS[name]()
    if trial.right:
        trial.call(**trial.right)
    wrong = not_clear(name, TRIALS[name], WRONG, (":", ", "), ALSO, RIGHT_AFTER_ALL)
    assert not wrong, "\n".join(wrong)
