"""Jacobians of steps that a script made by hand: dense matrices that were found at once, or nothing."""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.jacobian.operator import Jacobian


@final
class DenseJacobian(Jacobian):
    """J over batch dimensions [T, B], from its matrices; see :class:`gradflow.jacobian.operator.Jacobian`.

    Args:
        state_names: of the states, side by side in a vector.
        valid: [T, B] bool, False past an example's length; None if every step is valid.
        matrices: [T, B, S, S].
    """

    norm_is_dense = True

    def __init__(self, state_names: tuple[str, ...], valid: Tensor | None, matrices: Tensor):
        super().__init__(state_names, valid)
        self.matrices = matrices

    @property
    def like(self) -> Tensor:
        """See :attr:`gradflow.jacobian.operator.Jacobian.like`."""
        return self.matrices

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""
        return tuple(self.matrices.shape)

    def __getitem__(self, index: Any) -> "DenseJacobian":
        """The same operator on a part of the batch dimensions; ``J[t]`` has [B] left."""
        valid = None if self.valid is None else self.valid[index]
        return DenseJacobian(self.state_names, valid, self.matrices[index])

    def double(self) -> "DenseJacobian":
        """The same operator in float64."""
        return DenseJacobian(self.state_names, self.valid, self.matrices.double())

    def matvec(self, v: Tensor) -> Tensor:
        """J v; see :meth:`gradflow.jacobian.operator.Jacobian.matvec`."""
        return (self.matrices @ v.unsqueeze(-1)).squeeze(-1)

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u; see :meth:`gradflow.jacobian.operator.Jacobian.rmatvec`."""
        return (self.matrices.mT @ u.unsqueeze(-1)).squeeze(-1)

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """Not for these: their total gradients are those that autograd brought."""
        raise NotImplementedError("backward_: the total gradients of marked states are read, never found anew")

    def block(self, out: str, name: str) -> Tensor:
        """The H×H block ∂out/∂name; see :meth:`gradflow.jacobian.operator.Jacobian.block`."""
        self._check_states(out, name)
        size = self.shape[-1] // len(self.state_names)
        rows, columns = (
            slice(size * self.state_names.index(n), size * (self.state_names.index(n) + 1)) for n in (out, name)
        )
        return self._nan_past_length(self.matrices[..., rows, columns])

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64."""
        return self._nan_past_length(torch.linalg.matrix_norm(self.matrices.double()))


class UnknownJacobian:
    """Of a state that is only marked nobody knows the step; there are no gates either.

    Args:
        state_names: of the states.
        valid: [T, B] bool; None if every step is valid.
        like: [T, B, H].
    """

    norm_is_dense = True
    rows: State = {}  # noqa: RUF012 - of no cell
    shown = None

    def __init__(self, state_names: tuple[str, ...], valid: Tensor | None, like: Tensor):
        self.state_names, self.valid, self.like = state_names, valid, like

    def gate_gradients(self, u: State, rows: State | None = None) -> Tensor:
        """No gate is known: [..., 0, H]."""
        first = u[self.state_names[0]]
        return first.new_empty(*first.shape[:-1], 0, first.shape[-1])
