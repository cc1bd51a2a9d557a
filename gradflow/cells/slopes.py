"""Derivatives of activations from their values, times what comes after them, written where they are needed.

Each is one pass over memory, by the kernels of torch's own backward pass, since a pass costs more than its arithmetic:
written as plain expressions, the closed forms of LSTM and GRU take two to three times as long.
"""

from typing import Any

import torch
from torch import Tensor

_SIGMOID: Any = torch.ops.aten.sigmoid_backward.grad_input
_TANH: Any = torch.ops.aten.tanh_backward.grad_input


def empty_rows(like: Tensor, gates: int) -> Tensor:
    """Room for the rows of so many gates, [..., K, H]."""
    return like.new_empty(*like.shape[:-1], gates, like.shape[-1])


def sigmoid_slope(value: Tensor, times: Tensor, out: Tensor) -> Tensor:
    """The derivative s (1 - s) of a sigmoid of value s, times something, in `out`, which may be `times`."""
    return _SIGMOID(times, value, grad_input=out)


def tanh_slope(value: Tensor, times: Tensor, out: Tensor) -> Tensor:
    """The derivative 1 - t² of a tanh of value t, times something, in `out`, which may be `times`."""
    return _TANH(times, value, grad_input=out)
