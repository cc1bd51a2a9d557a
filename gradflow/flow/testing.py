"""A check for cells of the user's own: does the step keep its contract, is the closed form the derivative?"""

from typing import Any

import torch
from torch import Tensor

from gradflow.cells.cell import Cell, State
from gradflow.cells.copying import copied, to_double
from gradflow.cells.recurrent import ReplayedCell, check_cell_names
from gradflow.checks import check_kind, real_number, whole_number
from gradflow.jacobian.autodiff import AutodiffJacobian
from gradflow.jacobian.dispatch import jacobian_of

_T, _B = 3, 4


def check_cell(cell: Cell, input_size: int, tolerance: float = 1e-8, seed: int = 0) -> None:
    """Check a cell in float64 on random inputs and states; the cell and torch's random state stay as they are.

    The step gives every state in its shape and dtype, is the same when repeated, changes nothing that it was given,
    takes each example by itself, and `steps` is the same step. If the cell has a closed form, its dense Jacobian,
    products with J and Jᵀ and Frobenius norm are those of automatic differentiation.

    Args:
        cell: any :class:`gradflow.Cell`.
        input_size: D, features of x_t.
        tolerance: greatest difference, relative to the largest of the numbers compared (or to 1).
        seed: of the inputs and states.

    Raises:
        AssertionError: saying what differs, by how much and where.

    >>> class Leaky(Cell):
    ...     hidden_size = 2
    ...     def step(self, x_t, state):
    ...         return {"h": 0.5 * state["h"] + x_t}
    >>> check_cell(Leaky(), input_size=2)
    """
    check_kind("cell", cell, Cell, "a gradflow.Cell")
    input_size, seed = whole_number("input_size", input_size, 1), whole_number("seed", seed, 0)
    real_number("tolerance", tolerance, least=0)
    kind = type(cell).__name__
    try:
        check_cell_names(cell)
        with torch.no_grad():
            own = ReplayedCell(to_double(copied(cell, lambda value: value.detach().clone())))
            _check(own, kind, *_drawn(own, input_size, seed), tolerance)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{kind}: {error}") from error


def _drawn(cell: ReplayedCell, input_size: int, seed: int) -> tuple[Tensor, State]:
    generator = torch.Generator().manual_seed(seed)

    def normal(size: int) -> Tensor:
        return torch.randn(_T, _B, size, generator=generator, dtype=torch.float64)

    return normal(input_size), {name: normal(cell.hidden_size) / 2 for name in cell.state_names}


def _check(cell: ReplayedCell, kind: str, x: Tensor, previous: State, tolerance: float) -> None:
    kept_x, kept = x.clone(), {name: part.clone() for name, part in previous.items()}
    cell.check_nothing_random(x, previous)
    new = cell.step(x, previous)
    _same(f"{kind}.step changed its input, which it is to leave alone: x_t", x, kept_x, 0)
    for name, part in previous.items():
        _same(f"{kind}.step changed its input, which it is to leave alone: state {name!r}", part, kept[name], 0)
    for name, part in new.items():
        if part.dtype != torch.float64:
            raise AssertionError(f"{kind}.step: expected state {name!r} in float64 as its inputs are, got {part.dtype}")
    for name, part in cell.step(x, previous).items():
        _same(f"{kind}.step, repeated, gives another state {name!r}", part, new[name], 0)
    for t in range(_T):
        for b in range(_B):
            alone = cell.step(x[t, b : b + 1], {name: part[t, b : b + 1] for name, part in previous.items()})
            for name, part in alone.items():
                what = f"{kind}.step is to take each example by itself, but alone example {b} gives another {name!r}"
                _same(what, part[0], new[name][t, b], tolerance)
    steps = cell.cell.steps(x)
    for t in range(_T):
        for name, part in steps(t, {name: part[t] for name, part in previous.items()}).items():
            _same(f"{kind}.steps gives another state {name!r} than step", part, new[name][t], tolerance)
    _check_jacobian(cell, kind, x, previous, new, tolerance)


def _check_jacobian(cell: ReplayedCell, kind: str, x: Tensor, previous: State, new: State, tolerance: float) -> None:
    gates = cell.gates(x, previous)
    closed, slow = jacobian_of(cell, x, gates, new, previous), AutodiffJacobian(cell, x, previous)
    for out in cell.state_names:
        for name in cell.state_names:
            what = f"{kind}: the closed form of ∂{out}/∂{name} is not the derivative of step"
            _same(what, closed.block(out, name), slow.block(out, name), tolerance)
    dense = slow.dense()
    v = torch.linspace(-1, 1, dense.shape[-1], dtype=torch.float64).expand(dense.shape[:-1])
    matrix_product, transposed = (dense @ v.unsqueeze(-1)).squeeze(-1), (dense.mT @ v.unsqueeze(-1)).squeeze(-1)
    for method, jacobian in (("the closed form", closed), ("automatic differentiation", slow)):
        _same(f"{kind}: J v by {method} is not that of the matrix", jacobian.matvec(v), matrix_product, tolerance)
        _same(f"{kind}: Jᵀ u by {method} is not that of the matrix", jacobian.rmatvec(v), transposed, tolerance)
        norm = torch.linalg.matrix_norm(dense)
        _same(f"{kind}: ‖J‖_F by {method} is not that of the matrix", jacobian.frobenius_norm(), norm, tolerance)


def _same(what: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise with the place of the largest difference, unless there is none beyond the tolerance."""
    difference = (found - expected).abs()
    allowed = tolerance * max(1.0, float(expected.abs().max()))
    if bool((difference <= allowed).all()):
        return
    worst = torch.where(difference.isnan(), torch.inf, difference).argmax()
    place: Any = torch.unravel_index(worst, difference.shape)
    place = tuple(int(index) for index in place)
    raise AssertionError(
        f"{what}: {float(found[place]):.6g} against {float(expected[place]):.6g}, a difference of "
        f"{float(difference[place]):.3g} (allowed {allowed:.3g}) at index {place} of {tuple(found.shape)}"
    )
