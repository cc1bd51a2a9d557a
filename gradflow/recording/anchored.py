"""Columns of the table `lag` of the loss at single positions: steps back from each, whatever the end of its example."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gradflow.flow.anchors import Anchors, anchored_gradients, anchors_of
from gradflow.flow.metrics import summarise
from gradflow.flow.replay import Trace
from gradflow.flow.saved import Place
from gradflow.recording.quantities import QUANTITIES


def anchored_columns(
    trace: Trace, arrived: Mapping[str, Any], names: Sequence[str]
) -> dict[Place, dict[str, np.ndarray]]:
    """Layer and direction -> the columns of the named quantities, [T]; none if no example is read at many positions.

    Args:
        trace: a forward pass.
        arrived: as for :func:`gradflow.flow.adjoint.descend`.
        names: of quantities that are of anchors.
    """
    anchors = anchors_of(trace, arrived) if names else None
    if anchors is None:
        return {}
    columns: dict[Place, dict[str, np.ndarray]] = {}
    for place, norms, counts in anchored_gradients(trace, arrived, anchors):
        columns[place] = columns_of(norms, counts, names, anchors, reverse=place[1] == 1)
    return columns


def columns_of(
    norms: Tensor, counts: Tensor, names: Sequence[str], anchors: Anchors, *, reverse: bool
) -> dict[str, np.ndarray]:
    """The columns of one layer and direction, [T], from ln‖∂L_s/∂h_t‖ and where it counts, [T, N]."""
    own: dict[str, np.ndarray] = {"lag": np.arange(len(norms), dtype=np.int32)}
    for name in names:
        of_anchors = QUANTITIES[name].of_anchors
        assert of_anchors is not None
        own |= _by_lag(name, of_anchors(norms, counts, reverse), counts, anchors.positions, reverse)
    return own


def _by_lag(name: str, values: Tensor, counts: Tensor, anchors: Tensor, reverse: bool) -> dict[str, np.ndarray]:
    """The summary of [T, N] over the pairs that count, aligned by the steps back from each anchor."""
    lags = np.arange(len(values))[:, None]
    place = anchors.numpy() + (lags if reverse else -lags)
    inside = (place >= 0) & (place < len(values))
    place = np.where(inside, place, 0)
    valid = inside & np.take_along_axis(counts.numpy(), place, 0)
    found = summarise(np.take_along_axis(values.numpy(), place, 0), valid) | {"valid": valid.sum(1)}
    return {
        f"{name}_{key}": part.astype("float32" if part.dtype.kind == "f" else "int32") for key, part in found.items()
    }
