"""The state Jacobian as a sum of (number × weight row): of torch's RNN and GRU, and of own cells that give rows.

Products with J and Jᵀ cost one matrix product with ``W_hh`` and a few elementwise ones, and the exact Frobenius norm
needs only the Gram matrices of the rows of ``W_hh``.

Shapes: T time steps, B examples, H hidden size, K gates, S state size.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Self, TypeVar, final

import torch
from torch import Tensor

from gradflow.cells.cell import State, TorchCell, row_gram
from gradflow.cells.forms import Rows
from gradflow.cells.recurrent import ReplayedCell
from gradflow.jacobian.operator import ClosedFormJacobian, log_abs_det_of

AnyRows = TypeVar("AnyRows", bound=Rows)


class WeightedJacobian(ClosedFormJacobian[AnyRows]):
    """What Jacobians of rows of ``W_hh`` share; see :class:`gradflow.cells.forms.Rows`.

    Args:
        cell: the cell; its ``weight_hh`` [K·H, H] is used, not copied.
        coefficients: numbers of the closed form at every (t, b).
        valid: [T, B] bool, False past an example's length; None if every step is valid.
    """

    def __init__(self, cell: TorchCell | ReplayedCell, coefficients: AnyRows, valid: Tensor | None = None):
        super().__init__(cell.state_names, coefficients, valid)
        hidden = cell.weight_hh.shape[1]
        self.writes = cell.writes
        self.weight_hh = cell.weight_hh.detach().view(-1, hidden, hidden)
        self.gram = cell.gram

    @property
    def like(self) -> Tensor:
        """See :attr:`gradflow.jacobian.operator.Jacobian.like`."""
        return self.rows["h"]

    @property
    def rows(self) -> State:
        """The factors of the weight rows, state name -> [T, B, K, H]."""
        return self.coefficients.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""
        *batch, _, hidden = self.like.shape
        size = hidden * len(self.state_names)
        return (*batch, size, size)

    def double(self) -> Self:
        """The same operator in float64."""
        wide = super().double()
        wide.weight_hh = self.weight_hh.double()
        wide.gram = row_gram(wide.weight_hh)
        return wide

    def matvec(self, v: Tensor) -> Tensor:
        """J v for v [..., T, B, S]; see :meth:`gradflow.jacobian.operator.Jacobian.matvec`."""
        entering = self.split(v)
        products = self._recurrent_product(entering["h"])
        leaving = {name: (self.rows[name] * products[..., gates, :]).sum(-2) for name, gates in self.writes.items()}
        for (out, name), numbers in self.coefficients.diagonal.items():
            leaving[out] = leaving[out] + numbers * entering[name]
        self._show(leaving)
        return torch.cat([leaving[name] for name in self.state_names], -1)

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u for u [..., T, B, S]; see :meth:`gradflow.jacobian.operator.Jacobian.rmatvec`."""
        leaving = self._within(self.split(u))
        arriving = {name: torch.zeros_like(part) for name, part in leaving.items()}
        arriving["h"] = self._recurrent_adjoint(self._gate_gradients(leaving, self.rows))
        for (out, name), numbers in self.coefficients.diagonal.items():
            arriving[name] = arriving[name] + numbers * leaving[out]
        return torch.cat([arriving[name] for name in self.state_names], -1)

    def _show(self, leaving: State) -> None:
        """Add what a state shows of another in the same step."""

    def _within(self, leaving: State) -> State:
        """Gradients at the states, each with what arrives through another state of the same step."""
        return leaving

    def _recurrent_product(self, h: Tensor) -> Tensor:
        """W_hh h of every gate, [..., K, H]."""
        return (h @ self.weight_hh.flatten(0, 1).t()).unflatten(-1, self.weight_hh.shape[:2])

    def _recurrent_adjoint(self, epsilon: Tensor) -> Tensor:
        """Σ_k W_kᵀ ε_k, [..., H]."""
        return epsilon.flatten(-2) @ self.weight_hh.flatten(0, 1)

    def gate_gradients(self, u: Mapping[str, Tensor], rows: State | None = None) -> Tensor:
        """See :meth:`gradflow.jacobian.operator.Jacobian.gate_gradients`."""
        return self._gate_gradients(self._within(dict(u)), self.rows if rows is None else rows)

    def _gate_gradients(self, within: State, rows: State) -> Tensor:
        first, *rest = self.state_names
        epsilon = rows[first] * within[first].unsqueeze(-2)
        for name in rest:
            epsilon = epsilon + rows[name] * within[name].unsqueeze(-2)
        return epsilon

    def block(self, out: str, name: str) -> Tensor:
        """The H×H block ∂out/∂name, [T, B, H, H]; see :meth:`gradflow.jacobian.operator.Jacobian.block`."""
        self._check_states(out, name)
        return self._nan_past_length(self._block(out, name))

    def _block(self, out: str, name: str) -> Tensor:
        hidden = self.weight_hh.shape[1]
        zero = self.rows[out].new_zeros(*self.shape[:-2], hidden, hidden)
        dense = self._dense_h(out) if name == "h" else zero
        if (out, name) in self.coefficients.diagonal:
            dense.diagonal(dim1=-2, dim2=-1).add_(self.coefficients.diagonal[out, name])
        return dense

    def _dense_h(self, out: str) -> Tensor:
        return torch.einsum("...ki,kij->...ij", self.rows[out], self.weight_hh[self.writes[out]])

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64, in O(T·B·H·K²).

        Its square is Σ_i κ_iᵀ Γ_i κ_i, κ_i the coefficients of unit i and Γ_i the Gram matrix of row i of every W_k.
        """
        squares = self._frobenius_squares().double()
        doubtful = ~((squares > 1e-24) & (squares < 1e24))
        if self.valid is not None:
            doubtful &= self.valid  # past an example's length all are zero
        if self.weight_hh.dtype != torch.float64 and bool(doubtful.any()):
            squares[doubtful] = self[doubtful].double()._frobenius_squares()
        return self._nan_past_length(squares.clamp_min(0).sqrt())

    def _frobenius_squares(self) -> Tensor:
        diagonal = self.coefficients.diagonal
        squares = [self._squares_by_unit(rows, rows, diagonal.get((out, "h"))) for out, rows in self.rows.items()]
        squares += [numbers.square() for (_, name), numbers in diagonal.items() if name != "h"]
        first, *rest = (of_units.sum(-1) for of_units in squares)
        for other in rest:
            first += other
        return first

    def _squares_by_unit(self, rows: Tensor, others: Tensor, diagonal: Tensor | None = None) -> Tensor:
        """Σ_k Σ_{m≥k} κ_ki κ'_mi Γ_kmi over the gates k of `rows` and m of `others`, [..., H].

        With what a `diagonal` d of the same block adds, 2 Σ_k κ_ki W_kii d_i + d_i².
        """
        own, across = rows.unbind(-2), others.unbind(-2)
        total = None if diagonal is None else diagonal.square()
        for k, numbers in enumerate(own):
            inner = across[k] * self.gram[k, k]
            for m in range(k + 1, len(across)):
                inner.addcmul_(across[m], self.gram[k, m])
            if diagonal is not None:
                inner.addcmul_(diagonal, self.weight_hh[k].diagonal(), value=2)
            total = inner.mul_(numbers) if total is None else total.addcmul_(inner, numbers)
        assert total is not None
        return total


@final
class RowsJacobian(WeightedJacobian[Rows]):
    """J of torch's RNN and GRU, and of cells of the user's own that give rows."""

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """See :meth:`gradflow.jacobian.operator.Jacobian.backward_`."""
        weight = self.weight_hh.flatten(0, 1)
        epsilon = torch.empty_like(self.rows["h"])
        rows = {name: part.unbind(0) for name, part in self.rows.items()}
        steps = {name: part.unbind(0) for name, part in total.items()}
        across = {name: part.unsqueeze(2).unbind(0) for name, part in total.items()}
        diagonal = {pair: part.unbind(0) for pair, part in self.coefficients.diagonal.items()}
        epsilons, flat = epsilon.unbind(0), epsilon.flatten(2).unbind(0)
        first, *rest = self.state_names
        for t, following in pairwise([*order, len(order)]):
            if at_each is not None:
                at_each(t)
            torch.mul(rows[first][t], across[first][t], out=epsilons[t])
            for name in rest:
                epsilons[t].addcmul_(rows[name][t], across[name][t])
            steps["h"][following].addmm_(flat[t], weight)
            for (out, name), numbers in diagonal.items():
                steps[name][following].addcmul_(numbers[t], steps[out][t])
        return epsilon

    def log_abs_det(self) -> Tensor:
        """ln|det J|, [T, B] float64; -inf where J is singular, NaN where it is not finite.

        Without gates it is Σ ln|φ'| + ln|det W|; else it is taken from the dense matrix, a time step at a time.
        """
        rows = self.rows["h"]
        if self.coefficients.diagonal or rows.shape[-2] > 1 or len(self.state_names) > 1:
            return super().log_abs_det()
        logs = rows.double().abs().log().sum((-2, -1)) + log_abs_det_of(self.weight_hh[0].double())
        return self._nan_past_length(logs)
