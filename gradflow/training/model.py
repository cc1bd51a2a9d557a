"""The model of every experiment: a recurrent layer, and a linear read-out of its final states or of all of them."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gradflow.cells.facts import CELLS
from gradflow.cells.layers import is_fused
from gradflow.checks import check_flags, check_kind, whole_number
from gradflow.config import Config, InitName
from gradflow.remedies.initialisation import STD, initialise_


class SequenceModel(nn.Module):
    """Reads a sequence, answers from the final state of each direction of the top layer, or at every position.

    Args:
        recurrent: the recurrent layer, time first.
        outputs: how many numbers an answer has: one score per class, or the values themselves.
        everywhere: answer at every position.
        truncate: time steps after which backpropagation is cut, counted from the end, where every example must end;
            None: not at all. The layer is then called once for each stretch, with the states of the one before and
            without their graph (truncated backpropagation through time; Williams & Peng 1990, Neural Comput. 2, 490).
    """

    def __init__(self, recurrent: Any, outputs: int, everywhere: bool = False, truncate: int | None = None):
        super().__init__()
        self.recurrent, self.everywhere, self.truncate = recurrent, everywhere, truncate
        self.directions = 2 if recurrent.bidirectional else 1
        self.read_out = nn.Linear(self.directions * recurrent.hidden_size, outputs)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Scores (logits) or values, [B, C]; [B, T, C] with an answer at every position.

        A layer that only runs forward takes the padded batch and is read at each example's last step, which the
        padding behind it cannot reach; two directions are packed, so that the reverse one starts there.

        Args:
            inputs: [B, T] indices or [B, T, D]; what stands past an example's length has no effect.
            lengths: [B] int64, on the CPU.
        """
        x = self.encode(inputs.transpose(0, 1))
        if self.directions == 2:
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            if not self.everywhere:
                return self.scores(packed)
            output = pad_packed_sequence(self.recurrent(packed)[0], total_length=len(x))[0]
        else:
            output = self._run(x)
        if self.everywhere:
            return self.read_out(output).transpose(0, 1)
        return self.read_out(output[lengths - 1, torch.arange(len(lengths))])

    def _run(self, x: Tensor) -> Tensor:
        """The layer's output [T, B, H], its graph cut where it is to be."""
        if self.truncate is None or self.truncate >= len(x):
            return self.recurrent(x)[0]
        first = len(x) % self.truncate
        stretches = [*([x[:first]] if first else []), *x[first:].split(self.truncate)]
        outputs, hx = [], None
        for stretch in stretches:
            output, hx = self.recurrent(stretch, hx)
            hx = tuple(h.detach() for h in hx) if isinstance(hx, tuple) else hx.detach()
            outputs.append(output)
        return torch.cat(outputs)

    def encode(self, inputs: Tensor) -> Tensor:
        """From [T, B] indices what the layer takes: one-hot vectors for torch's; gradflow's own look them up."""
        dtype = self.read_out.weight.dtype
        if inputs.is_floating_point():
            return inputs.to(dtype)
        return one_hot_vectors(inputs, self.recurrent.input_size, dtype) if is_fused(self.recurrent) else inputs

    def scores(self, encoded: Tensor | PackedSequence) -> Tensor:
        """Scores [B, C] from the final states after all of `encoded`, one-hot [T, B, D], indices [T, B], or packed."""
        finals = self.recurrent(encoded)[1]
        h_n = finals[0] if isinstance(finals, tuple) else finals
        return self.read_out(h_n[-self.directions :].transpose(0, 1).flatten(1))


def one_hot_vectors(indices: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """One-hot vectors [..., D] of indices [...], made in `dtype` at once (``F.one_hot`` goes through int64)."""
    return torch.zeros(*indices.shape, size, dtype=dtype, device=indices.device).scatter_(-1, indices.unsqueeze(-1), 1)


def _layer(cell: str, numbers: bool) -> Callable[..., nn.Module]:
    facts = CELLS[cell]
    if numbers and facts.kernel:
        return _named(facts.kernel)
    return partial(_named(facts.layer), **facts.options)


def _named(place: str) -> Callable[..., nn.Module]:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def build_model(
    config: Config, input_size: int, outputs: int, everywhere: bool = False, numbers: bool = False
) -> SequenceModel:
    """The model of a configuration, freshly initialised from torch's current random state.

    Args:
        config: its cell, init, train.truncate, dtype and device are used.
        input_size: number of characters or other symbols, or of numbers at a step.
        outputs: number of classes, or of values.
        everywhere: answer at every position.
        numbers: the inputs are vectors of numbers, for which some of torch's layers are faster; otherwise indices. The
            parameters and their names are the same.
    """
    check_kind("config", config, Config, "a gradflow.config.Config")
    input_size, outputs = whole_number("input_size", input_size, 1), whole_number("outputs", outputs, 1)
    check_flags(everywhere=everywhere, numbers=numbers)
    cell, init = config.cell, config.init
    recurrent = _layer(cell.name, numbers)(
        input_size, cell.hidden_size, num_layers=cell.num_layers, bidirectional=cell.bidirectional
    )
    initialise_(
        recurrent,
        init.name,
        init.gain,
        init.forget_bias,
        init.update_bias,
        std=init.std,
        connections=init.connections,
        time_scale=init.time_scale,
    )
    model = SequenceModel(recurrent, outputs, everywhere, config.train.truncate)
    if init.name in (InitName.normal, InitName.sparse):  # which say what all weights are, the read-out's too
        nn.init.normal_(model.read_out.weight, std=init.std or STD)
        nn.init.zeros_(model.read_out.bias)
    return model.to(device=config.device, dtype=getattr(torch, config.dtype))
