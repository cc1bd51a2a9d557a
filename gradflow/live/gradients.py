"""Gradients through time and singular values of one network, as the sliders have it: settings in, a plain table out."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradflow.analysis.by_lag import factor_per_step
from gradflow.cells.facts import CELLS, bias_of_keeping_gate
from gradflow.config import CellConfig, CellName, Config, Dtype, InitConfig, InitName
from gradflow.flow.replay import Trace, trace
from gradflow.flow.spectrum import recurrent_spectrum
from gradflow.live.words import word
from gradflow.report.words import Text
from gradflow.theory.networks import generator, gradients_of_last, seeded
from gradflow.training.model import SequenceModel, build_model

SIZE, SYMBOLS, EXAMPLES = 64, 50, 8
SEED = 0
KEEPS = 0.02
"""How near to 1 the factor of a step is that keeps the gradient."""
DROPPED = 0.5
"""What is left, at most, of a gradient that was lost in the first steps back."""


def flow(cell: str, start: float, steps: int) -> dict[str, Any]:
    """The gradient of a loss at the last state by steps back, and what one step stretches.

    An untrained network of 64 units in float64 reads random symbols (one-hot, 50 of them, 8 sequences); the loss is a
    random linear function of the last hidden state.

    Args:
        cell: `rnn`, `linear`, `lstm` or `gru`.
        start: gain of the Gaussian W_hh; of an LSTM the forget bias, of a GRU the update bias, torch's start else.
        steps: T, how many steps back.

    Returns:
        `lag` 0 to T; `low`, `median`, `high`: the smallest, median and largest of ‖dL/dh_{T-k}‖ / ‖dL/dh_T‖ over the
        sequences; `factor` per step back (geometric, over all lags, see
        :func:`gradflow.analysis.by_lag.factor_per_step`); `left`: the median at lag T; `weight`: singular values of
        W_hh (of gated cells, of the candidate's matrix), `jacobian`: those of ∂s_T/∂s_{T-1} of the first sequence, both
        descending; `radius`: the largest modulus of an eigenvalue of the same matrix. `headline` and
        `spectrum_headline` say it in words.
    """
    seen = traced(cell, start, steps)
    logs = relative(seen)
    median = np.median(logs, axis=1)
    factor = factor_per_step(np.arange(steps + 1), median)
    left = float(np.exp(median[-1]))
    jacobian = seen[0, 0].jacobian[-1:, :1].singular_values()[0, 0].tolist()
    weight, radius = weights_of(cell, start)
    return {
        "lag": list(range(steps + 1)),
        "low": np.exp(logs.min(axis=1)).tolist(),
        "median": np.exp(median).tolist(),
        "high": np.exp(logs.max(axis=1)).tolist(),
        "factor": factor,
        "left": left,
        "weight": weight,
        "jacobian": jacobian,
        "radius": radius,
        "headline": _gradient_says(factor, left, steps),
        "spectrum_headline": _spectrum_says(cell, jacobian, weight[0], radius),
    }


def config_of(cell: str, start: float, **settings: Any) -> Config:
    """The settings of a run whose weights start so."""
    bias = bias_of_keeping_gate(cell)
    settings_of_start: dict[str, Any] = {"name": InitName.gaussian, "gain": start} if bias is None else {bias: start}
    init = InitConfig(**settings_of_start)
    return Config(cell=CellConfig(CellName(cell), SIZE), init=init, **settings)


@torch.no_grad()
def traced(cell: str, start: float, steps: int) -> Trace:
    """The pass whose gradients are shown, of T + 1 positions."""
    model = _model(cell, start)
    symbols = torch.randint(SYMBOLS, (steps + 1, EXAMPLES), generator=generator(SEED))
    return trace(model.recurrent, model.encode(symbols))


def relative(seen: Trace) -> np.ndarray:
    """ln(‖dL/dh_{T-k}‖ / ‖dL/dh_T‖), [T + 1, B] by lag k."""
    norms = gradients_of_last(seen, _read_out()).log_norm["h"].flip(0)
    return (norms - norms[0]).numpy()


def weights_of(cell: str, start: float) -> tuple[list[float], float]:
    """Singular values of W_hh, or of the candidate's matrix, descending, and its spectral radius."""
    table = _spectrum(cell, start if bias_of_keeping_gate(cell) is None else 0.0)  # which a bias does not change
    return table


@lru_cache(maxsize=64)
def _model(cell: str, start: float) -> SequenceModel:
    config = config_of(cell, start, dtype=Dtype.float64)
    return seeded(lambda: build_model(config, SYMBOLS, 1), SEED)


@lru_cache(maxsize=64)
def _spectrum(cell: str, start: float) -> tuple[list[float], float]:
    spectrum = recurrent_spectrum(_model(cell, start).recurrent)
    gate = CELLS[cell].candidate_gate or "h"
    own = spectrum[spectrum["gate"] == gate]
    return own["singular_value"].tolist(), float(np.hypot(own["eigenvalue_re"], own["eigenvalue_im"]).max())


def _read_out() -> Tensor:
    return torch.randn(EXAMPLES, SIZE, generator=generator(SEED, 1), dtype=torch.float64)


def _gradient_says(factor: float, left: float, steps: int) -> Text:
    if not np.isfinite(factor):
        return word("gradient.unknown")
    kind = "keeps" if abs(factor - 1) <= KEEPS else "vanishes" if factor < 1 else "explodes"
    if kind != "vanishes" and left < DROPPED:  # as of an LSTM, whose cell goes on while h hears little of it
        kind = "drops"
    return word(f"gradient.{kind}", factor=factor, left=left, steps=steps)


def _spectrum_says(cell: str, jacobian: list[float], weight: float, radius: float) -> Text:
    kind = "linear" if cell == "linear" else "gated" if CELLS[cell].gates else "rnn"
    half = jacobian[len(jacobian) // 2]
    return word(f"spectrum.{kind}", largest=jacobian[0], half=half, weight=weight, radius=radius)
