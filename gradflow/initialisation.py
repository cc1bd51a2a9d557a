"""Initialisations of the recurrent weights, and of the bias of the gate that keeps.

They work on torch.nn.RNN, LSTM and GRU and on gradflow's layers alike, on every layer and direction, gate by gate.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradflow.calls import check_supported, torch_cell_class
from gradflow.layers import suffix

REMEMBER_BIAS = 3.0  # b_f or b_z of `remember`: the gate starts at σ(3) = 0.95


def _gaussian(block: Tensor, gain: float) -> None:
    nn.init.normal_(block, std=gain * block.shape[0] ** -0.5)


def _orthogonal(block: Tensor, gain: float) -> None:
    nn.init.orthogonal_(block, gain)


def _identity(block: Tensor, gain: float) -> None:
    block.copy_(gain * torch.eye(len(block), dtype=block.dtype, device=block.device))


RECURRENT: dict[str, Callable[[Tensor, float], None]] = {
    "gaussian": _gaussian,
    "orthogonal": _orthogonal,
    "identity": _identity,
}


def initialise_(
    layer: nn.Module,
    name: str = "default",
    gain: float = 1.0,
    forget_bias: float | None = None,
    update_bias: float | None = None,
) -> nn.Module:
    """Initialise a recurrent layer in place.

    Args:
        layer: torch.nn.RNN, LSTM or GRU, gradflow.LinearRNN or GRU, freshly made (`default` leaves its W_hh).
        name: of W_hh, each gate's H×H block: ``default`` (torch's U(±1/√H)), ``gaussian`` (N(0, gain²/H)),
            ``orthogonal`` (gain × orthogonal; Saxe et al. 2014), ``identity`` (gain × identity; Le et al. 2015), or
            ``remember``, the one that suits each cell: orthogonal (RNN), b_f = 3 (LSTM), b_z = 3 (GRU).
        gain: factor of the above.
        forget_bias: b_f of an LSTM: all of it in ``bias_ih``, 0 in ``bias_hh`` (torch has two biases, which add up).
        update_bias: b_z of a GRU, likewise; z keeps.

    Returns:
        The layer.

    Raises:
        ValueError: for an unknown name, a bias that this cell does not have, or a bias on a layer without biases.

    >>> lstm = initialise_(nn.LSTM(2, 3), "remember")
    >>> (lstm.bias_ih_l0 + lstm.bias_hh_l0)[3:6].tolist()
    [3.0, 3.0, 3.0]
    """
    check_supported(layer)
    gates = torch_cell_class(layer).gate_names
    if name == "remember":
        name = "orthogonal" if len(gates) == 1 else "default"
        forget_bias = REMEMBER_BIAS if "f" in gates and forget_bias is None else forget_bias
        update_bias = REMEMBER_BIAS if "z" in gates and update_bias is None else update_bias
    if name != "default" and name not in RECURRENT:
        raise ValueError(f"name: expected one of default, {', '.join(RECURRENT)}, remember, got {name!r}")
    with torch.no_grad():
        for tail in _tails(layer):
            if name != "default":
                for block in getattr(layer, "weight_hh" + tail).chunk(len(gates)):
                    RECURRENT[name](block, gain)
            for gate, argument, value in (("f", "forget_bias", forget_bias), ("z", "update_bias", update_bias)):
                if value is not None:
                    _set_bias(layer, tail, gates, gate, argument, value)
    return layer


def _tails(layer: Any) -> list[str]:
    return [suffix(i, d) for i in range(layer.num_layers) for d in range(2 if layer.bidirectional else 1)]


def _set_bias(layer: Any, tail: str, gates: tuple[str, ...], gate: str, argument: str, value: float) -> None:
    if gate not in gates:
        raise ValueError(f"{argument}: expected a cell with a gate {gate}, got gates {gates}; leave it None")
    if not layer.bias:
        raise ValueError(f"{argument}: expected a layer with biases, got bias=False")
    rows = slice(gates.index(gate) * layer.hidden_size, (gates.index(gate) + 1) * layer.hidden_size)
    getattr(layer, "bias_ih" + tail)[rows] = value
    getattr(layer, "bias_hh" + tail)[rows] = 0
