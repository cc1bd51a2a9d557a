"""What helps against what: one line of settings and one of Python, by the cell and how it started."""

import math

from gradflow.analysis.by_lag import VANISHED
from gradflow.analysis.gates import time_scale
from gradflow.cells.facts import CELLS, REMEMBER_BIAS
from gradflow.diagnosis.case import Case, Place
from gradflow.diagnosis.condition import Remedy

LSTM = Remedy(
    "cell=lstm init=remember",
    'layer = gf.initialise_(torch.nn.LSTM(input_size, hidden_size), "remember")',
)
ORTHOGONAL_REACH = 60  # steps: an orthogonal tanh RNN multiplies the gradient by about 0.9 per step


def holds(bias: float) -> float:
    """Steps after which a gate of this bias alone has let less than VANISHED through: τ ln(1/VANISHED).

    Example:
        >>> round(holds(3.0))
        142
    """
    return time_scale(bias) * -math.log(VANISHED)


def for_memory(case: Case, place: Place, lag: float, *, lost: bool = False) -> Remedy:
    """For a gradient that does not reach back this far; `lost`: it did, before training."""
    if lost:
        return slower(case)
    facts = CELLS.get(place.cell)
    if facts is None:
        return LSTM
    if facts.keeping_gate:
        return gates_that_hold(case, lag)
    if place.cell == "rnn_relu" and case.start != "identity":
        return Remedy("init=identity", 'gf.initialise_(layer, "identity")')
    if place.cell in ("rnn", "linear") and lag <= ORTHOGONAL_REACH and case.start not in ("orthogonal", "remember"):
        return Remedy("init=orthogonal", 'gf.initialise_(layer, "orthogonal")')
    return LSTM


def gates_that_hold(case: Case, lag: float) -> Remedy:
    """A bias of the keeping gate that suffices for the lag."""
    if lag <= holds(REMEMBER_BIAS) and case.start != "remember":
        return Remedy("init=remember", 'gf.initialise_(layer, "remember")')
    steps = max(2, int(lag) + 1)
    return Remedy(f"init=chrono init.time_scale={steps}", f'gf.initialise_(layer, "chrono", time_scale={steps})')


def for_growth(case: Case, place: Place) -> Remedy:
    """For a gradient that grows with every step back."""
    facts = CELLS.get(place.cell)
    if facts is not None and facts.keeping_gate:
        return Remedy("init=remember", 'gf.initialise_(layer, "remember")')
    return Remedy("init=orthogonal", 'gf.initialise_(layer, "orthogonal")')


def slower(case: Case) -> Remedy:
    """A tenth of the learning rate."""
    rate = case.setting("train.lr", float, None)
    config = "" if rate is None else f"train.lr={rate / 10:g}"
    return Remedy(config, 'for group in optimizer.param_groups: group["lr"] /= 10')
