"""Repeated composition: what f∘f∘…∘f of one tanh layer looks like along a line through its inputs.

f(h) = tanh(W h), W_ij ~ N(0, g²/N). However tame f is, f^k is flat in most places, steep in some, and turns often: its
slopes are products of Jacobians (Goodfellow, Bengio & Courville 2016, figure 10.15). Far from the start each
composition multiplies the root mean square of the slope by g √E[φ'²] (Poole et al. 2016, section 3).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from gradflow.theory.mean_field import log_growth
from gradflow.theory.networks import gaussian, generator, traced

SIZE, GAIN, COMPOSITIONS, NETWORKS = 100, 4.0, 5, 10
REACH, POINTS = 2.0, 801
SETTLED = 2  # compositions after which a slope grows as mean-field theory says
_STEP = 1e-6  # of the central differences


class _Line(NamedTuple):
    """h_0 = p + s u; p and u of norm √N, orthogonal to each other; seen along v of norm 1, orthogonal to p."""

    start: Tensor
    direction: Tensor
    view: Tensor

    def at(self, s: Tensor) -> Tensor:
        """h_0 at every s, [P, N]."""
        return self.start + s.unsqueeze(-1) * self.direction


def repeated_composition(seed: int = 0) -> pd.DataFrame:
    """f^k of random tanh layers of 100 units along a line, and how steep it gets.

    Args:
        seed: of all that is random.

    Returns:
        Rows with the columns quantity, network (from 0), k (compositions, from 0), s (place on the line, from -2 to 2),
        measured, expected, deviation (standard, over the networks):

        `curve`: vᵀ f^k(p + s u), of the first network.
        `slope`: its derivative in s, vᵀ J_k … J_1 u; expected is a central difference.
        `turning_points`: how often that derivative changes its sign along the line.
        `log_slope`: ln of the root mean square, over s, of ‖J_k … J_1 u‖ / √N.
        `growth`: of `log_slope` per composition, from the second to the last, mean over ten networks; expected is the
        ln(g √E[φ'²]) of mean-field theory.
    """
    rows = [row for network in range(NETWORKS) for row in _network(seed, network)]
    ends = pd.DataFrame([row for row in rows if row["quantity"] == "log_slope"]).pivot(
        index="network", columns="k", values="measured"
    )
    growth = (ends[COMPOSITIONS] - ends[SETTLED]) / (COMPOSITIONS - SETTLED)
    rows.append({"quantity": "growth", "measured": growth.mean(), "deviation": growth.std()})
    rows[-1]["expected"] = log_growth(GAIN)
    return pd.DataFrame(rows, columns=["quantity", "network", "k", "s", "measured", "expected", "deviation"])


@torch.no_grad()
def _network(seed: int, network: int) -> Iterator[dict[str, Any]]:
    source = generator(seed, network)
    weight, line = GAIN * gaussian(SIZE, source), _line(source)
    s = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)
    states, tangents = _composed(weight, line, s)
    slopes = tangents @ line.view
    if network == 0:
        ahead, behind = (_composed(weight, line, s + step)[0] @ line.view for step in (_STEP, -_STEP))
        yield from _along("curve", s, states @ line.view)
        yield from _along("slope", s, slopes, (ahead - behind) / (2 * _STEP))
    turns = (slopes.sign().diff(dim=1) != 0).sum(1)
    steep = tangents.square().mean((1, 2)).log() / 2
    for k in range(COMPOSITIONS + 1):
        for quantity, values in (("turning_points", turns), ("log_slope", steep)):
            yield {"quantity": quantity, "network": network, "k": k, "measured": float(values[k])}


def _line(source: torch.Generator) -> _Line:
    columns = torch.linalg.qr(torch.randn(SIZE, 2, generator=source, dtype=torch.float64)).Q
    start, direction = columns.T
    view = torch.randn(SIZE, generator=source, dtype=torch.float64)
    view -= (view @ start) * start
    return _Line(start * SIZE**0.5, direction * SIZE**0.5, view / view.norm())


def _composed(weight: Tensor, line: _Line, s: Tensor) -> tuple[Tensor, Tensor]:
    """h_k = f^k(h_0) and dh_k/ds for k from 0, each [k, P, N]."""
    h_0, tangents = line.at(s), [line.direction.expand(len(s), -1)]
    step = traced("rnn", weight, torch.zeros(COMPOSITIONS, *h_0.shape, dtype=h_0.dtype), h_0)[0, 0]
    for k in range(COMPOSITIONS):
        tangents.append(step.jacobian[k].matvec(tangents[-1]))
    return torch.cat((h_0.unsqueeze(0), step.states["h"])), torch.stack(tangents)


def _along(quantity: str, s: Tensor, measured: Tensor, expected: Tensor | None = None) -> Iterator[dict[str, Any]]:
    """A row per k and place; values [k, P]."""
    for k, values in enumerate(measured.tolist()):
        known = [float("nan")] * len(values) if expected is None else expected[k].tolist()
        for place, value, other in zip(s.tolist(), values, known, strict=True):
            row = {"quantity": quantity, "network": 0, "k": k, "s": place}
            yield row | {"measured": value, "expected": other}
