"""What is recorded of one layer and direction: from replayed steps and total gradients to the columns of the log.

Every quantity is one number per position and example, [T, B] float64; the log keeps their summary over the examples.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gradflow.adjoint import StateGradients
from gradflow.cells import LinearCell, LSTMCell, TorchCell
from gradflow.metrics import log_norm, summarise
from gradflow.replay import Step

Quantity = Callable[[Step, StateGradients], Tensor]


def _relative(step: Step, gradients: StateGradients) -> Tensor:
    """Whole state, so (h, c) for an LSTM, against its own value at the last valid step."""
    norms = gradients.log_norm["joint" if "joint" in gradients.log_norm else "h"]
    return norms - _at_last_step(step, norms)


def _at_last_step(step: Step, values: Tensor) -> Tensor:
    """[T, B, ...] -> [B, ...], at the last valid step of this direction."""
    if step.reverse:
        return values[0]
    if step.lengths is None:
        return values[-1]
    return values[step.lengths - 1, torch.arange(values.shape[1])]


def _cell_path(step: Step, gradients: StateGradients) -> Tensor:
    """‖(Π_{s>t} f_s) ∘ dL/dc_T‖: what reaches c_t through the cells alone."""
    log_f = step.gates["f"].double().log()
    if step.valid is not None:
        log_f = log_f.masked_fill(~step.valid.unsqueeze(-1), 0)
    run = log_f.cumsum(0)
    total = _at_last_step(step, gradients.value["c_total"]).double().abs().log()
    path = (run - log_f) if step.reverse else (run[-1] - run)
    return torch.logsumexp(2 * (path + total), -1) / 2


def _direct(step: Step, gradients: StateGradients) -> Tensor:
    return log_norm(gradients.direct["h"])


def _share(step: Step, gradients: StateGradients) -> Tensor:
    """Cumulative over lag: Σ_{lag ≤ k} of the norms of the per-step shares of dL/dW_hh over their whole sum."""
    norms = gradients.log_weight_share.nan_to_num(nan=-torch.inf)
    largest = norms.amax(0)
    parts = (norms - torch.where(largest.isfinite(), largest, 0)).exp()
    return (parts.cumsum(0) if step.reverse else parts.flip(0).cumsum(0).flip(0)) / parts.sum(0)


def _derivative(step: Step) -> Tensor:
    assert isinstance(step.cell, LinearCell)
    return step.cell.derivative(step.states["h"]).double()


LOG_GRADIENTS: dict[str, Quantity] = {
    "log_state_gradient": lambda step, gradients: gradients.log_norm["h"],
    "log_cell_gradient": lambda step, gradients: gradients.log_norm["c"],
    "log_joint_gradient": lambda step, gradients: gradients.log_norm["joint"],
    "log_direct_gradient": _direct,
    "log_cell_path": _cell_path,
    "log_weight_gradient": lambda step, gradients: gradients.log_weight_share,
}
"""Natural logs of gradients: they take the loss's reduction and scale."""

OTHERS: dict[str, Quantity] = {
    "log_relative_gradient": _relative,
    "log_jacobian_frobenius": lambda step, gradients: step.jacobian.frobenius_norm().log(),
    "activation_derivative": lambda step, gradients: _derivative(step).mean(-1),
    "activation_derivative_rms": lambda step, gradients: _derivative(step).square().mean(-1).sqrt(),
    "weight_gradient_share": _share,
}

_ONLY_LSTM = {"log_cell_gradient", "log_joint_gradient", "log_cell_path"}
_ONLY_RNN = {"activation_derivative", "activation_derivative_rms"}


def quantities_of(cell: type[TorchCell]) -> list[str]:
    """Names of the quantities that a cell has."""
    names = [*LOG_GRADIENTS, *OTHERS]
    absent = (set() if issubclass(cell, LSTMCell) else _ONLY_LSTM) | (
        set() if issubclass(cell, LinearCell) else _ONLY_RNN
    )
    return [name for name in names if name not in absent]


