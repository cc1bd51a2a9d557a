"""The chain rule through an RNN with its numbers: what tanh' and W_hh leave of one gradient at each of ten steps back.

The gradient at h_{t-1} is W_hhᵀ diag(tanh'(a_t)) δ_t. Its norm relative to that of δ_t is what tanh' leaves of δ_t,
times what W_hhᵀ leaves of that; the product over all steps is what the matrix ∏ diag(tanh') W_hh leaves of the last δ.
"""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import nn

from gradflow.flow.replay import trace
from gradflow.theory.networks import generator, gradients_of_last, seeded
from gradflow.theory.unrolled import SIZE, SYMBOLS, read_out, symbols

STEPS, SHOWN = 10, 4


@torch.no_grad()
def chain_of_jacobians(seed: int = 0) -> pd.DataFrame:
    """One gradient on its way back through an untrained torch.nn.RNN (H = 64) that has read eleven symbols.

    Args:
        seed: of the network and of what it reads.

    Returns:
        Rows with the columns quantity, time (of the state that the step goes back from; the first is 1), row, column,
        measured, expected:

        `tanh`: ‖diag(tanh'(a_t)) δ_t‖ / ‖δ_t‖ at every step; expected NaN.
        `weights`: ‖W_hhᵀ diag(tanh'(a_t)) δ_t‖ / ‖diag(tanh'(a_t)) δ_t‖; expected NaN.
        `factor`: ‖δ_{t-1}‖ / ‖δ_t‖ of gradflow's gradients; expected is the product of the two.
        `product`: ‖δ_1‖ / ‖δ_T‖ of these; expected is ‖Mᵀ δ_T‖ / ‖δ_T‖ by M, the product of all ten Jacobians.
        `derivative`: tanh'(a_T) of the first units, on the diagonal (row, column).
        `weight`: the same corner of W_hh.
    """
    layer = seeded(lambda: nn.RNN(SYMBOLS, SIZE, dtype=torch.float64), seed, 0)
    source = generator(seed, 0)
    seen = trace(layer, symbols(source)[: STEPS + 1, :1])
    delta = gradients_of_last(seen, read_out(source)[:1]).value["h"][:, 0]
    slope, weight = 1 - seen[0, 0].states["h"][:, 0] ** 2, layer.all_weights[0][1]
    rows = [*_factors(delta, slope, weight), _product(delta, slope, weight), *_corner(slope[-1], weight)]
    return pd.DataFrame(rows, columns=["quantity", "time", "row", "column", "measured", "expected"])


def _factors(delta: torch.Tensor, slope: torch.Tensor, weight: torch.Tensor) -> Iterator[dict[str, str | float]]:
    for step in range(STEPS, 0, -1):
        after_tanh = slope[step] * delta[step]
        shares = {
            "tanh": float(after_tanh.norm() / delta[step].norm()),
            "weights": float((weight.T @ after_tanh).norm() / after_tanh.norm()),
        }
        for quantity, share in shares.items():
            yield {"quantity": quantity, "time": step + 1, "measured": share}
        factor = float(delta[step - 1].norm() / delta[step].norm())
        expected = shares["tanh"] * shares["weights"]
        yield {"quantity": "factor", "time": step + 1, "measured": factor, "expected": expected}


def _product(delta: torch.Tensor, slope: torch.Tensor, weight: torch.Tensor) -> dict[str, str | float]:
    jacobians = [slope[step, :, None] * weight for step in range(STEPS, 0, -1)]
    left = torch.linalg.multi_dot(jacobians).T @ delta[-1]
    measured, expected = (float(gradient.norm() / delta[-1].norm()) for gradient in (delta[0], left))
    return {"quantity": "product", "time": STEPS + 1, "measured": measured, "expected": expected}


def _corner(slope: torch.Tensor, weight: torch.Tensor) -> Iterator[dict[str, str | float]]:
    for row in range(SHOWN):
        yield {"quantity": "derivative", "row": row, "column": row, "measured": float(slope[row])}
        for column in range(SHOWN):
            yield {"quantity": "weight", "row": row, "column": column, "measured": float(weight[row, column])}
