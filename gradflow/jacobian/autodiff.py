"""The state Jacobian of a cell without closed form: the same operator, by automatic differentiation of its step.

Every step of every example is a function of its own, so one vector-Jacobian product of the step over all [T, B] is
Jᵀ u, and a second one, of the first (which is linear in u), is J v. Dense matrices and exact norms take one product for
each of the S units of the state.

Shapes: T time steps, B examples, H hidden size, S state size (H times the number of states).
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from gradflow.cells.cell import Cell, State
from gradflow.cells.copying import to_double
from gradflow.cells.recurrent import ReplayedCell
from gradflow.jacobian.operator import Jacobian

_NUMBERS = 2**18  # of the vectors that are sent through the step at once: about 1 MB in float32


@final
class AutodiffJacobian(Jacobian):
    """J over batch dimensions [T, B], from the step of a cell; see :class:`gradflow.jacobian.operator.Jacobian`.

    Args:
        cell: on the weights of that forward pass, for any leading shape of its arguments.
        inputs: [T, B, D], or indices [T, B].
        previous: state name -> [T, B, H], the states that entered.
        valid: [T, B] bool, False past an example's length; None if every step is valid.
    """

    norm_is_dense = True

    def __init__(self, cell: Cell, inputs: Tensor, previous: State, valid: Tensor | None = None):
        super().__init__(cell.state_names, valid)
        self.cell, self.inputs = cell, inputs
        self.previous = torch.cat([previous[name] for name in cell.state_names], -1).detach()

    @property
    def like(self) -> Tensor:
        """See :attr:`gradflow.jacobian.operator.Jacobian.like`."""
        return self.previous

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""
        return (*self.previous.shape, self.previous.shape[-1])

    def __getitem__(self, index: Any) -> "AutodiffJacobian":
        """The same operator on a part of the batch dimensions; ``J[t]`` has [B] left."""
        valid = None if self.valid is None else self.valid[index]
        previous, cell = self.previous[index], self.cell
        if isinstance(cell, ReplayedCell):
            cell = cell.at(index, self.previous.shape[:-1], previous.shape[:-1])
        return AutodiffJacobian(cell, self.inputs[index], self.split(previous), valid)

    def double(self) -> "AutodiffJacobian":
        """The same operator in float64."""
        inputs = self.inputs.double() if self.inputs.is_floating_point() else self.inputs
        return AutodiffJacobian(to_double(self.cell), inputs, self.split(self.previous.double()), self.valid)

    def _step(self, state: Tensor) -> Tensor:
        new = self.cell.step(self.inputs, self.split(state))
        return torch.cat([new[name] for name in self.state_names], -1)

    @cached_property
    def _pullback(self) -> tuple[Tensor, Tensor]:
        """The states that entered and, as a function of them, those that left."""
        with torch.enable_grad():
            entering = self.previous.detach().requires_grad_()
            return entering, self._step(entering)

    @cached_property
    def _pushforward(self) -> tuple[Tensor, Tensor]:
        """A gradient u at the states that left and, as a (linear) function of it, Jᵀ u."""
        with torch.enable_grad():
            entering, leaving = self._pullback
            u = torch.zeros_like(leaving).requires_grad_()
            return u, _product(leaving, entering, u, create_graph=True)

    def matvec(self, v: Tensor) -> Tensor:
        """J v for v [..., T, B, S]; see :meth:`gradflow.jacobian.operator.Jacobian.matvec`."""
        u, pulled = self._pushforward
        return self._of_each(pulled, u, v)

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u for u [..., T, B, S]; see :meth:`gradflow.jacobian.operator.Jacobian.rmatvec`."""
        entering, leaving = self._pullback
        return self._of_each(leaving, entering, u)

    def _of_each(self, of: Tensor, by: Tensor, vectors: Tensor) -> Tensor:
        extra = vectors.dim() - by.dim()
        flat = vectors.flatten(0, extra - 1) if extra else vectors
        result = _product(of, by, flat.to(by.dtype), is_grads_batched=extra > 0).reshape(vectors.shape)
        return result if self.valid is None else result.masked_fill(~self.valid.unsqueeze(-1), 0)

    def _rows(self, first: int, last: int) -> Iterator[Tensor]:
        """Rows `first` to `last` of J, [rows, T, B, S] at a time."""
        size = self.previous.shape[-1]
        at_once = max(1, _NUMBERS // max(1, self.previous.numel()))
        for start in range(first, last, at_once):
            rows = torch.arange(start, min(start + at_once, last), device=self.previous.device)
            unit = torch.zeros(len(rows), size, dtype=self.previous.dtype, device=self.previous.device)
            unit[rows - start, rows] = 1
            unit = unit.view(len(rows), *[1] * (self.previous.dim() - 1), size)
            yield self.rmatvec(unit.expand(-1, *self.previous.shape))

    def block(self, out: str, name: str) -> Tensor:
        """The H×H block ∂out/∂name, [T, B, H, H]; see :meth:`gradflow.jacobian.operator.Jacobian.block`."""
        self._check_states(out, name)
        hidden = self.cell.hidden_size
        start = self.state_names.index(out) * hidden
        rows = torch.cat(list(self._rows(start, start + hidden)))
        return self._nan_past_length(self.split(rows)[name].movedim(0, -2))

    def dense(self) -> Tensor:
        """[T, B, S, S]: derivative of the state produced at position t by the state that entered it."""
        rows = torch.cat(list(self._rows(0, self.previous.shape[-1])))
        return self._nan_past_length(rows.movedim(0, -2))

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64, from S products with Jᵀ."""
        squares = sum(rows.double().square().sum((0, -1)) for rows in self._rows(0, self.previous.shape[-1]))
        return self._nan_past_length(torch.as_tensor(squares, device=self.previous.device).sqrt())


def _product(of: Tensor, by: Tensor, vectors: Tensor, **options: bool) -> Tensor:
    """Vectors times ∂of/∂by, through the graph of `of`, which is kept; 0 if it does not depend on `by`."""
    if not of.requires_grad:
        return torch.zeros_like(vectors)
    return torch.autograd.grad(of, by, vectors, retain_graph=True, materialize_grads=True, **options)[0]
