"""The closed forms of a Jacobian: the numbers in them, for all steps and examples at once.

Shapes: H hidden size, K gates; ``...`` are the steps and examples. For a state o and the gates k that write to it

    ∂o_t/∂h_{t-1} = Σ_k diag(rows[o, k]) W_k + diag(diagonal[o, h]),    ∂o_t/∂c_{t-1} = diag(diagonal[o, c])

and two cells need a little more. Which operator belongs to which form stands in :mod:`gradflow.jacobian.dispatch`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Self

from torch import Tensor

from gradflow.checks import require


class Form:
    """A closed form of the Jacobian; its kinds are dataclasses of tensors and of dicts of tensors."""

    diagonal: dict[tuple[str, str], Tensor]

    @property
    def states(self) -> set[str]:
        """The names of the states in it."""
        return set(chain.from_iterable(self.diagonal))

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same form with every tensor changed."""
        changed = {}
        for name, part in vars(self).items():
            several = isinstance(part, dict)
            changed[name] = {key: change(numbers) for key, numbers in part.items()} if several else change(part)
        return type(self)(**changed)


@dataclass(frozen=True)
class Diagonal(Form):
    """Of a cell whose units do not meet, so without weight rows.

    Attributes:
        diagonal: (output state, input state) -> [..., H]; absent pairs are zero.
    """

    diagonal: dict[tuple[str, str], Tensor]


@dataclass(frozen=True)
class Rows(Form):
    """A sum of (number × weight row), and a diagonal.

    Attributes:
        rows: output state -> [..., K, H], the factor of row i of ``W_hh`` of gate k in unit i of that state. K counts
            the gates that write to it (:attr:`gradflow.cells.cell.TorchCell.writes`).
        diagonal: (output state, input state) -> [..., H]; absent pairs are zero.
    """

    rows: dict[str, Tensor]
    diagonal: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    @property
    def states(self) -> set[str]:
        """The names of the states in it."""
        return super().states | set(self.rows)


@dataclass(frozen=True)
class ShownRows(Rows):
    """Of the LSTM, whose h is a view of c: `rows` and `diagonal` are those of c, and of h with c held fixed.

    Attributes:
        shown: [..., H], ∂h_t/∂c_t of the same step.
    """

    shown: Tensor = field(kw_only=True)


@dataclass(frozen=True)
class ResetRows(Rows):
    """Of the original GRU, whose reset gate acts before the product with the last gate's ``W_hh``.

    Attributes:
        reset: [..., H], what multiplies h before that product.
    """

    reset: Tensor = field(kw_only=True)


class Coefficients(Form):
    """How a cell of the user's own states the closed form of its Jacobian: gives the form that the numbers make.

    A cell whose units do not meet (a diagonal recurrence) has a `diagonal` only. A cell that gives `rows` has a state h
    and ``weight_hh`` [K·H, H]; it may leave out states without rows, and the dimension of the examples where the
    numbers are the same for all.

    Args:
        rows: output state -> [..., K, H], the factor of row i of ``W_hh`` of gate k in unit i of that state. K counts
            all gates, unless the cell has `writes` (:attr:`gradflow.cells.cell.TorchCell.writes`).
        diagonal: (output state, input state) -> [..., H]; absent pairs are zero.
        shown: [..., H], ∂h_t/∂c_t of the same step, where h is a view of c; `rows` and `diagonal` then are those of c,
            and of h with c held fixed.
        reset: [..., H], what multiplies h before its product with the last gate's ``W_hh``.
    """

    def __new__(  # type: ignore[misc]
        cls,
        rows: dict[str, Tensor] | None = None,
        diagonal: dict[tuple[str, str], Tensor] | None = None,
        shown: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Form:
        """The form; a class and no function, so that it may stand in annotations."""
        for name, part in {"rows": rows, "diagonal": diagonal}.items():
            whole = part is None or (isinstance(part, dict) and all(isinstance(n, Tensor) for n in part.values()))
            require(whole, name, "a dict of tensors, or None", part)
        require(bool(rows or diagonal), "rows, diagonal", "at least one of them", rows)
        diagonal = diagonal or {}
        if not rows:
            return Diagonal(diagonal)
        if shown is not None:
            return ShownRows(rows, diagonal, shown=shown)
        return Rows(rows, diagonal) if reset is None else ResetRows(rows, diagonal, reset=reset)
