"""What is recorded of one layer and direction: from the blocks of the backward recursion to the columns of the log.

Every quantity is one number per position and example, [T, B] float64; the log keeps their summary over the examples.
The costly ones are taken of a few examples only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gradflow.cells.lstm import LSTMCell
from gradflow.cells.recurrent import Recurrent
from gradflow.cells.rnn import LinearCell
from gradflow.flow.calls import cell_class
from gradflow.flow.horizons import product_norms
from gradflow.flow.metrics import summarise, summarise_sorted
from gradflow.flow.recursion import Block, ends_within
from gradflow.flow.replay import Unrolled
from gradflow.jacobian.operator import Jacobian
from gradflow.runlog.schema import COUNTS, STATISTICS


def _derivative(block: Block) -> Tensor:
    """φ'_t, [t, B, H]: the only row coefficients of the Jacobian of a cell without gates."""
    return block.unrolled.jacobian.rows["h"].squeeze(-2)


BY_BLOCK: dict[str, Callable[[Block], Tensor]] = {
    "log_state_gradient": lambda block: block.log_output_norm,
    "log_cell_gradient": lambda block: block.log_norms["c"],
    "log_joint_gradient": lambda block: block.log_joint_norm,
    "log_direct_gradient": lambda block: block.log_direct_norm,
    "log_weight_gradient": lambda block: block.log_weight_share,
    "log_jacobian_frobenius": lambda block: block.unrolled.jacobian.frobenius_norm().log(),
    "activation_derivative": lambda block: block.masked(_derivative(block).mean(-1).double()),
    "activation_derivative_rms": lambda block: block.masked(_derivative(block).square().mean(-1).sqrt().double()),
}
"""Quantities that need only their own steps."""

OF_FEW: dict[str, tuple[int, Callable[[Jacobian], Tensor]]] = {
    "log_jacobian_spectral": (4, lambda jacobian: jacobian.spectral_norm().log()),
    "log_product_spectral": (2, product_norms),
}
"""Quantities of the Jacobian that are costly, and of how many examples at most they are taken."""

WHOLE = ("log_cell_path", "log_relative_gradient", "weight_gradient_share")
"""Quantities that compare the steps of an example."""

OPT_IN = ("log_product_spectral",)
"""Quantities that are recorded only where they are asked for."""

ALL = (*BY_BLOCK, *WHOLE, *OF_FEW)
"""The names of all quantities."""

_SCALED = {name for name in ALL if name.endswith("_gradient") and name != "log_relative_gradient"} | {"log_cell_path"}
_ONLY_RNN = {"activation_derivative", "activation_derivative_rms"}
_OF_WEIGHTS = {"log_weight_gradient", "weight_gradient_share"}


def quantities_of(layer: nn.Module) -> list[str]:
    """Names of the quantities that a layer has; those that need torch's weights are not for cells of the user's own."""
    cell, own, absent = cell_class(layer), isinstance(layer, Recurrent), set[str]()
    if len(cell.state_names) == 1:
        absent |= {"log_joint_gradient"}
    if own or not issubclass(cell, LSTMCell):
        absent |= {"log_cell_gradient", "log_cell_path"}
    if own or not issubclass(cell, LinearCell):
        absent |= _ONLY_RNN
    if own:
        absent |= _OF_WEIGHTS
    return [name for name in ALL if name not in absent]


@dataclass(frozen=True)
class Measured:
    """Quantities of the same examples.

    Attributes:
        names: [Q].
        values: [Q, T, B] float64.
        lengths: [B] of these examples; None if all fill all positions.
    """

    names: list[str]
    values: np.ndarray
    lengths: np.ndarray | None


