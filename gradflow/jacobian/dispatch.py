"""The Jacobian of a cell: which operator belongs to which closed form."""

from torch import Tensor

from gradflow.cells.cell import State, TorchCell
from gradflow.cells.forms import Diagonal, ResetRows, Rows, ShownRows
from gradflow.cells.recurrent import ReplayedCell
from gradflow.jacobian.autodiff import AutodiffJacobian
from gradflow.jacobian.diagonal import DiagonalJacobian
from gradflow.jacobian.lstm import LSTMJacobian
from gradflow.jacobian.operator import Jacobian
from gradflow.jacobian.reset_before import ResetBeforeJacobian
from gradflow.jacobian.rows import RowsJacobian


def jacobian_of(
    cell: TorchCell | ReplayedCell, x: Tensor, gates: State, states: State, previous: State, valid: Tensor | None = None
) -> Jacobian:
    """The Jacobian of a cell at given activations, [T, B, ...] each: by its closed form if it has one."""
    match cell.coefficients(gates, states, previous):
        case None:
            return AutodiffJacobian(cell, x, previous, valid)
        case Diagonal() as form:
            return DiagonalJacobian(cell.state_names, form, valid)
        case ShownRows() as form:
            return LSTMJacobian(cell, form, valid)
        case ResetRows() as form:
            return ResetBeforeJacobian(cell, form, valid)
        case Rows() as form:
            return RowsJacobian(cell, form, valid)
        case other:
            raise TypeError(f"{type(cell).__name__}.coefficients: expected a closed form or None, got {other!r}")
