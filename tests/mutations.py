"""Nine bugs that one makes with gradients of recurrent networks, each to be planted by itself: a test of the tests.

``GRADFLOW_MUTATION=transposed_weight python -m pytest tests`` plants one (see conftest.py); test_mutations.py, all.
A place that a bug is planted in and that no longer exists is an error, so a mutant cannot die of old age.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from gradflow.cells.forms import Rows
from gradflow.cells.rnn import LinearCell, TanhCell
from gradflow.flow import adjoint, horizons, seen
from gradflow.flow.metrics import log_norm
from gradflow.jacobian.rows import RowsJacobian, WeightedJacobian
from gradflow.recording import rows


def change(owner: object, name: str, make: Callable) -> None:
    """Replace a function by what `make` makes of it."""
    setattr(owner, name, make(getattr(owner, name)))


def square_of_the_difference():
    """(1 - h)² instead of 1 - h²."""
    change(TanhCell, "derivative", lambda old: staticmethod(lambda h: (1 - h) ** 2))


def transposed_weight():
    """Wᵀ instead of W."""

    def make(old):
        def init(self, *args, **kwargs):
            old(self, *args, **kwargs)
            self.weight_hh = self.weight_hh.transpose(-1, -2).contiguous()

        return init

    change(WeightedJacobian, "__init__", make)


def derivative_on_the_wrong_side():
    """W diag(φ') instead of diag(φ') W, of the cells without gates."""

    def without_gates(self):
        return len(self.weight_hh) == 1

    def phi(self):
        return self.coefficients.rows["h"].squeeze(-2)

    def backward(self, total, order):
        epsilon = torch.empty_like(self.coefficients.rows["h"])
        for t, following in zip(order, [*order[1:], len(order)], strict=True):
            epsilon[t] = total["h"][t].unsqueeze(-2)
            total["h"][following] += phi(self)[t] * (total["h"][t] @ self.weight_hh[0])
        return epsilon

    wrong = {
        "matvec": lambda self, v: (phi(self) * v) @ self.weight_hh[0].t(),
        "rmatvec": lambda self, u: phi(self) * (u @ self.weight_hh[0]),
        "_dense_h": lambda self, out: self.weight_hh[0] * phi(self).unsqueeze(-2),
        "frobenius_norm": lambda self: torch.linalg.matrix_norm(self.dense().double()),
        "backward_": backward,
    }
    for name, function in wrong.items():
        change(
            RowsJacobian, name, lambda old, f=function: lambda self, *a: (f if without_gates(self) else old)(self, *a)
        )


def derivative_of_the_state_before():
    """φ' from h_{t-1} instead of h_t."""

    def coefficients(self, gates, state, previous):
        return Rows({"h": self.derivative(previous["h"]).unsqueeze(-2)})

    change(LinearCell, "coefficients", lambda old: coefficients)


def derivative_forgotten():
    """The Jacobian of a tanh cell is W."""
    change(TanhCell, "derivative", lambda old: staticmethod(torch.ones_like))


def product_order_reversed():
    """J_{start+1} … J_stop instead of J_stop … J_{start+1}."""

    def make(old):
        def product(J, start, stop):
            order = torch.arange(J.shape[0])
            order[start + 1 : stop + 1] = order[start + 1 : stop + 1].flip(0)
            return old(J[order], start, stop)

        return product

    change(horizons, "jacobian_product", make)


def direct_gradient_dropped():
    """Of the direct gradients g_t only that of the last position arrives."""

    def make(old):
        def descend(trace, arrived, *run):
            if "output" in arrived and not trace.call.packed:
                only = torch.zeros_like(arrived["output"])
                trace.call.time_major(only)[-1] = trace.call.time_major(arrived["output"])[-1]
                arrived = {**arrived, "output": only}
            return old(trace, arrived, *run)

        return descend

    for module in (adjoint, seen):
        change(module, "descend", make)


def gradient_of_the_fused_output():
    """What autograd leaves on the output of a fused layer, taken for the total gradient."""

    def make(old):
        def state_gradients(*args, **kwargs):
            return {
                key: replace(
                    found,
                    value={**found.value, **found.direct},
                    log_norm={**found.log_norm, **{name: log_norm(part) for name, part in found.direct.items()}},
                )
                for key, found in old(*args, **kwargs).items()
            }

        return state_gradients

    change(adjoint, "state_gradients", make)


def mean_of_the_batch_kept():
    """Gradients of a mean-reduced loss keep their factor 1/B."""
    change(rows, "measure", lambda old: lambda step, blocks, names, factor: old(step, blocks, names, 0.0))


MUTATIONS = {
    function.__name__: function
    for function in (
        square_of_the_difference,
        transposed_weight,
        derivative_on_the_wrong_side,
        derivative_of_the_state_before,
        derivative_forgotten,
        product_order_reversed,
        direct_gradient_dropped,
        gradient_of_the_fused_output,
        mean_of_the_batch_kept,
    )
}
