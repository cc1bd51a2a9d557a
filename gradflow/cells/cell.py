"""One step of each recurrent cell as on the slide, and beside it the closed form of its Jacobian.

Shapes: T time steps, B examples, D input size, H hidden size, K gates; ``...`` is any leading shape, so the same lines
serve one step ``[B, H]`` and, teacher-forced, all steps at once ``[T, B, H]``. Weights are torch's: ``weight_ih``
[K·H, D], ``weight_hh`` [K·H, H], gate order ``i f g o`` (LSTM) and ``r z n`` (GRU).

A cell states the numbers in the closed form of its Jacobian only (:mod:`gradflow.cells.forms`), and nothing dense is
formed (:mod:`gradflow.jacobian.operator`).
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradflow.cells.forms import Form

State = dict[str, Tensor]


class Cell(nn.Module):
    """A recurrent cell: the names of its states and one step of time.

    A subclass with `state_names`, `hidden_size` and :meth:`step` is enough: :class:`gradflow.Recurrent` runs it along
    time, and where it gives no closed form its Jacobian is found by automatic differentiation. Each example is taken by
    itself, and nothing is drawn at random (dropout goes outside of the cell); :func:`gradflow.testing.check_cell` says
    whether a cell keeps to that. What a cell holds of each example during a pass, such as a memory to attend to, is a
    tensor attribute [B, ...], neither parameter nor buffer.

    Attributes:
        state_names: of the states, all real and of size H.
        output_names: the states that a layer's output shows, side by side; the first one if not given.
        hidden_size: H, number of units of every state; set it in ``__init__``.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    output_names: ClassVar[tuple[str, ...]] = ("h",)
    hidden_size: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "state_names" in vars(cls) and "output_names" not in vars(cls):
            cls.output_names = tuple(cls.state_names[:1])

    def step(self, x_t: Tensor, state: State) -> State:
        """Advance every state by one step.

        Args:
            x_t: [B, D] input, or indices [B]; B is any number of examples. In a replay it is all steps of all examples.
            state: name -> [B, H], the states that enter.

        Returns:
            name -> [B, H], the states that leave.
        """
        raise NotImplementedError(f"{type(self).__name__}.step: expected to be written: step(x_t, state) -> state")

    def forward(self, x_t: Tensor, state: State) -> State:
        """One :meth:`step`, for a script that steps in a loop of its own: called so, a cell is seen by the recorder."""
        return self.step(x_t, state)

    def steps(self, x: Tensor) -> Callable[[int, State], State]:
        """One step as a function of position and state; a cell may do here what can be done for all positions at once.

        Args:
            x: [T, B, D], or indices [T, B].
        """
        inputs = x.unbind(0)
        return lambda t, state: self.step(inputs[t], state)

    def gates(self, x_t: Tensor, state: State) -> State:
        """Activations worth a name, name -> [B, H]; none unless a cell gives them.

        Those called i, f, o, r, z are taken for sigmoid gates and go to the log, f and z, which are to *keep* the old
        state, with their time scale.

        Args:
            x_t: as in :meth:`step`.
            state: the states that enter.
        """
        return {}

    def coefficients(self, gates: State, state: State, previous: State) -> Form | None:
        """The closed form of the Jacobian ∂state/∂previous, from activations alone; None: there is none.

        A cell of the user's own states it by :class:`gradflow.Coefficients`.

        Args:
            gates: what :meth:`gates` gave.
            state: the states that left.
            previous: the states that entered.
        """
        return None

    @cached_property
    def gram(self) -> Tensor:
        """See :func:`row_gram`; of ``weight_hh`` when first asked for."""
        weight = self.weight_hh
        assert isinstance(weight, Tensor)
        return row_gram(weight.detach().view(-1, self.hidden_size, self.hidden_size))


def row_gram(weights: Tensor) -> Tensor:
    """Γ [K, K, H]: inner products of row i of W_k and row i of W_m, twice off the diagonal, of weights [K, H, H]."""
    rows = weights.transpose(0, 1)
    gram = torch.bmm(rows, rows.mT).movedim(0, -1).mul(2)
    gram.diagonal().div_(2)
    return gram.contiguous()


