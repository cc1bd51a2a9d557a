"""Networks with given recurrent weights, in float64, for the exact results.

Shapes: T time steps, B examples, H hidden size.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from gradflow.cells.layers import RNN, LinearRNN
from gradflow.checks import whole_number
from gradflow.flow.adjoint import StateGradients, state_gradients
from gradflow.flow.replay import Trace, trace

LAYERS: dict[str, type[RNN] | type[LinearRNN]] = {"linear": LinearRNN, "rnn": RNN}


def generator(*seeds: int) -> torch.Generator:
    """A source of random numbers that other seeds do not share.

    Example:
        >>> a, b = (torch.rand(1, generator=generator(0, seed)) for seed in (1, 2))
        >>> bool(a == b)
        False
    """
    seeds = tuple(whole_number("seed", seed, 0) for seed in seeds)
    return torch.Generator().manual_seed(sum(seed * 1_000_003**i for i, seed in enumerate(seeds)))


Layer = TypeVar("Layer", bound=nn.Module)


def seeded(make: Callable[[], Layer], *seeds: int) -> Layer:
    """A layer as torch starts it, by its own draws; torch's source of random numbers goes on as if there were none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(*seeds).initial_seed())
        return make()


def gaussian(size: int, source: torch.Generator) -> Tensor:
    """[size, size], independent elements of N(0, 1/size): gain 1."""
    return torch.randn(size, size, generator=source, dtype=torch.float64) / size**0.5


def orthogonal(size: int, source: torch.Generator) -> Tensor:
    """[size, size], a random orthogonal matrix."""
    return torch.linalg.qr(gaussian(size, source)).Q


def log_radius(weight: Tensor) -> float:
    """Natural log of the spectral radius ρ, the largest modulus of an eigenvalue."""
    return float(torch.linalg.eigvals(weight).abs().max().log())


@torch.no_grad()
def traced(cell: str, weight: Tensor, x: Tensor, h_0: Tensor | None = None) -> Trace:
    """Run h_t = φ(W h_{t-1} + x_t) and replay it.

    Args:
        cell: `linear` or `rnn` (tanh).
        weight: W, [H, H].
        x: [T, B, H], what is added to every unit.
        h_0: [B, H]; None: zeros.
    """
    size = len(weight)
    layer = LAYERS[cell](size, size, bias=False, dtype=torch.float64)
    layer.load_state_dict({"weight_ih_l0": torch.eye(size), "weight_hh_l0": weight})
    return trace(layer, x, None if h_0 is None else h_0.unsqueeze(0))


def gradients_of_last(seen: Trace, direct: Tensor | float = 1.0) -> StateGradients:
    """Gradients at every state of a loss that reads the last output only, through `direct` [B, H] or a number."""
    states = seen[0, 0].states["h"]
    at_output = torch.zeros_like(states)
    at_output[-1] = direct
    return state_gradients(seen, at_output)[0, 0]