def measure(unrolled: Unrolled, blocks: Iterable[Block], names: list[str], log_factor: float) -> list[Measured]:
    """The named quantities: first those of all examples, then each of those of a few.

    Args:
        unrolled: a replayed layer and direction.
        blocks: its backward recursion, run through here.
        names: quantities that this cell has.
        log_factor: added to the natural logs of gradients: ln of the number of targets of a mean-reduced loss.
    """
    of_few = {name: OF_FEW[name] for name in names if name in OF_FEW}
    if "log_jacobian_frobenius" in names and unrolled.jacobian.norm_is_dense:
        of_few["log_jacobian_frobenius"] = _DENSE_NORM
    of_all = [name for name in names if name not in of_few]
    parts: dict[str, list[Tensor]] = {name: [] for name in (*BY_BLOCK, *WHOLE)}
    path: Tensor | None = None
    for block in blocks:
        for name in of_all:
            if name in BY_BLOCK:
                parts[name].append(BY_BLOCK[name](block))
        if "log_cell_path" in names:
            values, path = _cell_path(block, path)
            parts["log_cell_path"].append(values)
        if "log_relative_gradient" in names:
            parts["log_relative_gradient"].append(block.log_joint_norm)
        if "weight_gradient_share" in names:
            parts["weight_gradient_share"].append(block.log_weight_share)
    joined = {name: torch.cat(p if unrolled.reverse else p[::-1]) for name, p in parts.items() if p}
    if "log_relative_gradient" in names:
        joined["log_relative_gradient"] = _relative(unrolled, joined["log_relative_gradient"])
    if "weight_gradient_share" in names:
        joined["weight_gradient_share"] = _share(unrolled, joined["weight_gradient_share"])
    scaled = [joined[name] + log_factor if name in _SCALED else joined[name] for name in of_all]
    groups = [_measured(of_all, torch.stack(scaled), unrolled)] if scaled else []
    return groups + [_of_few(name, *how, unrolled) for name, how in of_few.items()]


_DENSE_NORM: tuple[int, Callable[[Jacobian], Tensor]] = (4, lambda jacobian: jacobian.frobenius_norm().log())