def plus_product(added: Tensor, h: Tensor, transposed: Tensor) -> Tensor:
    """`added` + h Wᵀ, [..., K·H]; of h [B, H], and of all steps together, it is one operation."""
    if h.dim() == 2:
        return torch.addmm(added, h, transposed)
    if h.dim() < 2 or added.shape[:-1] != h.shape[:-1]:
        return added + h @ transposed
    return torch.addmm(added.flatten(0, -2), h.flatten(0, -2), transposed).unflatten(0, h.shape[:-1])


def has_closed_form(cell: type[Cell]) -> bool:
    """Whether a cell gives the closed form of its Jacobian."""
    return cell.coefficients is not Cell.coefficients


class TorchCell(Cell):
    """A cell whose weights have torch's names and layout; they are held, never copied."""

    gate_names: ClassVar[tuple[str, ...]] = ("h",)
    writes: ClassVar[dict[str, slice]] = {"h": slice(None)}
    """State -> the gates that write to it."""
    gateless: ClassVar[bool] = False
    """Whether h is φ of its pre-activation and nothing else."""

    def __init__(self, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None):
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = weight_ih, weight_hh, bias_ih, bias_hh
        self.hidden_size = weight_hh.shape[1]

    @classmethod
    def on(cls, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None) -> Self:
        """The cell on weights of a layer; not registered as its own, which at every pass takes as long as a step."""
        cell = cls.__new__(cls)
        Cell.__init__(cell)
        held = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
        vars(cell).update(held, hidden_size=weight_hh.shape[1])
        return cell

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + `added_bias`, [..., K·H]; integer `x` [...] selects columns of W_ih, as a one-hot x would."""
        bias = self.added_bias
        if x.is_floating_point():
            return F.linear(x, self.weight_ih, bias)
        columns = self.weight_ih.t()
        columns = columns if bias is None else columns + bias
        if x.numel() < len(columns):
            return F.embedding(x, columns)
        return columns.contiguous().index_select(0, x.flatten()).unflatten(0, x.shape)  # pays where most are looked up

    @property
    def added_bias(self) -> Tensor | None:
        """What is added to W_ih x + W_hh h, [K·H]: b_ih + b_hh, unless a cell adds a part of b_hh elsewhere."""
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh

    def recurrent(self) -> tuple[Tensor, ...]:
        """What meets h at every step, in the form in which it does, once for all of them: W_hhᵀ [H, K·H]."""
        return (self.weight_hh.t(),)

    def activations(self, projected: Tensor, h: Tensor, recurrent: tuple[Tensor, ...]) -> State:
        """Gate activations, name -> [..., H], from :meth:`project`, the h_{t-1} that entered, and :meth:`recurrent`."""
        raise NotImplementedError

    def update(self, gates: State, state: State) -> State:
        """The new states from the gates and the states that entered."""
        raise NotImplementedError

    def gates(self, x_t: Tensor, state: State) -> State:
        """Gate activations, name -> [..., H]; see :meth:`Cell.gates`."""
        return self.activations(self.project(x_t), state["h"], self.recurrent())

    def step(self, x_t: Tensor, state: State) -> State:
        """One step of time; see :meth:`Cell.step`."""
        return self.update(self.gates(x_t, state), state)

    def steps(self, x: Tensor) -> Callable[[int, State], State]:
        """W_ih x is one product for all positions; see :meth:`Cell.steps`."""
        projected, recurrent = self.project(x).unbind(0), self.recurrent()
        return lambda t, state: self.update(self.activations(projected[t], state["h"], recurrent), state)

    def input_rows(self, gates: State, rows: State) -> State:
        """For ``W_ih x_t`` what `rows` of the closed form are for ``W_hh h_{t-1}``: the same, unless a cell differs."""
        return rows

    def multiplied(self, gates: State, previous: State) -> Tensor:
        """What each gate's block of W_hh multiplies, [..., 1 or K, H]: Σ_t ε_t multiplied_tᵀ = dL/dW_hh."""
        return previous["h"].unsqueeze(-2)

    def summands(self, gates: State) -> State:
        """State -> the numbers in it that cancel, whose rounding it has, [..., H]; without those where none do."""
        return {}

    def cancels(self, gates: State) -> Tensor | None:
        """How many roundings a gradient through the gates may be off, [..., H]; None: once, as products are."""
        return None
