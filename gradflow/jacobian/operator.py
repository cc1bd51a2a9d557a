"""The state Jacobian J_t = ∂s_t/∂s_{t-1} of a recurrent layer, for all steps and examples at once, as an operator.

Nothing dense is formed unless asked. Here is what all Jacobians share; what kinds there are, and which is whose, stands
in :mod:`gradflow.jacobian.dispatch`.

Shapes: T time steps, B examples, H hidden size, K gates, S state size (H, or 2H for the LSTM's (h, c)).
Past an example's length, norms and dense matrices are NaN and products are 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.cells.forms import Form
from gradflow.checks import check_kind
from gradflow.jacobian import lanczos

AnyForm = TypeVar("AnyForm", bound=Form)


class Jacobian(ABC):
    """J over batch dimensions [T, B].

    Args:
        state_names: of the states, side by side in a vector.
        valid: [T, B] bool, False past an example's length; None if every step is valid.

    Attributes:
        reverse: whether the layer runs from the last position to the first; set by whoever knows.
    """

    reverse = False
    norm_is_dense: ClassVar[bool] = False
    """Whether the Frobenius norm needs the dense matrix."""

    def __init__(self, state_names: tuple[str, ...], valid: Tensor | None):
        self.state_names, self.valid = state_names, valid

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """Some of its numbers, [T, B, ..., H], for size, dtype and device."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(T, B, S, S)."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Self:
        """The same operator on a part of the batch dimensions; ``J[t]`` has [B] left."""

    @abstractmethod
    def double(self) -> Self:
        """The same operator in float64."""

    @abstractmethod
    def matvec(self, v: Tensor) -> Tensor:
        """J v for v [..., T, B, S]: how a change of the state that enters changes the one that leaves.

        S is H, or 2H for the (h, c) of an LSTM, side by side; v has the layer's dtype (:meth:`double` for float64).
        """

    @abstractmethod
    def rmatvec(self, u: Tensor) -> Tensor:
        """Jᵀ u for u [..., T, B, S]: how a gradient at the state that leaves arrives at the one that entered."""

    @property
    def rows(self) -> State:
        """The factors of the weight rows, see :class:`gradflow.cells.forms.Rows`; none where no gate is known."""
        return {}

    @property
    def shown(self) -> Tensor | None:
        """∂h_t/∂c_t of the same step, [T, B, H], where h is a view of c; None: it is not."""
        return None

    def gate_gradients(self, u: Mapping[str, Tensor], rows: State | None = None) -> Tensor:
        """ε: gradient at each gate's share W_hh h of its pre-activation, [..., K, H]; K = 0 where no gate is known.

        Args:
            u: state name -> [..., H], gradient at the states that leave.
            rows: those of the closed form for another share (:meth:`gradflow.cells.cell.TorchCell.input_rows`).
        """
        first = u[self.state_names[0]]
        return first.new_empty(*first.shape[:-1], 0, first.shape[-1])

    def backward_(self, total: State, order: Sequence[int], at_each: Callable[[int], None] | None = None) -> Tensor:
        """Turn direct gradients into total ones, δ_{t-1} = J_tᵀ δ_t + g_{t-1}, in place: the one loop over time.

        Args:
            total: state name -> [T + 1, B, H]; the last place takes what is handed on beyond the last step of `order`.
            order: every time step, against the direction of the layer.
            at_each: called with each step when its total gradients are complete; may change them before they go on.

        Returns:
            ε of every step, [T, B, K, H], see :meth:`gate_gradients`.
        """
        for t, following in pairwise([*order, len(order)]):
            if at_each is not None:
                at_each(t)
            arriving = torch.cat([total[name][t] for name in self.state_names], -1)
            for name, part in self.split(self[t].rmatvec(arriving)).items():
                total[name][following] += part
        return self.gate_gradients({name: part[:-1] for name, part in total.items()})

    @abstractmethod
    def block(self, out: str, name: str) -> Tensor:
        """The H×H block ∂out/∂name, such as ``block("c", "h")``, [T, B, H, H].

        Raises:
            KeyError: for a name that is no state of this cell.
        """

    @abstractmethod
    def frobenius_norm(self) -> Tensor:
        """Exact ‖J‖_F, [T, B] float64."""

    def split(self, vector: Tensor) -> State:
        """[..., S] -> state name -> [..., H].

        Raises:
            ValueError: for another last dimension.
        """
        check_kind("vector", vector, Tensor, "a tensor")
        size = self.shape[-1]
        if vector.dim() == 0 or vector.shape[-1] != size:
            raise ValueError(
                f"vector: expected [..., {size}], the states {', '.join(self.state_names)} side by side, got "
                f"{tuple(vector.shape)}"
            )
        return dict(zip(self.state_names, vector.chunk(len(self.state_names), -1), strict=True))

    def dense(self) -> Tensor:
        """[T, B, S, S]: derivative of the state produced at position t by the state that entered it."""
        rows = [torch.cat([self.block(out, name) for name in self.state_names], -1) for out in self.state_names]
        return torch.cat(rows, -2)

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
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= size:
            raise ValueError(f"count: expected 1 to {size} singular values of a {size} x {size} Jacobian, got {count}")
        batch = torch.ones(self.shape[:-2], dtype=torch.bool, device=self.like.device)
        chosen = batch if self.valid is None else self.valid
        part = self[chosen] if count == 1 else self[chosen].double()
        values = torch.full((*batch.shape, count), torch.nan, dtype=torch.float64, device=batch.device)
        values[chosen] = lanczos.leading_singular_values(part, count, part.like.dtype, batch.device)
        return values

    def spectral_norm(self) -> Tensor:
        """σ_1(J), [T, B] float64, without forming J; see :meth:`leading_singular_values`."""
        return self.leading_singular_values(1).squeeze(-1)

    def log_abs_det(self) -> Tensor:
        """ln|det J|, [T, B] float64; -inf where J is singular, NaN where it is not finite.

        From the dense matrix, a time step at a time, unless the closed form gives it.
        """
        steps = [log_abs_det_of(self[t].dense().double()) for t in range(self.shape[0])]
        return self._nan_past_length(torch.stack(steps))

    def _check_states(self, *names: str) -> None:
        for name in names:
            if name not in self.state_names:
                raise KeyError(f"block: expected two of the states {self.state_names}, got {name!r}")

    def _nan_past_length(self, values: Tensor) -> Tensor:
        return values if self.valid is None else values.masked_fill(~_spread(self.valid, values), torch.nan)


