"""From the blocks of the backward recursion to the columns of the tables `time` and `lag`.

Every quantity is one number per position and example, [T, B] float64; the log keeps their summary over the examples.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradflow.flow.metrics import summarise
from gradflow.flow.recursion import Block
from gradflow.flow.replay import Unrolled
from gradflow.recording.quantities import QUANTITIES, Quantity
from gradflow.runlog.schema import COUNTS, STATISTICS


@dataclass(frozen=True)
class Measured:
    """Quantities of the same examples.

    Attributes:
        names: [Q].
        values: [Q, T, B] float64.
        lengths: [B] of these examples; None if all fill all positions.
    """

    names: tuple[str, ...]
    values: np.ndarray
    lengths: np.ndarray | None


def measure(unrolled: Unrolled, blocks: Iterable[Block], names: Sequence[str], log_factor: float) -> list[Measured]:
    """The named quantities: first those of all examples, then each of those of a few.

    Args:
        unrolled: a replayed layer and direction.
        blocks: its backward recursion, run through here.
        names: quantities that this cell has.
        log_factor: added to the natural logs of what scales with the loss: ln of the number of targets of a
            mean-reduced loss.
    """
    chosen = [QUANTITIES[name] for name in names]
    blocks = iter(blocks)
    first = next(blocks)
    norm_is_dense = first.unrolled.jacobian.norm_is_dense
    of_few = [quantity for quantity in chosen if quantity.is_costly(norm_is_dense)]
    of_all = [quantity for quantity in chosen if quantity not in of_few]
    parts: list[list[Tensor]] = []
    carried: dict[str, Any] = {quantity.name: None for quantity in of_all}
    for block in chain((first,), blocks):
        parts.append([])
        for quantity in of_all:
            assert quantity.of_block is not None
            values, carried[quantity.name] = quantity.of_block(block, carried[quantity.name])
            parts[-1].append(values)
    groups = [_of_all(of_all, parts, unrolled, log_factor)] if of_all else []
    return groups + [_of_few(quantity, unrolled, log_factor) for quantity in of_few]


def _of_all(quantities: list[Quantity], parts: list[list[Tensor]], unrolled: Unrolled, log_factor: float) -> Measured:
    """From the values in each block, [t, B], in the order of the recursion; one tensor of all takes fewer calls."""
    in_time = parts if unrolled.reverse else parts[::-1]
    values = torch.cat([torch.stack(of_block) for of_block in in_time], 1)
    for quantity, own in zip(quantities, values, strict=True):
        if quantity.of_whole is not None:
            own.copy_(quantity.of_whole(unrolled, own))
        if quantity.scales:
            own.add_(log_factor)
    return _measured(tuple(quantity.name for quantity in quantities), values, unrolled)


def _of_few(quantity: Quantity, unrolled: Unrolled, log_factor: float) -> Measured:
    """A quantity of the examples at positions ⌊iB/n⌋."""
    assert quantity.of_few is not None
    count, take = quantity.of_few
    batch = unrolled.like.shape[1]
    some = unrolled if count >= batch else unrolled.of([i * batch // count for i in range(count)])
    try:
        values = take(some.jacobian)
    except torch.linalg.LinAlgError:  # it does not converge: counted as not finite
        values = torch.full(some.like.shape[:2], torch.nan, dtype=torch.float64, device="cpu")
    if quantity.needs_carried and not some.carried:  # more was done between the steps than the Jacobians know
        values = torch.full_like(values, torch.nan)
    return _measured((quantity.name,), (values + log_factor if quantity.scales else values).unsqueeze(0), some)


def _measured(names: tuple[str, ...], values: Tensor, unrolled: Unrolled) -> Measured:
    return Measured(names, values.cpu().numpy(), None if unrolled.lengths is None else unrolled.lengths.numpy())


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


@lru_cache
def _columns_of(names: tuple[str, ...]) -> list[str]:
    return [f"{name}_{statistic}" for statistic in (*STATISTICS, *COUNTS) for name in names]


def _summary(group: Measured, values: np.ndarray, valid: np.ndarray | None) -> dict[str, np.ndarray]:
    count = np.full(values.shape[1], values.shape[2], np.int32) if valid is None else valid.sum(1, dtype=np.int32)
    summary = summarise(values, valid)
    rows = [row for name in STATISTICS for row in summary[name].astype(np.float32)]  # as the log keeps them
    rows += [row for name in COUNTS for row in summary[name].astype(np.int32)]
    return {"valid": count} | dict(zip(_columns_of(group.names), rows, strict=True))
