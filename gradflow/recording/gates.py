"""What is recorded of gates: one layer and direction as columns of the table `gates`."""

import numpy as np
import torch

from gradflow.cells.facts import KEEPING_GATES, SIGMOID_GATES
from gradflow.flow.metrics import summarise_sorted
from gradflow.flow.replay import Unrolled


def gate_columns(unrolled: Unrolled) -> dict[str, np.ndarray]:
    """Columns of the table `gates`: each sigmoid gate at each position, over units and examples.

    The time scale 1/|ln| of a gate that keeps (f, z) is monotonic, so its quantiles are those of the gate.
    """
    names = [name for name in SIGMOID_GATES if name in unrolled.gates]
    if not names:
        return {}
    values = torch.stack([unrolled.gates[name] for name in names], 1).flatten(2).cpu()
    count: int | np.ndarray = values.shape[-1]
    if unrolled.valid is not None:
        valid, size = unrolled.valid.cpu(), unrolled.cell.hidden_size
        values.masked_fill_(~valid.repeat_interleave(size, 1).unsqueeze(1), torch.inf)
        count = valid.sum(1, keepdim=True).numpy() * size
    ordered = values.numpy()
    ordered.sort(-1)  # NaN last
    if np.isnan(ordered[..., -1]).any():
        values.nan_to_num_(nan=torch.inf, posinf=torch.inf)
    summary = summarise_sorted(ordered, count)
    columns = {name: summary[name] for name in ("mean", "q10", "q90")}
    low, high = np.array([0.05, 0.95], ordered.dtype)
    limits = values.new_tensor([low, np.nextafter(high, 1)]).expand(*values.shape[:-1], 2).contiguous()
    fewer = torch.searchsorted(values, limits).numpy()  # than the limits: below 0.05, and up to 0.95
    keeps = [name in KEEPING_GATES for name in names]
    with np.errstate(divide="ignore", invalid="ignore"):  # no example may be as long
        columns["saturated_low"] = fewer[..., 0] / count
        columns["saturated_high"] = (count - summary["non_finite"] - fewer[..., 1]) / count
        for quantile in ("q50", "q90"):
            scale = np.abs(1 / np.log(summary[quantile]))  # infinite at 1
            columns[f"time_scale_{quantile}"] = np.where(keeps, scale, np.nan)
    rows = {name: column.reshape(-1) for name, column in columns.items()}
    time = len(values)
    return {"time": np.repeat(np.arange(time), len(names)), "gate": np.array(names * time), **rows}
