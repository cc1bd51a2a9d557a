"""Jacobians of steps that a script made by hand: asked of the step itself, or unknown."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, final

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.jacobian.operator import Jacobian


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
        return self._zero_past_length((self.matrices @ v.unsqueeze(-1)).squeeze(-1))

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u; see :meth:`gradflow.jacobian.operator.Jacobian.rmatvec`."""
        return self._zero_past_length((self.matrices.mT @ u.unsqueeze(-1)).squeeze(-1))

    def _zero_past_length(self, vectors: Tensor) -> Tensor:
        return vectors if self.valid is None else vectors.masked_fill(~self.valid.unsqueeze(-1), 0)

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


class Asked(Protocol):
    """A step that can be asked; see :class:`gradflow.flow.redoing.Redone`."""

    def back(self, vectors: Tensor, examples: Sequence[int]) -> Tensor:
        """Jᵀ u, [n, S], of u [n, S] at some examples."""

    def jacobian(self, examples: Sequence[int]) -> Tensor:
        """[n, S, S], of some examples."""


@final
class SteppedJacobian(DenseJacobian):
    """J over batch dimensions [T, B] of steps that can be asked: Jᵀ u is one product with each, the rest is dense.

    Args:
        state_names: of the states, side by side in a vector.
        valid: [T, B] bool, False past an example's length; None if every step is valid.
        steps: T of them; one where [B] alone are the batch dimensions.
        examples: B positions in the batch.
        like: [T, B, H], for size, dtype and device.
    """

    def __init__(
        self,
        state_names: tuple[str, ...],
        valid: Tensor | None,
        steps: Sequence[Asked],
        examples: Sequence[int],
        like: Tensor,
    ):
        Jacobian.__init__(self, state_names, valid)
        self._steps, self._examples, self._like = steps, examples, like

    @cached_property
    def matrices(self) -> Tensor:  # type: ignore[override]
        """[T, B, S, S], found when first asked for."""
        found = [step.jacobian(self._examples).to(self._like.dtype) for step in self._steps]
        return found[0] if self._like.dim() == 2 else torch.stack(found)

    @property
    def like(self) -> Tensor:
        """See :attr:`gradflow.jacobian.operator.Jacobian.like`."""
        return self._like

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""
        size = self._like.shape[-1] * len(self.state_names)
        return (*self._like.shape[:-1], size, size)

    def __getitem__(self, index: Any) -> DenseJacobian:  # type: ignore[override]
        """The same operator on a part of the batch dimensions; ``J[t]`` has [B] left."""
        if not isinstance(index, int | slice) or self._like.dim() == 2:
            return super().__getitem__(index)
        valid = None if self.valid is None else self.valid[index]
        steps = [self._steps[index]] if isinstance(index, int) else self._steps[index]
        return SteppedJacobian(self.state_names, valid, steps, self._examples, self._like[index])

    def double(self) -> "SteppedJacobian":
        """The same operator for vectors in float64."""
        return SteppedJacobian(self.state_names, self.valid, self._steps, self._examples, self._like.double())

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u; see :meth:`gradflow.jacobian.operator.Jacobian.rmatvec`."""
        if u.dim() > self._like.dim():  # many vectors at once
            return super().rmatvec(u)
        vectors = u.unsqueeze(0) if self._like.dim() == 2 else u
        found = [step.back(part, self._examples) for step, part in zip(self._steps, vectors, strict=True)]
        return self._zero_past_length(torch.stack(found).view_as(u))


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
