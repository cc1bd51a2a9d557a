"""Sequence layers with torch's constructor arguments, parameter names, layouts and starts, and more to choose.

They are drop-in for ``torch.nn.RNN``, ``torch.nn.LSTM`` and ``torch.nn.GRU``, and take one thing more: integer inputs,
[T, B] (or [B, T], or [T]), are indices of one-hot vectors, looked up in ``weight_ih`` instead of multiplied by it: the
same result, cheaper. Their steps are plain operations, which autograd differentiates twice and torch.func takes: an
``autograd.Function`` over the whole LSTM, with its backward pass by hand, was measured to save a tenth of forward and
backward at 4 steps and a fifth at 33 and 100 (H = 64 and 128).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gradflow.cells.cell import Cell, State, TorchCell
from gradflow.cells.gru import GRUBeforeCell, GRUCell
from gradflow.cells.lstm import LSTMCell
from gradflow.cells.rnn import LinearCell, ReLUCell, SigmoidCell, TanhCell
from gradflow.cells.scanning import scan
from gradflow.checks import check_flags, check_kind, real_number, shown, whole_number


class SequenceLayer(nn.Module):
    """The layouts that every recurrent layer takes and gives: batched or not, time or batch first, packed."""

    input_size: int | None = None
    hidden_size: int
    batch_first: bool
    cell_class: type[Cell]

    def _time_major(self, input: Tensor | PackedSequence) -> tuple[Tensor, Tensor | None, bool]:
        """[T, B, D] (or indices [T, B]), lengths [B] if packed, whether there is a batch."""
        if isinstance(input, PackedSequence):
            x, lengths = pad_packed_sequence(input)
            return x, lengths, True
        check_kind("input", input, Tensor, "a tensor or a PackedSequence")
        size = self.input_size
        dimensions = input.dim() + (0 if input.is_floating_point() else 1)
        if dimensions not in (2, 3):
            raise ValueError(
                f"input: expected [T, B, {size or 'D'}], [T, {size or 'D'}] or indices without the last dimension, "
                f"got shape {tuple(input.shape)}"
            )
        if size is not None and input.is_floating_point() and input.shape[-1] != size:
            raise ValueError(f"input: expected {size} features in the last dimension, got {input.shape[-1]}")
        if dimensions == 2:
            return input.unsqueeze(1), None, False
        return (input.transpose(0, 1) if self.batch_first else input), None, True

    def _initial(self, x: Tensor, hx: Tensor | tuple[Tensor, ...] | None, batched: bool, rows: int = 1) -> State:
        """Name -> [rows, B, H], the states before the first step: zeros, or those given in torch's way.

        Raises:
            ValueError: if there is not a tensor of that shape for each state.
        """
        names, size = self.cell_class.state_names, (x.shape[1], self.hidden_size)
        if hx is None:
            like = next(self.parameters(), x)
            return {name: like.new_zeros(rows, *size) for name in names}
        given = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
        expected = (rows, *size) if batched else (rows, self.hidden_size)
        if len(given) != len(names) or any(getattr(state, "shape", None) != expected for state in given):
            raise ValueError(
                f"hx: expected a tensor {expected} for each of the states {list(names)}, got "
                f"{[tuple(state.shape) if isinstance(state, Tensor) else shown(state) for state in given]}"
            )
        for state in given:
            check_kind("hx", state, Tensor, f"a tensor for each of the states {list(names)}")
        return {name: state if batched else state.unsqueeze(1) for name, state in zip(names, given, strict=True)}

    def _own_layout(
        self, x: Tensor, input: Tensor | PackedSequence, lengths: Tensor | None, batched: bool
    ) -> Tensor | PackedSequence:
        """An output [T, B, ·] in the layout of the input."""
        if isinstance(input, PackedSequence):
            assert lengths is not None
            return pack_padded_sequence(x, lengths, enforce_sorted=input.sorted_indices is None)
        if not batched:
            return x.squeeze(1)
        return x.transpose(0, 1) if self.batch_first else x


class RecurrentLayer(SequenceLayer):
    """Runs a cell along time: layers, directions, ragged batches and layouts as in ``torch.nn.RNN``.

    Args:
        input_size: D, number of input features.
        hidden_size: H.
        num_layers: layers on top of each other.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
        batch_first: inputs and outputs are [B, T, ·] instead of [T, B, ·].
        dropout: probability between layers.
        bidirectional: a second direction that runs from the last position to the first.
        device: of the parameters.
        dtype: of the parameters.
    """

    cell_class: type[TorchCell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.input_size = input_size = whole_number("input_size", input_size, 1)
        self.hidden_size = hidden_size = whole_number("hidden_size", hidden_size, 1)
        self.num_layers = num_layers = whole_number("num_layers", num_layers, 1)
        dropout = real_number("dropout", dropout, least=0, most=1)
        check_flags(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        rows = len(self.cell_class.gate_names) * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size * self.num_directions
            for direction in range(self.num_directions):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, hidden_size)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for name, shape in shapes.items():
                    value = nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))
                    self.register_parameter(name + suffix(layer, direction), value)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """2 if bidirectional."""
        return 2 if self.bidirectional else 1

    def reset_parameters(self) -> None:
        """Every parameter from U(-1/√H, 1/√H), torch's default."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """The constructor's sizes."""
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, "
            f"batch_first={self.batch_first}, dropout={self.dropout}, bidirectional={self.bidirectional}"
        )

    def cell(self, layer: int, direction: int) -> TorchCell:
        """The cell of one layer and direction, on this layer's own parameters."""
        tail = suffix(layer, direction)
        weight_ih, weight_hh = getattr(self, "weight_ih" + tail), getattr(self, "weight_hh" + tail)
        return self.cell_class.on(
            weight_ih, weight_hh, getattr(self, "bias_ih" + tail, None), getattr(self, "bias_hh" + tail, None)
        )

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | tuple[Tensor, ...] | None = None
    ) -> tuple[Any, Tensor | tuple[Tensor, ...]]:
        """Run the layer; see ``torch.nn.RNN`` and ``torch.nn.LSTM`` for the layouts.

        Args:
            input: [T, B, D] ([B, T, D] if `batch_first`, [T, D] unbatched), the same without D for indices, or packed.
            hx: [L·directions, B, H] initial state ([L·directions, H] unbatched), of an LSTM (h_0, c_0); zeros if not
                given.

        Returns:
            Output [T, B, directions·H] in the layout of the input, and the final states h_n [L·directions, B, H], of an
            LSTM (h_n, c_n).

        Raises:
            ValueError: if the input has a wrong number of dimensions or features, or `hx` does not fit.
        """
        x, lengths, batched = self._time_major(input)
        initial = self._initial(x, hx, batched, self.num_layers * self.num_directions)
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            outputs = []
            for d in range(self.num_directions):
                entering = {name: state[len(finals)] for name, state in initial.items()}
                states, final = scan(self.cell(layer, d), x, entering, lengths, reverse=d == 1)
                outputs.append(states["h"])
                finals.append(final)
            x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        h_n = [torch.stack([final[name] for final in finals]) for name in initial]
        h_n = h_n if batched else [final.squeeze(1) for final in h_n]
        return self._own_layout(x, input, lengths, batched), h_n[0] if len(h_n) == 1 else tuple(h_n)


