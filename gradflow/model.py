"""The sequence classifier of the lecture: a recurrent layer, and a linear read-out of its final states."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from gradflow.config import CellName, Config
from gradflow.initialisation import initialise_
from gradflow.layers import GRU, LinearRNN, RecurrentLayer

_LAYERS: dict[str, type[nn.Module]] = {
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
        recurrent: the recurrent layer, `batch_first`.
        classes: number of classes.
    """

    def __init__(self, recurrent: nn.Module, classes: int):
        super().__init__()
        self.recurrent = recurrent
        self.directions = 2 if recurrent.bidirectional else 1
        self.read_out = nn.Linear(self.directions * int(recurrent.hidden_size), classes)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Scores (logits), [B, C].

        Args:
            inputs: [B, T] indices of characters; what stands past an example's length has no effect.
            lengths: [B] int64, on the CPU.
        """
        return self.scores(self._encoded(inputs, lengths))

    def scores(self, encoded: Tensor | PackedSequence) -> Tensor:
        """Scores [B, C] from what the recurrent layer takes: one-hot [B, T, D], indices [B, T], or packed."""
        finals = self.recurrent(encoded)[1]
        h_n = finals[0] if isinstance(finals, tuple) else finals
        top = h_n[-self.directions :]
        return self.read_out(top.transpose(0, 1).flatten(1))

    def _encoded(self, inputs: Tensor, lengths: Tensor) -> Tensor | PackedSequence:
        """Packed if ragged; one-hot for torch's kernels, indices for gradflow's layers, which look them up."""
        ragged = int(lengths.min()) < inputs.shape[1]
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False) if ragged else None
        data = inputs if packed is None else packed.data
        if not isinstance(self.recurrent, RecurrentLayer):
            data = one_hot(data, int(self.recurrent.input_size), self.read_out.weight.dtype)  # type: ignore[arg-type]
        return data if packed is None else packed._replace(data=data)


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
        batch_first=True,
        **options,
    )
    initialise_(recurrent, init.name, init.gain, init.forget_bias, init.update_bias)
    return SequenceClassifier(recurrent, classes).to(device=config.device, dtype=getattr(torch, config.dtype))
