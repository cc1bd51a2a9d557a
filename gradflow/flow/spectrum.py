"""Singular values and eigenvalues of the recurrent weights.

Singular values are not eigenvalues: σ_1 bounds one step, the spectral radius rules the linear limit, and σ_1 > 1 is
necessary for exploding gradients, not sufficient (Pascanu et al. 2013, section 2.1).
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gradflow.cells.layers import suffix
from gradflow.flow.calls import SteppedCell, check_supported, torch_cell_class


def recurrent_spectrum(layer: nn.Module) -> pd.DataFrame:
    """Singular values and eigenvalues of W_hh, gate by gate: of the stacked matrix they would mean nothing for J.

    Args:
        layer: torch.nn.RNN, LSTM or GRU, gradflow.RNN, LinearRNN, LSTM or GRU.

    Returns:
        Columns layer, direction, gate (``h``; ``i f g o``; ``r z n``), index, singular_value (descending),
        eigenvalue_re, eigenvalue_im (by descending modulus); float64, NaN where the weights are not finite, or the
        algorithm does not converge.

    >>> recurrent_spectrum(nn.RNN(3, 2)).columns.tolist()
    ['layer', 'direction', 'gate', 'index', 'singular_value', 'eigenvalue_re', 'eigenvalue_im']
    """
    return pd.DataFrame(spectrum_columns(layer))


def spectrum_columns(layer: Any, weights: Mapping[str, Tensor] | None = None) -> dict[str, np.ndarray]:
    """The columns of :func:`recurrent_spectrum`, as the log takes them; of kept `weights` instead of today's."""
    if not isinstance(layer, SteppedCell):
        check_supported(layer)
    names = torch_cell_class(layer).gate_names
    parts: list[dict[str, Any]] = []
    for index in range(layer.num_layers):
        for direction in range(2 if layer.bidirectional else 1):
            name = "weight_hh" + suffix(index, direction)
            weight = (getattr(layer, name) if weights is None else weights[name]).detach().double().cpu().numpy()
            for gate, matrix in zip(names, np.split(weight, len(names)), strict=True):
                parts.append({"layer": index, "direction": direction, "gate": gate, **_spectrum(matrix)})
    size = len(parts[0]["singular_value"])
    columns: dict[str, Any] = {name: [] for name in parts[0]}
    for part in parts:
        for name, value in part.items():
            columns[name].append(value if isinstance(value, np.ndarray) else np.repeat(value, size))
    return {name: np.concatenate(values) for name, values in columns.items()}


def _spectrum(matrix: np.ndarray) -> dict[str, np.ndarray]:
    size = len(matrix)
    singular, eigen = np.full(size, np.nan), np.full(size, complex(np.nan, np.nan))
    if np.isfinite(matrix).all():
        with suppress(torch.linalg.LinAlgError):
            singular = torch.linalg.svdvals(torch.from_numpy(matrix)).numpy()
        with suppress(torch.linalg.LinAlgError):
            eigen = torch.linalg.eigvals(torch.from_numpy(matrix)).numpy()
            eigen = eigen[np.lexsort((eigen.imag, -np.abs(eigen)))]
    return {
        "index": np.arange(size),
        "singular_value": singular,
        "eigenvalue_re": eigen.real.copy(),
        "eigenvalue_im": eigen.imag.copy(),
    }
