"""Dropout between the layers of a stack: the masks of one forward pass, drawn again from its random state."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gradflow.cells.layers import is_fused


@dataclass(frozen=True)
class Dropout:
    """What the masks of one forward pass depend on.

    Attributes:
        probability: of an element being dropped.
        random_state: of the generator of the layer's device, as that pass found it.
        device: on which the masks were drawn.
    """

    probability: float
    random_state: Tensor
    device: torch.device

    def scales(self, shape: tuple[int, ...], dtype: torch.dtype, count: int) -> list[Tensor]:
        """The first `count` masks over ``1 - probability``, each of this shape; the random state stays as it is."""
        ones = torch.ones(shape, dtype=dtype, device=self.device)
        with _random_state(self.device, self.random_state):
            return [F.dropout(ones, self.probability) for _ in range(count)]


def active_dropout(layer: Any, name: str = "layer") -> Dropout | None:
    """To be asked just before a forward pass of a supported layer; None if it will drop nothing between its layers.

    Raises:
        NotImplementedError: for a layer of torch that is not on a CPU, where the masks cannot be drawn again.
    """
    if not layer.dropout or not layer.training or layer.num_layers == 1:
        return None
    device = layer.weight_ih_l0.device
    if device.type != "cpu" and is_fused(layer):
        raise NotImplementedError(
            f"{name}: dropout={layer.dropout} between layers cannot be replayed on {device.type}, where the kernel "
            f"(cuDNN) keeps its masks to itself; use dropout=0, gradflow's own layers, or layers of one with "
            f"torch.nn.Dropout between them"
        )
    state = torch.get_rng_state() if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
    return Dropout(layer.dropout, state, device)


@contextmanager
def _random_state(device: torch.device, state: Tensor) -> Iterator[None]:
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            yield
    else:
        with torch.random.fork_rng(devices=[device], device_type=device.type):
            torch.get_device_module(device).set_rng_state(state, device)
            yield
