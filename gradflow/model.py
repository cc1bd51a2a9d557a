"""The sequence classifier of the lecture: a recurrent layer, and a linear read-out of its final states."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from gradflow.config import CellName, Config
from gradflow.initialisation import initialise_
from gradflow.layers import GRU, LinearRNN, RecurrentLayer

_LAYERS: dict[str, Callable[..., nn.Module]] = {
    "linear": LinearRNN,
    "rnn": nn.RNN,
    "rnn_relu": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "gru_before": GRU,
}


class SequenceClassifier(nn.Module):
    """Reads characters, answers with one score per class from the final state of each direction of the top layer.

    Args:
        recurrent: the recurrent layer, time first.
        classes: number of classes.
    """

    def __init__(self, recurrent: Any, classes: int):
        super().__init__()
        self.recurrent = recurrent
        self.directions = 2 if recurrent.bidirectional else 1
        self.read_out = nn.Linear(self.directions * recurrent.hidden_size, classes)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Scores (logits), [B, C].

        A layer that only runs forward takes the padded batch and is read at each example's last character, which the
        padding behind it cannot reach; two directions are packed, so that the reverse one starts there.

        Args:
            inputs: [B, T] indices of characters; what stands past an example's length has no effect.
            lengths: [B] int64, on the CPU.
        """
        x = self.encode(inputs.t())
        if self.directions == 2:
            return self.scores(pack_padded_sequence(x, lengths, enforce_sorted=False))
        output, _ = self.recurrent(x)
        return self.read_out(output[lengths - 1, torch.arange(len(lengths))])

    def encode(self, inputs: Tensor) -> Tensor:
        """From indices [T, B] what the layer takes: one-hot vectors for torch's; gradflow's own look indices up."""
        if isinstance(self.recurrent, RecurrentLayer):
            return inputs
        return one_hot(inputs, self.recurrent.input_size, self.read_out.weight.dtype)

    def scores(self, encoded: Tensor | PackedSequence) -> Tensor:
        """Scores [B, C] from the final states after all of `encoded`, one-hot [T, B, D], indices [T, B], or packed."""
        finals = self.recurrent(encoded)[1]
        h_n = finals[0] if isinstance(finals, tuple) else finals
        return self.read_out(h_n[-self.directions :].transpose(0, 1).flatten(1))


def one_hot(indices: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """One-hot vectors [..., D] of indices [...], made in `dtype` at once (``F.one_hot`` goes through int64)."""
    return torch.zeros(*indices.shape, size, dtype=dtype, device=indices.device).scatter_(-1, indices.unsqueeze(-1), 1)


def build_model(config: Config, input_size: int, classes: int) -> SequenceClassifier:
    """The model of a configuration, freshly initialised from torch's current random state.

    Args:
        config: its cell, init, dtype and device are used.
        input_size: number of characters.
        classes: number of classes.
    """
    cell, init = config.cell, config.init
    options = {"nonlinearity": "relu"} if cell.name == CellName.rnn_relu else {}
    recurrent = _LAYERS[cell.name](
        input_size,
        cell.hidden_size,
        num_layers=cell.num_layers,
        bidirectional=cell.bidirectional,
        **options,
    )
    initialise_(recurrent, init.name, init.gain, init.forget_bias, init.update_bias)
    return SequenceClassifier(recurrent, classes).to(device=config.device, dtype=getattr(torch, config.dtype))
