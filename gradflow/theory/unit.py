"""The single logistic unit x_t = w σ(x_{t-1}) + b of Pascanu, Mikolov & Bengio (2013, section 2.2; Doya 1993).

From x_0 = ½ it tells gradients that vanish from gradients that explode by a hair's breadth: at b = ½ - w σ(½) the start
is a fixed point, unstable for w > 1 / σ'(½) = 4.2553, and on either side of it the unit ends in another attractor.
"""

from typing import TypeVar

import torch
from torch import Tensor

from gradflow.cells.cell import Cell, State
from gradflow.cells.forms import Diagonal
from gradflow.cells.recurrent import Recurrent
from gradflow.flow.replay import Trace, trace

START = 0.5
SIGMA = float(torch.tensor(START, dtype=torch.float64).sigmoid())
"""σ(x_0) = 0.62246."""


class LogisticUnit(Cell):
    """x_t = w σ(x_{t-1}) + b with (w, b) as its input, so that examples may differ in them. Its state is called h."""

    hidden_size = 1

    def step(self, x_t: Tensor, state: State) -> State:
        """One step; x_t [B, 2] holds w and b."""
        w, b = x_t.chunk(2, -1)
        return {"h": w * torch.sigmoid(state["h"]) + b}

    def gates(self, x_t: Tensor, state: State) -> State:
        """The slope w σ'(x_{t-1}), which is the Jacobian."""
        sigma = torch.sigmoid(state["h"])
        return {"slope": x_t[..., :1] * sigma * (1 - sigma)}

    def coefficients(self, gates: State, state: State, previous: State) -> Diagonal:
        """A unit alone has a number for a Jacobian."""
        return Diagonal({("h", "h"): gates["slope"]})


def run_unit(parameters: Tensor, steps: int, start: Tensor | float = START) -> Trace:
    """The unit from x_0 for some steps, replayed.

    Args:
        parameters: [B, 2], w and b of every example; may require gradients.
        steps: T.
        start: x_0, [B] or one for all.
    """
    x_0 = torch.as_tensor(start, dtype=parameters.dtype).expand(len(parameters)).reshape(1, -1, 1)
    return trace(Recurrent(LogisticUnit()), parameters.expand(steps, -1, -1), x_0)


def with_bias(w: Tensor | float, b: Tensor) -> Tensor:
    """Parameters [B, 2] of w [B], or one w for all, and b [B]."""
    return torch.stack((torch.as_tensor(w, dtype=b.dtype).expand_as(b), b), -1)


def end_of(seen: Trace) -> Tensor:
    """x_T of every example, [B], in the graph."""
    output = seen.output
    assert isinstance(output, Tensor)
    return output[-1, :, 0]


Number = TypeVar("Number", float, Tensor)


def cliff_bias(w: Number) -> Number:
    """The b at which x_0 = ½ is a fixed point: ½ - w σ(½), on which the cliff of the error surface lies."""
    return START - w * SIGMA
