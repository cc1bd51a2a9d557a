"""Initialisations of a recurrent layer: of its weights, and of the bias of the gate that keeps.

They work on torch.nn.RNN, LSTM and GRU and on gradflow's layers alike, on every layer and direction, gate by gate.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradflow.cells.facts import KEEPING_GATES, REMEMBER_BIAS
from gradflow.cells.layers import suffix
from gradflow.checks import real_number, require, whole_number
from gradflow.flow.calls import check_supported, torch_cell_class

STD, CONNECTIONS = 0.01, 15  # of Pascanu et al. 2013

INITIALISATIONS: dict[str, tuple[str, ...]] = {
    "default": (),
    "gaussian": ("gain",),
    "orthogonal": ("gain",),
    "identity": ("gain",),
    "normal": ("std",),
    "sparse": ("gain", "std", "connections"),
    "chrono": ("time_scale",),
    "remember": ("gain",),
}
"""Name -> the arguments of :func:`initialise_` that it uses; all but `chrono` leave the biases of gates to be set."""


def initialise_(
    layer: nn.Module,
    name: str = "default",
    gain: float = 1.0,
    forget_bias: float | None = None,
    update_bias: float | None = None,
    *,
    std: float | None = None,
    connections: int | None = None,
    time_scale: float | None = None,
) -> nn.Module:
    """Initialise a recurrent layer in place.

    What the names mean, for every layer and direction, and of W_hh for each gate's H×H block:

    - ``default``: torch's U(±1/√H).
    - ``gaussian``: W_hh from N(0, gain²/H).
    - ``orthogonal``: W_hh gain × orthogonal (Saxe et al. 2014).
    - ``identity``: W_hh gain × identity, biases 0: with ReLU units the IRNN (Le et al. 2015). W_ih stays torch's.
    - ``normal``: W_ih and W_hh from N(0, std²), biases 0 (Pascanu et al. 2013: .01 with sigmoid units, .1 with tanh).
    - ``sparse``: `connections` normal numbers in each row of W_hh, scaled to the spectral radius `gain`; W_ih from
      N(0, std²), biases 0 (Pascanu et al. 2013: 15, .95 and .01 with tanh).
    - ``chrono``: b_f = ln U and b_i = -b_f (LSTM), or b_z = ln U (GRU, whose z keeps), U from U(1, time_scale - 1), so
      that the gate keeps U / (1 + U) (Tallec & Ollivier 2018). Weights and other biases stay torch's.
    - ``remember``, the one that suits each cell: gain × orthogonal (RNN), b_f = 3 (LSTM), b_z = 3 (GRU).

    Where torch has two biases, which add up, a gate's bias is all in ``bias_ih``, and 0 in ``bias_hh``.

    Args:
        layer: torch.nn.RNN, LSTM or GRU, gradflow.RNN, LinearRNN, LSTM or GRU, freshly made (what stands "torch's" is
            left).
        name: see above.
        gain: factor of W_hh, or its spectral radius.
        forget_bias: b_f of an LSTM.
        update_bias: b_z of a GRU; z keeps.
        std: standard deviation, 0.01 if not given.
        connections: non-zero weights in a row, at most H; 15 if not given, or H if that is less.
        time_scale: T_max of `chrono`: the longest memory, in steps, that the layer is to have; such as the length of
            its sequences.

    Returns:
        The layer.

    Raises:
        ValueError: for an unknown name, an argument that this name does not use or that is out of range, a bias that
            this cell does not have, or a bias on a layer without biases.

    >>> lstm = initialise_(nn.LSTM(2, 3), "remember")
    >>> (lstm.bias_ih_l0 + lstm.bias_hh_l0)[3:6].tolist()
    [3.0, 3.0, 3.0]
    >>> slow = initialise_(nn.GRU(2, 100), "chrono", time_scale=50)
    >>> keeps = torch.sigmoid((slow.bias_ih_l0 + slow.bias_hh_l0)[100:200])
    >>> bool((keeps >= 1 / 2).all() and (keeps <= 49 / 50).all())
    True
    """
    check_supported(layer)
    known = isinstance(name, str) and name in INITIALISATIONS
    require(known, "name", f"one of {', '.join(INITIALISATIONS)}", name)
    real_number("gain", gain, above=0)
    if std is not None:
        real_number("std", std, above=0)
    for argument, bias in {"forget_bias": forget_bias, "update_bias": update_bias}.items():
        if bias is not None:
            real_number(argument, bias)
    gates = torch_cell_class(layer).gate_names
    _check_used(name, gain=gain, std=std, connections=connections, time_scale=time_scale)
    fill = _recurrent(name, layer, gain, STD if std is None else std, connections)
    biases = _gate_biases(name, layer, gates, {"f": forget_bias, "z": update_bias}, time_scale)
    with torch.no_grad():
        for tail in _tails(layer):
            if fill is not None:
                for block in getattr(layer, "weight_hh" + tail).chunk(len(gates)):
                    fill(block)
            if name in ("normal", "sparse"):
                nn.init.normal_(getattr(layer, "weight_ih" + tail), std=STD if std is None else std)
            if name in ("normal", "sparse", "identity") and layer.bias:
                getattr(layer, "bias_ih" + tail).zero_()
                getattr(layer, "bias_hh" + tail).zero_()
            for gate, value in biases().items():
                getattr(layer, "bias_ih" + tail).chunk(len(gates))[gates.index(gate)][:] = value
                getattr(layer, "bias_hh" + tail).chunk(len(gates))[gates.index(gate)][:] = 0
    return layer


def _check_used(name: str, **given: float | None) -> None:
    for argument, value in given.items():
        users = [other for other, used in INITIALISATIONS.items() if argument in used]
        unset = 1.0 if argument == "gain" else None
        if value != unset and name not in users:
            raise ValueError(f"{argument}: only {', '.join(users)} use it, got {value} with {name}; leave it out")


def _recurrent(
    name: str, layer: Any, gain: float, std: float, connections: int | None
) -> Callable[[Tensor], Any] | None:
    """What fills a block of W_hh in place; None: it stays."""
    size = layer.hidden_size
    if connections is not None and whole_number("connections", connections, 1) > size:
        raise ValueError(f"connections: expected 1 to {size}, the units of this layer, got {connections}")
    if name == "remember" and torch_cell_class(layer).gateless:
        name = "orthogonal"
    filled: dict[str, Callable[[Tensor], Any]] = {
        "gaussian": partial(nn.init.normal_, std=gain * size**-0.5),
        "orthogonal": partial(nn.init.orthogonal_, gain=gain),
        "identity": partial(_identity, gain=gain),
        "normal": partial(nn.init.normal_, std=std),
        "sparse": partial(_sparse, connections=connections or min(CONNECTIONS, size), radius=gain),
    }
    return filled.get(name)


def _identity(block: Tensor, gain: float) -> None:
    block.copy_(gain * torch.eye(len(block), dtype=block.dtype, device=block.device))


def _sparse(block: Tensor, connections: int, radius: float) -> None:
    nn.init.normal_(block)
    elsewhere = torch.rand(block.shape, device=block.device).argsort(-1)[:, connections:]
    block.scatter_(-1, elsewhere, 0)
    largest = torch.linalg.eigvals(block.double().cpu()).abs().max()
    block.mul_(radius / float(largest))


def _gate_biases(
    name: str, layer: Any, gates: tuple[str, ...], given: dict[str, float | None], time_scale: float | None
) -> Callable[[], dict[str, float | Tensor]]:
    """What gives gate -> its bias, for one layer and direction."""
    if name == "remember":
        given = {gate: REMEMBER_BIAS if bias is None and gate in gates else bias for gate, bias in given.items()}
    fixed: dict[str, float | Tensor] = {gate: bias for gate, bias in given.items() if bias is not None}
    for gate, bias in fixed.items():
        argument = {"f": "forget_bias", "z": "update_bias"}[gate]
        if gate not in gates:
            raise ValueError(f"{argument}: expected a cell with a gate {gate}, got gates {gates}; leave it None")
        if not layer.bias:
            raise ValueError(f"{argument}: expected a layer with biases, got bias=False")
        if name == "chrono":
            raise ValueError(f"{argument}: expected None with chrono, which draws this bias, got {bias}; leave it out")
    if name == "chrono":
        return partial(_chrono, _checked_time_scale(layer, gates, time_scale), layer.weight_hh_l0, gates)
    return lambda: fixed


def _chrono(time_scale: float, like: Tensor, gates: tuple[str, ...]) -> dict[str, float | Tensor]:
    log_steps = torch.empty_like(like[0]).uniform_(1, time_scale - 1).log_()
    return {"f": log_steps, "i": -log_steps} if "f" in gates else {"z": log_steps}


def _checked_time_scale(layer: Any, gates: tuple[str, ...], time_scale: float | None) -> float:
    if not set(KEEPING_GATES) & set(gates):
        raise ValueError(
            f"name: chrono needs a gate that keeps, so an LSTM or a GRU, got {type(layer).__name__}; use identity, "
            f"orthogonal or remember"
        )
    if not layer.bias:
        raise ValueError("name: chrono sets biases; expected a layer with biases, got bias=False")
    if not isinstance(time_scale, (int, float)) or not 2 <= time_scale < math.inf:
        raise ValueError(
            f"time_scale: expected the longest memory in steps, at least 2, got {time_scale}; pass the length of the "
            f"sequences"
        )
    return time_scale


def _tails(layer: Any) -> list[str]:
    return [suffix(i, d) for i in range(layer.num_layers) for d in range(2 if layer.bidirectional else 1)]