def measure(step: Step, gradients: StateGradients, names: list[str], log_factor: float) -> np.ndarray:
    """The named quantities, [Q, T, B] float64.

    Args:
        step: a replayed layer and direction.
        gradients: its total gradients.
        names: quantities that this cell has.
        log_factor: added to the natural logs of gradients: ln of the number of targets of a mean-reduced loss.
    """
    values = [
        LOG_GRADIENTS[name](step, gradients) + log_factor if name in LOG_GRADIENTS else OTHERS[name](step, gradients)
        for name in names
    ]
    return torch.stack(values).cpu().numpy()


def by_time(values: np.ndarray, lengths: np.ndarray | None, names: list[str]) -> dict[str, np.ndarray]:
    """Columns of the table `time` from values [Q, T, B] of examples of these lengths [B] (None: all T)."""
    valid = None if lengths is None else np.arange(values.shape[1])[:, None] < lengths
    return {"time": np.arange(values.shape[1])} | _summary(values, valid, names)


def by_lag(
    values: np.ndarray, lengths: np.ndarray | None, reverse: bool, names: list[str], in_time: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Columns of the table `lag`: every example aligned by the last state of its direction.

    Examples that fill all positions, or run in reverse, are aligned already: `in_time` holds the answer.
    """
    lag = np.arange(values.shape[1])
    if reverse or lengths is None:
        order = slice(None) if reverse else slice(None, None, -1)
        columns = {name: column[order] for name, column in in_time.items()}
    else:
        valid = lag[:, None] < lengths
        place = np.where(valid, lengths - 1 - lag[:, None], 0)
        columns = _summary(np.take_along_axis(values, np.broadcast_to(place, values.shape), 1), valid, names)
    columns.pop("time", None)
    return {"lag": lag} | columns


def _summary(values: np.ndarray, valid: np.ndarray | None, names: list[str]) -> dict[str, np.ndarray]:
    count = np.full(values.shape[1], values.shape[2]) if valid is None else valid.sum(1)
    columns = {"valid": count}
    for statistic, numbers in summarise(values, valid).items():
        columns |= {f"{name}_{statistic}": row for name, row in zip(names, numbers, strict=True)}
    return columns


_KEEPS = {"f", "z"}  # gates that multiply the old state: they have a time scale, -1 / ln gate
_SIGMOID = ("i", "f", "o", "r", "z")


def gate_columns(step: Step) -> dict[str, np.ndarray]:
    """Columns of the table `gates`: each sigmoid gate at each position, over units and examples.

    The time scale -1/ln of a gate that keeps (f, z) is monotonic, so its quantiles are those of the gate.
    """
    names = [name for name in _SIGMOID if name in step.gates]
    if not names:
        return {}
    values = torch.stack([step.gates[name] for name in names], 1).flatten(2).cpu().numpy()
    size = step.states["h"].shape[2]
    valid = None if step.valid is None else np.repeat(step.valid.cpu().numpy()[:, None], size, -1)
    summary = summarise(values, valid)
    present = np.broadcast_to(True if valid is None else valid, values.shape)
    count = np.maximum((present & np.isfinite(values)).sum(-1), 1)
    keeps = np.isin(names, list(_KEEPS))
    columns = {name: summary[name] for name in ("mean", "q10", "q90")}
    columns["saturated_low"] = ((values < 0.05) & present).sum(-1) / count
    columns["saturated_high"] = ((values > 0.95) & present).sum(-1) / count
    with np.errstate(divide="ignore", invalid="ignore"):
        for quantile in ("q50", "q90"):
            columns[f"time_scale_{quantile}"] = np.where(keeps, -1 / np.log(summary[quantile]), np.nan)
    rows = {name: column.reshape(-1) for name, column in columns.items()}
    time = len(values)
    return {"time": np.repeat(np.arange(time), len(names)), "gate": np.tile(names, time), **rows}
