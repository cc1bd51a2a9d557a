"""The straight path through a residual network, an LSTM and a plain RNN, and all paths together.

x_{l+1} = x_l + F_l(x_l) (He et al. 2016) and c_t = f ∘ c_{t-1} + i ∘ g add to what was there, so one path of the
gradient leads straight back: a residual network multiplies it by 1, an LSTM by its forget gate. It is not the whole
gradient, which has the paths through F_l, or through the gates, as well. A plain RNN has no such path: diag(tanh') W_hh
is in every one.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gradflow.cells.cell import Cell, State
from gradflow.cells.recurrent import Recurrent
from gradflow.flow.replay import trace
from gradflow.remedies.initialisation import initialise_
from gradflow.theory.networks import generator, gradients_of_last, seeded
from gradflow.theory.unrolled import (
    EXAMPLES,
    NETWORKS,
    SIZE,
    STEPS,
    SYMBOLS,
    read_out,
    rnn_gradients,
    rnn_rate,
    symbols,
)

FORGET_BIASES = (1.0, 3.0)
Norms = dict[str, np.ndarray]


class Residual(Cell):
    """x_{l+1} = x_l + W_l tanh(x_l), with the depth l as its input, so that the layers are the steps. x is called h.

    Attributes:
        weight: [L, H, H].
        straight: hold F_l fixed in the derivative, which leaves the straight path alone.
    """

    def __init__(self, weight: Tensor, *, straight: bool):
        super().__init__()
        self.weight, self.straight, self.hidden_size = weight, straight, weight.shape[-1]

    def step(self, x_t: Tensor, state: State) -> State:
        """One layer; x_t [B] holds its number."""
        branch = torch.einsum("...ij,...j->...i", self.weight[x_t], torch.tanh(state["h"]))
        return {"h": state["h"] + (branch.detach() if self.straight else branch)}


def additive_paths(seed: int = 0) -> pd.DataFrame:
    """What is left of a gradient after every step back: on the straight path alone, and on all paths together.

    Twenty steps, or layers, of 64 units as torch starts them; the LSTM with a forget gate's bias of 1 and of 3. The
    loss reads the last state, and the gradient of c is that of the state (h, c), relative to autograd's at c_T.

    Args:
        seed: of all that is random.

    Returns:
        Rows with the columns system (`residual`, `lstm`, `rnn`), forget_bias, path (`straight`, which the RNN has not,
        and `whole`), lag, measured (ln of the relative norm, median over eight networks and their 16 examples each),
        expected: lag times ln 1 and ln σ(forget_bias) for the straight path, and times the RNN's rate in mean-field
        theory; NaN for the other whole gradients.
    """
    systems: list[tuple[str, float, Callable[[int], Norms]]] = [("residual", np.nan, lambda n: _residual(seed, n))]
    systems += [("lstm", bias, partial(_lstm, bias, seed)) for bias in FORGET_BIASES]
    systems += [("rnn", np.nan, lambda n: {"whole": rnn_gradients(seed, n)})]
    return pd.concat([_table(*system) for system in systems], ignore_index=True)


def _table(system: str, bias: float, measure: Callable[[int], Norms]) -> pd.DataFrame:
    networks, lags = [measure(number) for number in range(NETWORKS)], np.arange(STEPS)
    rates = {"residual": 0.0, "lstm": -np.log1p(np.exp(-bias)), "rnn": rnn_rate()}
    parts = []
    for path in networks[0]:
        middle = np.median(np.stack([network[path] for network in networks]), axis=(0, 2))
        expected = lags * rates[system] if path == "straight" or system == "rnn" else np.nan
        parts.append({"path": path, "lag": lags, "measured": middle, "expected": expected})
    data = pd.concat([pd.DataFrame(part) for part in parts]).assign(system=system, forget_bias=bias)
    return data[["system", "forget_bias", "path", "lag", "measured", "expected"]]


@torch.no_grad()
def _residual(seed: int, number: int) -> Norms:
    """The relative norm of the gradient on each path, ln, [L, B] by lag."""
    source = generator(seed, number)
    weight = (2 * torch.rand(STEPS, SIZE, SIZE, generator=source, dtype=torch.float64) - 1) / SIZE**0.5
    depth = torch.arange(STEPS).unsqueeze(-1).expand(-1, EXAMPLES)
    x_0, direct = torch.randn(1, EXAMPLES, SIZE, generator=source, dtype=torch.float64), read_out(source)
    norms = {}
    for path in ("straight", "whole"):
        seen = trace(Recurrent(Residual(weight, straight=path == "straight")), depth, x_0)
        norms[path] = _relative(gradients_of_last(seen, direct).log_norm["h"])
    return norms


@torch.no_grad()
def _lstm(bias: float, seed: int, number: int) -> Norms:
    """As :func:`_residual`: of c_t, by (∏ f_s) ∘ dL/dc_T, and of the state (h, c) the part at c_t."""
    layer = seeded(lambda: nn.LSTM(SYMBOLS, SIZE, dtype=torch.float64), seed, number)
    initialise_(layer, forget_bias=bias)
    source = generator(seed, number)
    seen = trace(layer, symbols(source))
    gradients, f = gradients_of_last(seen, read_out(source)), seen[0, 0].gates["f"]
    at_end = gradients.log_norm["c_total"][-1:]
    kept = torch.cat((f[1:].flip(0).cumprod(0).flip(0), torch.ones_like(f[:1])))  # f_T ∘ … ∘ f_{t+1}
    straight = (kept * gradients.value["c_total"][-1]).norm(dim=-1).log()
    whole = torch.cat((gradients.log_norm["c"][:-1], at_end))
    return {"straight": _relative(straight), "whole": _relative(whole)}


def _relative(norms: Tensor) -> np.ndarray:
    """Against the last, by lag."""
    return (norms.flip(0) - norms[-1]).numpy()
