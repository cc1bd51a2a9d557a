"""The state Jacobian J_t = ∂s_t/∂s_{t-1} of a recurrent layer, for all steps and examples at once, as an operator.

Nothing dense is formed unless asked: products with J and Jᵀ cost one matrix product with ``W_hh`` and a few
elementwise ones, and the exact Frobenius norm needs only the Gram matrices of the rows of ``W_hh``.

Shapes: T time steps, B examples, H hidden size, K gates, S state size (H, or 2H for the LSTM's (h, c)).
Past an example's length, norms and dense matrices are NaN and products are 0.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from gradflow.cells.cell import Coefficients, State, TorchCell, row_gram
from gradflow.cells.recurrent import ReplayedCell
from gradflow.jacobian import lanczos


class Jacobian:
    """J over batch dimensions [T, B], from the closed-form coefficients of a cell.

    Args:
        cell: the cell; its ``weight_hh`` [K·H, H] is used, not copied.
        coefficients: numbers of the closed form at every (t, b).
        valid: [T, B] bool, False past an example's length; None if every step is valid.

    Attributes:
        reverse: whether the layer runs from the last position to the first; set by whoever knows.
    """

    reverse = False
    norm_is_dense: ClassVar[bool] = False
    """Whether the Frobenius norm needs the dense matrix."""

    def __init__(self, cell: TorchCell | ReplayedCell, coefficients: Coefficients, valid: Tensor | None = None):
        hidden = cell.weight_hh.shape[1]
        self.state_names, self.writes = cell.state_names, cell.writes
        self.weight_hh = cell.weight_hh.detach().view(-1, hidden, hidden)
        self.gram = cell.gram
        self.valid = valid
        self.coefficients = coefficients
        if valid is not None:
            self.coefficients = coefficients.map(lambda numbers: numbers.masked_fill(~_spread(valid, numbers), 0))

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""
        *batch, _, hidden = self.coefficients.rows["h"].shape
        size = hidden * len(self.state_names)
        return (*batch, size, size)

    def __getitem__(self, index: Any) -> "Jacobian":
        """The same operator on a part of the batch dimensions; ``J[t]`` has [B] left."""
        part = copy(self)
        part.valid = None if self.valid is None else self.valid[index]
        part.coefficients = self.coefficients.map(lambda numbers: numbers[index])
        return part

    def double(self) -> "Jacobian":
        """The same operator in float64."""
        wide = copy(self)
        wide.weight_hh = self.weight_hh.double()
        wide.gram = row_gram(wide.weight_hh)
        wide.coefficients = self.coefficients.map(Tensor.double)
        return wide

    def split(self, vector: Tensor) -> State:
        """[..., S] -> state name -> [..., H].

        Raises:
            ValueError: for another last dimension.
        """
        size = self.shape[-1]
        if vector.shape[-1] != size:
            raise ValueError(
                f"vector: expected [..., {size}], the states {', '.join(self.state_names)} side by side, got "
                f"{tuple(vector.shape)}"
            )
        return dict(zip(self.state_names, vector.chunk(len(self.state_names), -1), strict=True))

    def matvec(self, v: Tensor) -> Tensor:
        """J v for v [..., T, B, S]: how a change of the state that enters changes the one that leaves.

        S is H, or 2H for the (h, c) of an LSTM, side by side; v has the layer's dtype (:meth:`double` for float64).
        """
        entering = self.split(v)
        products = self._recurrent_product(entering["h"])
        rows = self.coefficients.rows
        leaving = {name: (rows[name] * products[..., gates, :]).sum(-2) for name, gates in self.writes.items()}
        for (out, name), numbers in self.coefficients.diagonal.items():
            leaving[out] = leaving[out] + numbers * entering[name]
        self._show(leaving)
        return torch.cat([leaving[name] for name in self.state_names], -1)

    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u for u [T, B, S]: how a gradient at the state that leaves arrives at the one that entered."""
        leaving = self._within(self.split(u))
        arriving = {name: torch.zeros_like(part) for name, part in leaving.items()}
        arriving["h"] = self._recurrent_adjoint(self._gate_gradients(leaving, self.coefficients.rows))
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
        """ε: gradient at each gate's share W_hh h of its pre-activation, [..., K, H].

        Args:
            u: state name -> [..., H], gradient at the states that leave.
            rows: those of the closed form for another share (:meth:`gradflow.cells.cell.TorchCell.input_rows`).
        """
        return self._gate_gradients(self._within(dict(u)), self.coefficients.rows if rows is None else rows)

    def _gate_gradients(self, within: State, rows: State) -> Tensor:
        first, *rest = self.state_names
        epsilon = rows[first] * within[first].unsqueeze(-2)
        for name in rest:
            epsilon = epsilon + rows[name] * within[name].unsqueeze(-2)
        return epsilon

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """Turn direct gradients into total ones, δ_{t-1} = J_tᵀ δ_t + g_{t-1}, in place: the one loop over time.

        Args:
            total: state name -> [T + 1, B, H]; the last place takes what is handed on beyond the last step of `order`.
            order: every time step, against the direction of the layer.
            at_each: called with each step when its total gradients are complete; may change them before they go on.

        Returns:
            ε of every step, [T, B, K, H], see :meth:`gate_gradients`.
        """
        weight = self.weight_hh.flatten(0, 1)
        epsilon = torch.empty_like(self.coefficients.rows["h"])
        rows = {name: part.unbind(0) for name, part in self.coefficients.rows.items()}
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

    def block(self, out: str, name: str) -> Tensor:
        """The H×H block ∂out/∂name, such as ``block("c", "h")``, [T, B, H, H].

        Raises:
            KeyError: for a name that is no state of this cell.
        """
        self._check_states(out, name)
        return self._nan_past_length(self._block(out, name))

    def _block(self, out: str, name: str) -> Tensor:
        hidden = self.weight_hh.shape[1]
        zero = self.coefficients.rows[out].new_zeros(*self.shape[:-2], hidden, hidden)
        dense = self._dense_h(out) if name == "h" else zero
        if (out, name) in self.coefficients.diagonal:
            dense.diagonal(dim1=-2, dim2=-1).add_(self.coefficients.diagonal[out, name])
        return dense

    def _dense_h(self, out: str) -> Tensor:
        return torch.einsum("...ki,kij->...ij", self.coefficients.rows[out], self.weight_hh[self.writes[out]])

    def dense(self) -> Tensor:
        """[T, B, S, S]: derivative of the state produced at position t by the state that entered it."""
        rows = [torch.cat([self.block(out, name) for name in self.state_names], -1) for out in self.state_names]
        return torch.cat(rows, -2)

    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64, in O(T·B·H·K²).

        Its square is Σ_i κ_iᵀ Γ_i κ_i, κ_i the coefficients of unit i and Γ_i the Gram matrix of row i of every W_k.
        """
        squares = self._frobenius_squares().double()
        doubtful = ~((squares > 1e-24) & (squares < 1e24))
        if self.weight_hh.dtype != torch.float64 and bool(doubtful.any()):
            squares[doubtful] = self[doubtful].double()._frobenius_squares()
        return self._nan_past_length(squares.clamp_min(0).sqrt())

    def _frobenius_squares(self) -> Tensor:
        total = self.coefficients.rows["h"].new_zeros(self.shape[:-2])
        for rows in self.coefficients.rows.values():
            total += self._row_squares(rows, rows)
        for (out, name), numbers in self.coefficients.diagonal.items():
            total += numbers.square().sum(-1)
            if name == "h":
                across = self.weight_hh.diagonal(dim1=1, dim2=2).flatten()
                total += (self.coefficients.rows[out] * numbers.unsqueeze(-2)).flatten(-2) @ across.mul(2)
        return total

    def _row_squares(self, rows: Tensor, others: Tensor) -> Tensor:
        """Σ_i Σ_k Σ_{m≥k} κ_ki κ'_mi Γ_kmi over the gates k of `rows` and m of `others`, [...]."""
        total = rows.new_zeros(rows.shape[:-2])
        for k in range(rows.shape[-2]):
            total += (rows[..., k : k + 1, :] * others[..., k:, :]).flatten(-2) @ self.gram[k, k:].flatten()
        return total

    def singular_values(self) -> Tensor:
        """Of the dense J, descending, [T, B, S] float64; NaN where J is not finite."""
        dense = self.dense().double()
        finite = dense.isfinite().all(-1).all(-1)
        values = torch.linalg.svdvals(dense.masked_fill(~finite[..., None, None], 0))
        return values.masked_fill(~finite[..., None], torch.nan)

    def leading_singular_values(self, count: int) -> Tensor:
        """The largest singular values, descending, [T, B, count] float64, without forming J.

        Block Lanczos on JᵀJ until the residual is small, to a relative error of 1e-5; how sure that is stands at
        :func:`gradflow.jacobian.lanczos.leading_singular_values`. NaN where J is not finite, 0 where it is zero.

        Args:
            count: how many, 1 to S. One is cheap; several are found in float64 with as many vectors at a time.

        Raises:
            ValueError: for another `count`.

        >>> from gradflow import trace
        >>> J = trace(torch.nn.RNN(3, 40), torch.zeros(5, 4, 3))[0, 0].jacobian
        >>> bool(torch.allclose(J.leading_singular_values(2), J.singular_values()[..., :2], rtol=1e-5))
        True
        """
        size = self.shape[-1]
        if not 1 <= count <= size:
            raise ValueError(f"count: expected 1 to {size} singular values of a {size} x {size} Jacobian, got {count}")
        batch = torch.ones(self.shape[:-2], dtype=torch.bool, device=self.weight_hh.device)
        chosen = batch if self.valid is None else self.valid
        part = self[chosen] if count == 1 else self[chosen].double()
        values = torch.full((*batch.shape, count), torch.nan, dtype=torch.float64, device=batch.device)
        values[chosen] = lanczos.leading_singular_values(part, count, part.weight_hh.dtype, batch.device)
        return values

    def spectral_norm(self) -> Tensor:
        """σ_1(J), [T, B] float64, without forming J; see :meth:`leading_singular_values`."""
        return self.leading_singular_values(1).squeeze(-1)

    def log_abs_det(self) -> Tensor:
        """ln|det J|, [T, B] float64; -inf where J is singular, NaN where it is not finite.

        Without gates it is Σ ln|φ'| + ln|det W|; else it is taken from the dense matrix, a time step at a time.
        """
        rows = self.coefficients.rows["h"]
        if self.coefficients.diagonal or rows.shape[-2] > 1 or len(self.state_names) > 1:
            return self._dense_log_abs_det()
        logs = rows.double().abs().log().sum((-2, -1)) + log_abs_det_of(self.weight_hh[0].double())
        return self._nan_past_length(logs)

    def _dense_log_abs_det(self) -> Tensor:
        steps = [log_abs_det_of(self[t].dense().double()) for t in range(self.shape[0])]
        return self._nan_past_length(torch.stack(steps))

    def _check_states(self, *names: str) -> None:
        for name in names:
            if name not in self.state_names:
                raise KeyError(f"block: expected two of the states {self.state_names}, got {name!r}")

    def _nan_past_length(self, values: Tensor) -> Tensor:
        return values if self.valid is None else values.masked_fill(~_spread(self.valid, values), torch.nan)


def log_abs_det_of(matrices: Tensor) -> Tensor:
    """ln|det| of matrices [..., S, S], [...]; -inf where singular, NaN where not finite."""
    finite = matrices.isfinite().all(-1).all(-1)
    return torch.linalg.slogdet(matrices.masked_fill(~finite[..., None, None], 0)).logabsdet.masked_fill(
        ~finite, torch.nan
    )


def _spread(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(*mask.shape, *[1] * (like.dim() - mask.dim()))
