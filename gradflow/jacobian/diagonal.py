"""The state Jacobian of a cell whose units do not meet: one n×n block per unit, for n states.

With n = 1 state (minGRU, Feng et al. 2024) it is a diagonal; a complex diagonal recurrence, whose states are the real
and the imaginary part (LRU, Orvieto et al. 2023), has 2×2 blocks. Norms, singular values and the determinant follow
from the blocks alone.

Shapes: T time steps, B examples, H hidden size, n states, S = n·H state size.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.cells.forms import Diagonal
from gradflow.jacobian.operator import ClosedFormJacobian


@final
class DiagonalJacobian(ClosedFormJacobian[Diagonal]):
    """J over batch dimensions [T, B]; see :class:`gradflow.jacobian.operator.Jacobian`.

    Args:
        state_names: of the n states.
        coefficients: numbers of the closed form at every (t, b).
        valid: [T, B] bool, False past an example's length; None if every step is valid.
    """

    def __init__(self, state_names: tuple[str, ...], coefficients: Diagonal, valid: Tensor | None = None):
        super().__init__(state_names, coefficients, valid)

    @property
    def like(self) -> Tensor:
        """See :attr:`gradflow.jacobian.operator.Jacobian.like`."""
        return next(iter(self.coefficients.diagonal.values()))

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""
        *batch, hidden = self.like.shape
        size = hidden * len(self.state_names)
        return (*batch, size, size)

    def matvec(self, v: Tensor) -> Tensor:
        """J v; see :meth:`gradflow.jacobian.operator.Jacobian.matvec`."""
        entering = self.split(v)
        leaving = {name: torch.zeros_like(part) for name, part in entering.items()}
        for (out, name), numbers in self.coefficients.diagonal.items():
            leaving[out] = leaving[out] + numbers * entering[name]
        return torch.cat(list(leaving.values()), -1)

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u; see :meth:`gradflow.jacobian.operator.Jacobian.rmatvec`."""
        leaving = self.split(u)
        arriving = {name: torch.zeros_like(part) for name, part in leaving.items()}
        for (out, name), numbers in self.coefficients.diagonal.items():
            arriving[name] = arriving[name] + numbers * leaving[out]
        return torch.cat(list(arriving.values()), -1)

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """See :meth:`gradflow.jacobian.operator.Jacobian.backward_`."""
        diagonal = {pair: numbers.unbind(0) for pair, numbers in self.coefficients.diagonal.items()}
        steps = {name: part.unbind(0) for name, part in total.items()}
        for t, following in pairwise([*order, len(order)]):
            if at_each is not None:
                at_each(t)
            for (out, name), numbers in diagonal.items():
                steps[name][following].addcmul_(numbers[t], steps[out][t])
        return self.gate_gradients({name: part[:-1] for name, part in total.items()})

    def block(self, out: str, name: str) -> Tensor:
        """The H×H block ∂out/∂name, [T, B, H, H]; see :meth:`gradflow.jacobian.operator.Jacobian.block`."""
        self._check_states(out, name)
        numbers = self.coefficients.diagonal.get((out, name), torch.zeros_like(self.like))
        return self._nan_past_length(numbers.diag_embed())

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64."""
        squares = torch.stack([numbers.double().square().sum(-1) for numbers in self.coefficients.diagonal.values()])
        return self._nan_past_length(squares.sum(0).sqrt())

    def singular_values(self) -> Tensor:
        """Those of all blocks, descending, [T, B, S] float64; NaN where J is not finite."""
        blocks = self._blocks()
        if len(self.state_names) == 1:
            values = blocks[..., 0, 0].abs()
        else:
            usable = blocks.isfinite()
            values = torch.linalg.svdvals(blocks.masked_fill(~usable, 0)).flatten(-2)
        finite = blocks.isfinite().flatten(-3).all(-1, keepdim=True)
        ordered = values.sort(descending=True).values.masked_fill(~finite, torch.nan)
        return self._nan_past_length(ordered)

    def spectral_norm(self) -> Tensor:
        """σ_1(J), [T, B] float64."""
        return self.singular_values()[..., 0]

    def log_abs_det(self) -> Tensor:
        """ln|det J|, [T, B] float64: the sum over the blocks; -inf where it is singular."""
        return self._nan_past_length(torch.linalg.slogdet(self._blocks())[1].sum(-1))

    def _blocks(self) -> Tensor:
        """[T, B, H, n, n] float64."""
        *batch, size, _ = self.shape
        count = len(self.state_names)
        blocks = self.like.new_zeros(*batch, size // count, count, count, dtype=torch.float64)
        for (out, name), numbers in self.coefficients.diagonal.items():
            blocks[..., self.state_names.index(out), self.state_names.index(name)] = numbers
        return blocks
