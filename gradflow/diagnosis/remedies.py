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
ADAM = 1e-3
ADAPTIVE = {"adadelta", "adagrad", "adam", "adamax", "adamw", "nadam", "radam", "rmsprop", "sparseadam"}
ORTHOGONAL_FACTOR = 0.57  # per step, of an orthogonal tanh RNN once trained, at worst (benchmarks/diagnosis.py)


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
    reach = {"linear": math.inf, "rnn": math.log(VANISHED) / math.log(ORTHOGONAL_FACTOR)}.get(place.cell, 0.0)
    if lag <= reach and case.start not in ("orthogonal", "remember"):
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
    if place.cell == "rnn_relu":  # of an orthogonal W half of the units would pass nothing
        return Remedy("init=identity init.gain=1", 'gf.initialise_(layer, "identity")')
    return Remedy("init=orthogonal", 'gf.initialise_(layer, "orthogonal")')


def adaptive(case: Case) -> bool:
    """Whether the optimiser's steps do not change with the scale of the gradients, so that clipping shortens none.

    Those of Adam are of the order of the learning rate (Kingma & Ba 2015, sec. 2.1).
    """
    names = (case.run.meta or {}).get("optimizers")
    names = [str(name) for name in names.values()] if isinstance(names, dict) else []
    return any(name.lower() in ADAPTIVE for name in [*names, case.setting("train.optimizer", str, "")])


def lower_rate(case: Case) -> dict[str, str]:
    """The learning rate and what to try instead: a tenth, of Adam at most its usual 1e-3 (Kingma & Ba 2015).

    Returns:
        `rate` and `lower` in words, "lr" and "lr/10" where the log does not know them.
    """
    known = case.run.frame("scalars", columns=["lr"])["lr"].dropna()
    rate = case.setting("train.lr", float, float(known.iloc[-1]) if len(known) else math.nan)
    if not (math.isfinite(rate) and rate > 0):
        return {"rate": "lr", "lower": "lr/10"}
    capped = adaptive(case) and rate > ADAM
    return {"rate": f"{rate:g}", "lower": f"{min(rate / 10, ADAM) if capped else rate / 10:g}"}


def slower(case: Case) -> Remedy:
    """A lower learning rate."""
    lower = lower_rate(case)["lower"]
    code = f'for group in optimizer.param_groups: group["lr"] = {lower}'
    return Remedy(f"train.lr={lower}", code.replace("= lr/10", "/= 10"))


def calmer(case: Case, threshold: float = 1.0, growth: Remedy | None = None) -> Remedy:
    """Bounded updates at a lower rate; with a gradient that grows, also from weights that do not stretch it."""
    first, code = (f"{growth.config} ", f"{growth.code}; ") if growth else ("", "")
    clip = clipped_at(case, threshold)
    return Remedy(f"{first}{clip.config} {slower(case).config}", f"{code}{clip.code}")


def clipped_at(case: Case, threshold: float) -> Remedy:
    """Clipping by the global norm."""
    if not math.isfinite(threshold):
        return slower(case)
    return Remedy(
        f"clip=norm clip.threshold={threshold:g}", f"gf.clip_grad_norm_(model.parameters(), max_norm={threshold:g})"
    )


def one_layer(case: Case) -> Remedy:
    """Weights between layers of torch's size, which pass on more than half of the gradient."""
    return Remedy("init=default", "layer.reset_parameters()")