class ClosedFormJacobian(Jacobian, Generic[AnyForm]):
    """J from the numbers of its closed form.

    Args:
        state_names: of the states, side by side in a vector.
        coefficients: numbers of the closed form at every (t, b).
        valid: [T, B] bool, False past an example's length; None if every step is valid.
    """

    def __init__(self, state_names: tuple[str, ...], coefficients: AnyForm, valid: Tensor | None):
        super().__init__(state_names, valid)
        self.coefficients = coefficients
        if valid is not None:
            self.coefficients = coefficients.map(lambda numbers: numbers.masked_fill(~_spread(valid, numbers), 0))

    def __getitem__(self, index: Any) -> Self:
        """The same operator on a part of the batch dimensions; ``J[t]`` has [B] left."""
        part = copy(self)
        part.valid = None if self.valid is None else self.valid[index]
        part.coefficients = self.coefficients.map(lambda numbers: numbers[index])
        return part

    def double(self) -> Self:
        """The same operator in float64."""
        wide = copy(self)
        wide.coefficients = self.coefficients.map(Tensor.double)
        return wide


def log_abs_det_of(matrices: Tensor) -> Tensor:
    """ln|det| of matrices [..., S, S], [...]; -inf where singular, NaN where not finite."""
    finite = matrices.isfinite().all(-1).all(-1)
    return torch.linalg.slogdet(matrices.masked_fill(~finite[..., None, None], 0)).logabsdet.masked_fill(
        ~finite, torch.nan
    )


def _spread(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(*mask.shape, *[1] * (like.dim() - mask.dim()))
