"""Cells without gates: h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)."""

import torch
from torch import Tensor

from gradflow.cells.cell import State, TorchCell, plus_product
from gradflow.cells.forms import Rows


class LinearCell(TorchCell):
    """h_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh. Jacobian W_hh."""

    gateless = True

    def activations(self, projected: Tensor, h: Tensor, recurrent: tuple[Tensor, ...]) -> State:
        """The pre-activation: `h` itself."""
        return {"h": plus_product(projected, h, *recurrent)}

    def update(self, gates: State, state: State) -> State:
        """h_t is its only gate."""
        return {"h": gates["h"]}

    def coefficients(self, gates: State, state: State, previous: State) -> Rows:
        """φ' of :meth:`derivative`: the Jacobian is diag(φ') W_hh."""
        return Rows({"h": self.derivative(state["h"]).unsqueeze(-2)})

    @staticmethod
    def derivative(h: Tensor) -> Tensor:
        """φ'(a) as a function of h = φ(a), [..., H]: exact where `a` has been rounded."""
        return torch.ones_like(h)


class TanhCell(LinearCell):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Jacobian diag(1 - h²) W_hh."""

    def activations(self, projected: Tensor, h: Tensor, recurrent: tuple[Tensor, ...]) -> State:
        """The activated state."""
        return {"h": torch.tanh(plus_product(projected, h, *recurrent))}

    @staticmethod
    def derivative(h: Tensor) -> Tensor:
        """1 - h²."""
        return torch.addcmul(h.new_ones(()), h, h, value=-1)


class ReLUCell(LinearCell):
    """h_t = max(0, W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Jacobian diag(h > 0) W_hh."""

    def activations(self, projected: Tensor, h: Tensor, recurrent: tuple[Tensor, ...]) -> State:
        """The activated state."""
        return {"h": torch.relu(plus_product(projected, h, *recurrent))}

    @staticmethod
    def derivative(h: Tensor) -> Tensor:
        """1 where h > 0, else 0 (as autograd has it at 0); a NaN state keeps its NaN."""
        return torch.where(h.isnan(), h, (h > 0).to(h.dtype))


class SigmoidCell(LinearCell):
    """h_t = σ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Jacobian diag(h (1 - h)) W_hh, at most a quarter of W_hh."""

    def activations(self, projected: Tensor, h: Tensor, recurrent: tuple[Tensor, ...]) -> State:
        """The activated state."""
        return {"h": torch.sigmoid(plus_product(projected, h, *recurrent))}

    @staticmethod
    def derivative(h: Tensor) -> Tensor:
        """φ' = h (1 - h)."""
        return h * (1 - h)
