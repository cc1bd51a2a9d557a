"""One step of each recurrent cell as on the slide, and beside it the closed form of its Jacobian.

Shapes: T time steps, B examples, D input size, H hidden size, K gates; ``...`` is any leading shape, so the same lines
serve one step ``[B, H]`` and, teacher-forced, all steps at once ``[T, B, H]``. Weights are torch's: ``weight_ih``
[K·H, D], ``weight_hh`` [K·H, H], gate order ``i f g o`` (LSTM) and ``r z n`` (GRU).

The Jacobian of every cell but one is a sum of (number × weight row): each gate k writes to one state o, and

    ∂o_t/∂h_{t-1} = Σ_k diag(rows[k]) W_k + diag(diagonal[o, h]),    ∂o_t/∂c_{t-1} = diag(diagonal[o, c])

so a cell states numbers only, and nothing dense is formed (:mod:`gradflow.jacobian`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]


@dataclass(frozen=True)
class Coefficients:
    """The numbers in the closed form of a Jacobian, for all steps and examples at once.

    Attributes:
        rows: [..., K, H], the factor of row i of ``W_hh`` of gate k in unit i of the state that the gate writes to
            (:attr:`TorchCell.writes`).
        diagonal: (output state, input state) -> [..., H]; absent pairs are zero.
        shown: [..., H], ∂h_t/∂c_t of the same step, where h is a view of c; `rows` and `diagonal` then are those of c,
            and of h with c held fixed.
        input_rows: the same as `rows` for ``W_ih x_t``, where it differs: a gate that acts on ``W_hh h`` alone.
        reset: [..., H], what multiplies h before its product with the last gate's ``W_hh``; None: nothing does.
    """

    rows: Tensor
    diagonal: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    shown: Tensor | None = None
    input_rows: Tensor | None = None
    reset: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Coefficients":
        """The same form with every tensor changed."""
        return Coefficients(
            change(self.rows),
            {pair: change(numbers) for pair, numbers in self.diagonal.items()},
            *(None if numbers is None else change(numbers) for numbers in (self.shown, self.input_rows, self.reset)),
        )


class Cell(nn.Module):
    """A recurrent cell: the names of its states and one step of time.

    A subclass with `state_names` and `step` is enough.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def step(self, x_t: Tensor, state: State) -> State:
        """Advance every state by one step.

        Args:
            x_t: [..., D] input.
            state: name -> [..., H], the states that enter.

        Returns:
            name -> [..., H], the states that leave.
        """
        raise NotImplementedError


def row_gram(weights: Tensor) -> Tensor:
    """Γ [K, K, H]: inner products of row i of W_k and row i of W_m, twice off the diagonal, of weights [K, H, H]."""
    rows = weights.transpose(0, 1)
    gram = (rows @ rows.mT).movedim(0, -1).mul(2)
    gram.diagonal().div_(2)
    return gram


class TorchCell(Cell):
    """A cell whose weights have torch's names and layout; they are held, never copied."""

    gate_names: ClassVar[tuple[str, ...]] = ("h",)
    writes: ClassVar[dict[str, slice]] = {"h": slice(None)}
    """State -> the gates that write to it."""

    def __init__(self, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None):
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = weight_ih, weight_hh, bias_ih, bias_hh

    @cached_property
    def gram(self) -> Tensor:
        """See :func:`row_gram`; of the weights when first asked for."""
        return row_gram(self.weight_hh.detach().unflatten(0, (len(self.gate_names), -1)))

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih, [..., K·H]; integer `x` [...] selects columns of W_ih, as a one-hot x would."""
        if x.is_floating_point():
            return F.linear(x, self.weight_ih, self.bias_ih)
        columns = F.embedding(x, self.weight_ih.t())
        return columns if self.bias_ih is None else columns + self.bias_ih

    def recur(self, h: Tensor) -> Tensor:
        """W_hh h + b_hh, [..., K·H]."""
        return F.linear(h, self.weight_hh, self.bias_hh)

    def gates(self, projected: Tensor, h: Tensor) -> State:
        """Gate activations, name -> [..., H], from W_ih x_t + b_ih and the h_{t-1} that entered."""
        raise NotImplementedError

    def update(self, gates: State, state: State) -> State:
        """The new states from the gates and the states that entered."""
        raise NotImplementedError

    def step(self, x_t: Tensor, state: State) -> State:
        """One step of time; see :meth:`Cell.step`."""
        return self.update(self.gates(self.project(x_t), state["h"]), state)

    def coefficients(self, gates: State, state: State, previous: State) -> Coefficients:
        """Numbers of the Jacobian ∂state/∂previous, from activations alone."""
        raise NotImplementedError

    def multiplied(self, gates: State, previous: State) -> Tensor:
        """What each gate's block of W_hh multiplies, [..., 1 or K, H]: Σ_t ε_t multiplied_tᵀ = dL/dW_hh."""
        return previous["h"].unsqueeze(-2)