def _of_few(name: str, count: int, take: Callable[[Jacobian], Tensor], unrolled: Unrolled) -> Measured:
    """A quantity of the examples at positions ⌊iB/n⌋."""
    batch = unrolled.like.shape[1]
    some = unrolled if count >= batch else unrolled.of([i * batch // count for i in range(count)])
    return _measured([name], take(some.jacobian).unsqueeze(0), some)


def _measured(names: list[str], values: Tensor, unrolled: Unrolled) -> Measured:
    return Measured(names, values.cpu().numpy(), None if unrolled.lengths is None else unrolled.lengths.numpy())


def _relative(unrolled: Unrolled, norms: Tensor) -> Tensor:
    """Of the whole state, so (h, c) for an LSTM, against its own value at the last valid step."""
    return norms - norms[unrolled.ends, torch.arange(norms.shape[1])]


def _share(unrolled: Unrolled, log_shares: Tensor) -> Tensor:
    """Cumulative over lag: Σ_{lag ≤ k} of the norms of the per-step shares of dL/dW_hh over their whole sum."""
    largest = log_shares.nan_to_num(nan=-torch.inf).amax(0)
    parts = (log_shares - torch.where(largest.isfinite(), largest, 0)).exp()
    present = parts if unrolled.valid is None else parts.masked_fill(~unrolled.valid, 0)
    run = present.cumsum(0) if unrolled.reverse else present.flip(0).cumsum(0).flip(0)
    return run / present.sum(0)


def _cell_path(block: Block, path: Tensor | None) -> tuple[Tensor, Tensor]:
    """ln‖(Π_{s>t} f_s) ∘ dL/dc_T‖, [t, B]: what reaches c_t through the cells alone.

    Args:
        block: the next block of the backward recursion.
        path: ln(·)² of it, [B, H], as the block before handed it on.

    Returns:
        The norms, and the `path` to hand on.
    """
    unrolled = block.unrolled
    twice_log_f = unrolled.gates["f"].log().mul_(2)
    if unrolled.valid is not None:
        twice_log_f = twice_log_f.masked_fill(~unrolled.valid.unsqueeze(-1), 0)
    start = torch.full_like(twice_log_f[0], -torch.inf, dtype=torch.float64) if path is None else path
    ends, examples = ends_within(unrolled, block.positions)
    if len(ends):
        total = block.cell_total((ends, examples)).double().abs().log() + block.log_scale[ends, examples].unsqueeze(-1)
        start = start.index_put((examples,), 2 * total)
    factors, run = list(twice_log_f if unrolled.reverse else twice_log_f.flip(0)), [torch.zeros_like(twice_log_f[0])]
    for factor in factors:
        run.append(run[-1] + factor)
    norms = torch.logsumexp(torch.stack(run[:-1]).add_(start), -1).double() / 2
    return block.masked(norms if unrolled.reverse else norms.flip(0)), start + run[-1]


def by_time(groups: Iterable[Measured]) -> dict[str, np.ndarray]:
    """Columns of the table `time`."""
    columns: dict[str, np.ndarray] = {}
    for group in groups:
        steps, lengths = group.values.shape[1], group.lengths
        valid = None if lengths is None else np.arange(steps)[:, None] < lengths
        columns = {"time": np.arange(steps, dtype=np.int32)} | _summary(group, group.values, valid) | columns
    return columns


def by_lag(groups: Iterable[Measured], reverse: bool, in_time: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of the table `lag`: every example aligned by the last state of its direction.

    Examples that fill all positions, or run in reverse, are aligned already: `in_time` holds the answer.
    """
    columns: dict[str, np.ndarray] = {}
    for group in groups:
        lag, lengths = np.arange(group.values.shape[1]), group.lengths
        if reverse or lengths is None:
            names = ["valid", *_columns_of(group.names)]
            found = {name: in_time[name] if reverse else in_time[name][::-1] for name in names}
        else:
            valid = lag[:, None] < lengths
            place = np.where(valid, lengths - 1 - lag[:, None], 0)
            aligned = np.take_along_axis(group.values, np.broadcast_to(place, group.values.shape), 1)
            found = _summary(group, aligned, valid)
        columns = {"lag": lag.astype(np.int32)} | found | columns
    return columns


def _columns_of(names: list[str]) -> list[str]:
    return [f"{name}_{statistic}" for statistic in (*STATISTICS, *COUNTS) for name in names]


def _summary(group: Measured, values: np.ndarray, valid: np.ndarray | None) -> dict[str, np.ndarray]:
    count = np.full(values.shape[1], values.shape[2], np.int32) if valid is None else valid.sum(1, dtype=np.int32)
    summary = summarise(values, valid)
    rows = [row for name in STATISTICS for row in summary[name].astype(np.float32)]  # as the log keeps them
    rows += [row for name in COUNTS for row in summary[name].astype(np.int32)]
    return {"valid": count} | dict(zip(_columns_of(group.names), rows, strict=True))


_KEEPS = {"f", "z"}  # gates that multiply the old state: they have a time scale, -1 / ln gate
_SIGMOID = ("i", "f", "o", "r", "z")


def gate_columns(unrolled: Unrolled) -> dict[str, np.ndarray]:
    """Columns of the table `gates`: each sigmoid gate at each position, over units and examples.

    The time scale -1/ln of a gate that keeps (f, z) is monotonic, so its quantiles are those of the gate.
    """
    names = [name for name in _SIGMOID if name in unrolled.gates]
    if not names:
        return {}
    values = torch.stack([unrolled.gates[name] for name in names], 1).flatten(2).cpu()
    count: int | np.ndarray = values.shape[-1]
    if unrolled.valid is not None:
        valid = unrolled.valid.repeat_interleave(unrolled.cell.hidden_size, 1).cpu()
        values.masked_fill_(~valid.unsqueeze(1), torch.inf)
        count = valid.sum(1, keepdim=True).numpy()
    ordered = values.numpy()
    ordered.sort(-1)  # NaN last
    if np.isnan(ordered[..., -1]).any():
        values.nan_to_num_(nan=torch.inf, posinf=torch.inf)
    summary = summarise_sorted(ordered, count)
    columns = {name: summary[name] for name in ("mean", "q10", "q90")}
    limits = values.new_tensor([0.05, 0.95]).expand(*values.shape[:-1], 2).contiguous()
    below, above = torch.searchsorted(values, limits).numpy()[..., 0], torch.searchsorted(values, limits, right=True)
    keeps = np.isin(names, list(_KEEPS))
    with np.errstate(divide="ignore", invalid="ignore"):  # no example may be as long
        columns["saturated_low"] = below / count
        columns["saturated_high"] = (count - summary["non_finite"] - above.numpy()[..., 1]) / count
        for quantile in ("q50", "q90"):
            columns[f"time_scale_{quantile}"] = np.where(keeps, -1 / np.log(summary[quantile]), np.nan)
    rows = {name: column.reshape(-1) for name, column in columns.items()}
    time = len(values)
    return {"time": np.repeat(np.arange(time), len(names)), "gate": np.tile(names, time), **rows}