def is_fused(layer: nn.Module) -> bool:
    """Whether one of torch's kernels runs the layer: it takes no indices, and draws its dropout in its own way."""
    return isinstance(layer, nn.RNNBase)


def suffix(layer: int, direction: int) -> str:
    """The tail of torch's parameter names: ``_l0``, ``_l0_reverse``, ``_l1``, ..."""
    return f"_l{layer}" + ("_reverse" if direction else "")


class RNN(RecurrentLayer):
    """torch.nn.RNN that takes indices as well, and has sigmoid units to choose; see :class:`RecurrentLayer`.

    Args:
        *args: as for ``torch.nn.RNN``.
        nonlinearity: ``"tanh"``, ``"relu"`` or ``"sigmoid"``.
        **kwargs: as for ``torch.nn.RNN``.

    Raises:
        ValueError: for another `nonlinearity`.
    """

    def __init__(self, *args: Any, nonlinearity: str = "tanh", **kwargs: Any):
        cells: dict[str, type[TorchCell]] = {"tanh": TanhCell, "relu": ReLUCell, "sigmoid": SigmoidCell}
        if not isinstance(nonlinearity, str) or nonlinearity not in cells:
            raise ValueError(f'nonlinearity: expected "tanh", "relu" or "sigmoid", got {nonlinearity!r}')
        self.cell_class = cells[nonlinearity]
        super().__init__(*args, **kwargs)
        self.nonlinearity = nonlinearity


class LinearRNN(RecurrentLayer):
    """The recurrence without its non-linearity, h_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh.

    Arguments and layouts: :class:`RecurrentLayer`.

    >>> layer = LinearRNN(input_size=3, hidden_size=2)
    >>> output, h_n = layer(torch.zeros(5, 1, 3))
    >>> tuple(output.shape), [name for name, _ in layer.named_parameters()]
    ((5, 1, 2), ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0'])
    """

    cell_class = LinearCell


class LSTM(RecurrentLayer):
    """torch.nn.LSTM that takes indices as well; arguments and layouts: :class:`RecurrentLayer`.

    >>> output, (h_n, c_n) = LSTM(input_size=3, hidden_size=2)(torch.tensor([[0], [2], [1]]))
    >>> tuple(output.shape), tuple(h_n.shape), tuple(c_n.shape)
    ((3, 1, 2), (1, 1, 2), (1, 1, 2))
    """

    cell_class = LSTMCell


class GRU(RecurrentLayer):
    """The GRU with a choice of where the reset gate acts; see :class:`RecurrentLayer`.

    Args:
        *args: as for ``torch.nn.GRU``.
        reset: ``"before"`` the matrix product, as in the original (Cho et al. 2014), or ``"after"`` it, as in torch.
        **kwargs: as for ``torch.nn.GRU``.

    Raises:
        ValueError: for another value of `reset`.
    """

    def __init__(self, *args: Any, reset: str = "before", **kwargs: Any):
        cells: dict[str, type[TorchCell]] = {"before": GRUBeforeCell, "after": GRUCell}
        if not isinstance(reset, str) or reset not in cells:
            raise ValueError(f'reset: expected "before" or "after", got {reset!r}')
        self.cell_class = cells[reset]
        super().__init__(*args, **kwargs)
        self.reset = reset

    def extra_repr(self) -> str:
        """The constructor's sizes, and where the reset gate acts."""
        return f"{super().extra_repr()}, reset={self.reset}"