class LinearCell(TorchCell):
    """h_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh. Jacobian W_hh."""

    def gates(self, projected: Tensor, h: Tensor) -> State:
        """The pre-activation: `h` itself."""
        return {"h": projected + self.recur(h)}

    def update(self, gates: State, state: State) -> State:
        """h_t is its only gate."""
        return {"h": gates["h"]}

    def coefficients(self, gates: State, state: State, previous: State) -> Coefficients:
        """φ' of :meth:`derivative`: the Jacobian is diag(φ') W_hh."""
        return Coefficients(self.derivative(state["h"]).unsqueeze(-2))

    @staticmethod
    def derivative(h: Tensor) -> Tensor:
        """φ'(a) as a function of h = φ(a), [..., H]: exact where `a` has been rounded."""
        return torch.ones_like(h)


class TanhCell(LinearCell):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Jacobian diag(1 - h²) W_hh."""

    def gates(self, projected: Tensor, h: Tensor) -> State:
        """The activated state."""
        return {"h": torch.tanh(projected + self.recur(h))}

    @staticmethod
    def derivative(h: Tensor) -> Tensor:
        """1 - h²."""
        return 1 - h.square()


class ReLUCell(LinearCell):
    """h_t = max(0, W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Jacobian diag(h > 0) W_hh."""

    def gates(self, projected: Tensor, h: Tensor) -> State:
        """The activated state."""
        return {"h": torch.relu(projected + self.recur(h))}

    @staticmethod
    def derivative(h: Tensor) -> Tensor:
        """1 where h > 0, else 0 (as autograd has it at 0); a NaN state keeps its NaN."""
        return torch.where(h.isnan(), h, (h > 0).to(h.dtype))


class LSTMCell(TorchCell):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t): torch.nn.LSTM (Hochreiter & Schmidhuber 1997, Gers et al. 2000)."""

    state_names = ("h", "c")
    gate_names = ("i", "f", "g", "o")
    writes: ClassVar[dict[str, slice]] = {"c": slice(0, 3), "h": slice(3, 4)}

    def gates(self, projected: Tensor, h: Tensor) -> State:
        """Input, forget, candidate and output gate."""
        i, f, g, o = self.recur(h).add_(projected).chunk(4, -1)
        return {"i": torch.sigmoid(i), "f": torch.sigmoid(f), "g": torch.tanh(g), "o": torch.sigmoid(o)}

    def update(self, gates: State, state: State) -> State:
        """The cell keeps by f and takes in i g; the hidden state shows o tanh c."""
        c = gates["f"] * state["c"] + gates["i"] * gates["g"]
        return {"h": gates["o"] * torch.tanh(c), "c": c}

    def coefficients(self, gates: State, state: State, previous: State) -> Coefficients:
        """Gates i, f, g write to c, and o to h, which shows c."""
        i, f, g, o = (gates[name] for name in self.gate_names)
        tanh_c = _ratio(state["h"], o, lambda: torch.tanh(state["c"]))
        rows = torch.empty(*i.shape[:-1], 4, i.shape[-1], dtype=i.dtype, device=i.device)
        for gate, out, factor in (
            (i, rows[..., 0, :], g),
            (f, rows[..., 1, :], previous["c"]),
            (o, rows[..., 3, :], tanh_c),
        ):
            torch.addcmul(gate, gate, gate, value=-1, out=out)  # s (1 - s), the derivative of a sigmoid
            out *= factor
        torch.mul(i, 1 - g.square(), out=rows[..., 2, :])
        return Coefficients(rows, {("c", "c"): f}, shown=o * (1 - tanh_c.square()))


def _ratio(numerator: Tensor, denominator: Tensor, otherwise: Callable[[], Tensor]) -> Tensor:
    """Of two numbers with the precision of both, unless the denominator nears the end of its range."""
    return numerator / denominator if bool((denominator > 1e-30).all()) else otherwise()


class GRUCell(TorchCell):
    """torch.nn.GRU: the reset gate acts after the product, n = tanh(W_in x + b_in + r (W_hn h + b_hn))."""

    gate_names = ("r", "z", "n")

    def gates(self, projected: Tensor, h: Tensor) -> State:
        """Reset gate, update gate (which keeps) and candidate."""
        x_r, x_z, x_n = projected.chunk(3, -1)
        h_r, h_z, h_n = self.recur(h).chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        return {"r": r, "z": z, "n": torch.tanh(x_n + r * h_n)}

    def update(self, gates: State, state: State) -> State:
        """What z keeps of the old state, and 1 - z of the candidate."""
        z = gates["z"]
        return {"h": (1 - z) * gates["n"] + z * state["h"]}

    def coefficients(self, gates: State, state: State, previous: State) -> Coefficients:
        """W_hn h + b_hn is formed anew, one product for all steps."""
        r, z, n = (gates[name] for name in self.gate_names)
        h, size = previous["h"], self.weight_hh.shape[1]
        bias = None if self.bias_hh is None else self.bias_hh[2 * size :]
        h_n = F.linear(h, self.weight_hh[2 * size :], bias)
        of_n = (1 - z) * (1 - n * n)
        of_r, of_z = of_n * h_n * r * (1 - r), (h - n) * z * (1 - z)
        rows = torch.stack((of_r, of_z, of_n * r), -2)
        return Coefficients(rows, {("h", "h"): z}, input_rows=torch.stack((of_r, of_z, of_n), -2))


class GRUBeforeCell(TorchCell):
    """The original GRU (Cho et al. 2014): the reset gate acts before the product.

    n = tanh(W_in x + b_in + W_hn (r h) + b_hn). Its Jacobian holds a product of two weight matrices, so it has
    a form of its own, :class:`gradflow.jacobian.ResetBeforeJacobian`.
    """

    gate_names = ("r", "z", "n")

    def gates(self, projected: Tensor, h: Tensor) -> State:
        """Reset gate, update gate (which keeps) and candidate."""
        size = self.weight_hh.shape[1]
        x_rz, x_n = projected[..., : 2 * size], projected[..., 2 * size :]
        b_rz, b_n = (None, None) if self.bias_hh is None else (self.bias_hh[: 2 * size], self.bias_hh[2 * size :])
        r, z = torch.sigmoid(x_rz + F.linear(h, self.weight_hh[: 2 * size], b_rz)).chunk(2, -1)
        return {"r": r, "z": z, "n": torch.tanh(x_n + F.linear(r * h, self.weight_hh[2 * size :], b_n))}

    update = GRUCell.update

    def coefficients(self, gates: State, state: State, previous: State) -> Coefficients:
        """∂h/∂z and ∂h/∂n with their activations, and in the place of r the derivative of r h, h r (1 - r)."""
        r, z, n = (gates[name] for name in self.gate_names)
        h = previous["h"]
        rows = torch.stack((h * r * (1 - r), (h - n) * z * (1 - z), (1 - z) * (1 - n * n)), -2)
        return Coefficients(rows, {("h", "h"): z}, reset=r)

    def multiplied(self, gates: State, previous: State) -> Tensor:
        """Blocks r and z multiply h_{t-1}, the candidate's r h_{t-1}."""
        h = previous["h"]
        return torch.stack((h, h, gates["r"] * h), -2)
