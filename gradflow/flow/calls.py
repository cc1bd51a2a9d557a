"""Calls: what is seen of the forward pass of a recurrent layer, and the layers that can be seen."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gradflow.cells.cell import Cell, TorchCell
from gradflow.cells.copying import held
from gradflow.cells.gru import GRUCell
from gradflow.cells.layers import RecurrentLayer, suffix
from gradflow.cells.lstm import LSTMCell
from gradflow.cells.recurrent import Recurrent
from gradflow.cells.rnn import ReLUCell, TanhCell
from gradflow.checks import shown
from gradflow.flow.dropout import Dropout

SUPPORTED = (nn.RNN, nn.LSTM, nn.GRU, RecurrentLayer, Recurrent)
REACH = 128
"""How many steps before it the node lies that a hook on the node of a step holds.

A node that Python has seen is freed by a call within that of the node above it (torch 2.13), so that a long sequence
would take more stack than there is. Held, the nodes of a stretch of steps are freed before the next stretch begins.
"""
_CELLS: dict[str, type[TorchCell]] = {"RNN_TANH": TanhCell, "RNN_RELU": ReLUCell, "LSTM": LSTMCell, "GRU": GRUCell}


def cell_class(layer: Any) -> type[Cell]:
    """The cell of a supported layer, of a cell called step by step, or of a marked state."""
    return _CELLS[layer.mode] if isinstance(layer, nn.RNNBase) else layer.cell_class


def weights_known(layer: Any) -> bool:
    """Whether a supported layer's weights have torch's names and layout; of the user's own cells nothing is known."""
    if isinstance(layer, nn.Module):  # which is slow to say that it has no attribute
        return not isinstance(layer, Recurrent)
    return not layer.is_own


class SteppedCell:
    """A cell that a script calls step by step, seen as a layer of one.

    Args:
        cell: torch.nn.RNNCell, LSTMCell or GRUCell, or a gradflow.Cell.
    """

    num_layers, bidirectional, batch_first, dropout = 1, False, False, 0.0

    def __init__(self, cell: Any):
        self.cell, self.is_own = cell, isinstance(cell, Cell)
        self.hidden_size: int = cell.hidden_size
        self.cell_class: type[Cell] = type(cell) if self.is_own else _cell_class_of(cell)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """As a layer of one has them: torch's names with the tail _l0; of a cell of the user's own its own."""
        if self.is_own:
            return self.cell.named_parameters()
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # a parametrized one is no parameter, but an attribute
        found = ((name + suffix(0, 0), getattr(self.cell, name)) for name in names)
        return ((name, value) for name, value in found if value is not None)

    def parameters(self) -> Iterator[Tensor]:
        """All parameters of the cell, those behind a parametrization too."""
        return self.cell.parameters()

    def __repr__(self) -> str:
        return repr(self.cell)


def _cell_class_of(cell: nn.Module) -> type[TorchCell]:
    if isinstance(cell, nn.RNNCell):
        return TanhCell if cell.nonlinearity == "tanh" else ReLUCell
    return LSTMCell if isinstance(cell, nn.LSTMCell) else GRUCell


def weights_of(layer: Any) -> dict[str, Tensor]:
    """What the layer's forward pass has just computed with, by name; not all are parameters.

    Of torch's layers some may be computed, as by weight_norm; cells of the user's own may hold other tensors.
    """
    if isinstance(layer, nn.RNNBase) and list(layer._parameters) != layer._flat_weights_names:
        return dict(zip(layer._flat_weights_names, cast(list[Tensor], layer._flat_weights), strict=True))
    if isinstance(layer, (Recurrent, SteppedCell)):
        own = held(layer.cell, "cell") if isinstance(layer.cell, Cell) else {}
        return dict(layer.named_parameters()) | own
    return dict(layer._parameters)


def torch_cell_class(layer: Any, name: str = "layer") -> type[TorchCell]:
    """The cell of a layer whose weights have torch's names and layout.

    Raises:
        TypeError: for a cell of the user's own, of whose weights nothing is known.
    """
    kind = cell_class(layer)
    if not weights_known(layer):
        raise TypeError(
            f"{name}: expected a layer with torch's weight_hh, got {kind.__name__}, a cell of your own, of "
            f"whose weights nothing is known; look at them directly"
        )
    return cast(type[TorchCell], kind)


def torch_cell(layer: Any, weight: Callable[[str], Tensor | None], index: int, side: int) -> TorchCell:
    """The cell of one layer and direction of a layer whose weights are known, on weights by their names."""
    tail = suffix(index, side)
    weight_ih, weight_hh = weight("weight_ih" + tail), weight("weight_hh" + tail)
    assert weight_ih is not None
    assert weight_hh is not None
    return torch_cell_class(layer).on(weight_ih, weight_hh, weight("bias_ih" + tail), weight("bias_hh" + tail))


def check_supported(layer: nn.Module, name: str = "layer") -> None:
    """Raise if a layer cannot be replayed.

    Raises:
        TypeError: if it is no recurrent layer known here.
        NotImplementedError: for ``proj_size`` and for parametrized layers of gradflow's own, by name.
    """
    if not isinstance(layer, SUPPORTED):
        raise TypeError(
            f"{name}: expected torch.nn.RNN, LSTM or GRU, gradflow.RNN, LinearRNN, LSTM, GRU or Recurrent, got "
            f"{type(layer).__name__}; pass one of these, or make a cell of your own with gradflow.Recurrent"
        )
    if getattr(layer, "proj_size", 0):
        raise NotImplementedError(f"{name}: proj_size={layer.proj_size} is not supported; use proj_size=0")
    if isinstance(layer, RecurrentLayer) and (is_parametrized(layer) or "weight_hh_l0" not in layer._parameters):
        raise NotImplementedError(
            f"{name}: weight_norm, spectral_norm, pruning and other parametrizations of gradflow's own layers are not "
            f"supported; use torch.nn.RNN, LSTM or GRU, whose parametrizations are"
        )


def check_given(called: str, layer: Any, x: Tensor | PackedSequence, output: Any) -> None:
    """Raise if a forward pass did not give what the layer's kernel gives for such an input.

    Args:
        called: name of the layer, for the error.
        layer: a supported layer.
        x: what it took.
        output: what it gave: the output, and the final states.

    Raises:
        ValueError: saying what was expected; a subclass's own forward, or a hook, does something else.
    """
    if not (isinstance(output, tuple) and len(output) == 2 and not isinstance(output, PackedSequence)):
        raise _not_as_torch(called, "a pair (output, final states)", f"{type(output).__name__}")
    given: Any = output[0]
    finals = output[1] if isinstance(output[1], tuple) else (output[1],)
    if isinstance(given, Tensor) != isinstance(x, Tensor):
        raise _not_as_torch(called, f"an output of the kind of its input, {type(x).__name__}", type(given).__name__)
    if not weights_known(layer):
        return
    for final in finals:
        if not isinstance(final, Tensor):
            raise _not_as_torch(called, "final states that are tensors", ", ".join(type(f).__name__ for f in finals))
    sides, hidden = 2 if layer.bidirectional else 1, layer.hidden_size
    expected: tuple[int, ...]
    if isinstance(x, Tensor):
        shape, leading = given.shape, tuple(x.shape[: given.dim() - 1])
        expected, batch = (*leading, sides * hidden), leading[0 if layer.batch_first else 1 :][: len(leading) - 1]
    else:
        shape, expected, batch = given.data.shape, (len(x.data), sides * hidden), (int(x.batch_sizes[0]),)
    if shape != expected:
        raise _not_as_torch(called, f"an output of shape {expected}", f"{tuple(shape)}")
    expected = (layer.num_layers * sides, *batch, hidden)
    for final in finals:
        if final.shape != expected:
            raise _not_as_torch(called, f"final states of shape {expected}", f"{tuple(final.shape)}")


def _not_as_torch(called: str, expected: str, got: str) -> ValueError:
    return ValueError(
        f"{called}: expected {expected}, as torch's kernel gives, got {got}; its own forward (a subclass) or a hook "
        f"does more: put what it does into a module around a torch.nn layer, which then can be recorded"
    )


@dataclass
class LayerCall:
    """What is seen of one forward pass of a recurrent layer: tensors by reference, nothing computed.

    Attributes:
        layer: the module.
        x: its input, tensor or PackedSequence.
        hx: its initial state as given: None, a tensor, or a tuple (a list becomes one) of one for each state.
        output: its output, tensor or PackedSequence.
        finals: (h_n,), (h_n, c_n), or whatever the states of a cell are.
        lengths: [B], where `x` is a padded tensor of ragged examples.
        dropout: what was drawn between the layers; None: nothing.
        weights: name -> what it computed with, see :func:`weights_of`, as it was in that forward pass.
        gradients: "output" and state name + "_n" -> what autograd left there; absent where the loss does not use it.
        kernel_dtype: to which autocast rounded the weights; without it the dtype of the output.
        trained_below: the input or the initial state was in the graph, so that the loss reaches what made it.
        carried: the initial state was made by something in the graph, so that this call goes on from it.
    """

    layer: Any
    x: Tensor | PackedSequence
    hx: Any
    output: Tensor | PackedSequence
    finals: tuple[Tensor, ...]
    lengths: Tensor | None = None
    dropout: Dropout | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    kernel_dtype: torch.dtype = field(init=False)
    trained_below: bool = field(init=False)
    carried: bool = field(init=False)

    def __post_init__(self) -> None:
        self.hx = tuple(self.hx) if isinstance(self.hx, list) else self.hx
        self.trained_below, self.carried = self._data_of_x().requires_grad, False
        for part in self._states_given():
            if part.requires_grad:
                self.trained_below = True
                self.carried = self.carried or not _root(part).is_leaf
        if not self.weights:
            self.weights = weights_of(self.layer)
        self._versions = self._weight_versions()
        self.kernel_dtype = kernel_dtype_of(self.finals[0])

    def _weight_versions(self) -> list[int]:
        try:
            return [weight._version for weight in self.weights.values()]
        except RuntimeError:  # under torch.inference_mode nothing is counted, nor changed by training
            return []

    def weights_have_changed(self) -> bool:
        """Whether a weight was changed in place since the forward pass, as by an optimiser's step."""
        return self._weight_versions() != self._versions

    def detach(self) -> None:
        """Let go of the graph; the tensors stay the same memory, but for parameters, which training changes."""
        self.x, self.hx, self.output = _detached(self.x), _detached(self.hx), _detached(self.output)
        self.finals = _detached(self.finals)

    def tensors(self) -> list[Tensor]:
        """What the replay starts from: input, output and initial states."""
        output = self.output.data if isinstance(self.output, PackedSequence) else self.output
        return [self._data_of_x(), output, *self._states_given()]

    def _data_of_x(self) -> Tensor:
        return self.x.data if isinstance(self.x, PackedSequence) else self.x

    def _states_given(self) -> tuple[Tensor, ...]:
        return () if self.hx is None else self.hx if isinstance(self.hx, tuple) else (self.hx,)

    @property
    def packed(self) -> bool:
        """The layer stopped at the end of each example; of a padded tensor it ran on over the padding."""
        return isinstance(self.output, PackedSequence)

    @property
    def final_names(self) -> list[str]:
        """Of `finals`: "h_n", "c_n"."""
        return [f"{name}_n" for name in cell_class(self.layer).state_names]

    @property
    def batched(self) -> bool:
        """False for the [T, D] layout."""
        return self.packed or self.output.dim() == 3  # type: ignore[union-attr]

    def time_major(self, value: Tensor | PackedSequence) -> Tensor:
        """Input, output or its gradient as [T, B, ·] (inputs may be indices [T, B]), 0 on padding, at least float32."""
        if isinstance(value, PackedSequence):
            return widened(pad_packed_sequence(value)[0])
        if not self.batched:
            return widened(value.unsqueeze(1))
        return widened(value.transpose(0, 1) if self.layer.batch_first else value)

    def state_major(self, value: Tensor) -> Tensor:
        """Initial or final states, or their gradient, as [L·directions, B, H], at least float32."""
        return widened(value if self.batched else value.unsqueeze(1))

    @cached_property
    def example_lengths(self) -> Tensor | None:
        """[B] on the CPU; None if every example fills all T positions."""
        lengths = self.lengths
        if isinstance(self.x, PackedSequence):
            lengths = pad_packed_sequence(self.x)[1]
        if lengths is None:
            return None
        try:
            lengths = torch.as_tensor(lengths, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"lengths: expected whole numbers, one for each example, got {shown(lengths)}") from error
        if lengths.is_floating_point():
            raise ValueError(f"lengths: expected whole numbers, got {lengths.dtype}; pass lengths.long()")
        steps = len(self.time_major(self.output))
        if lengths.shape != (self.batch_size,) or bool((lengths < 1).any() or (lengths > steps).any()):
            raise ValueError(
                f"lengths: expected {self.batch_size} numbers from 1 to {steps}, got shape {tuple(lengths.shape)} from "
                f"{int(lengths.min())} to {int(lengths.max())}"
            )
        return None if bool((lengths == steps).all()) else lengths

    @property
    def device(self) -> torch.device:
        """Of the states."""
        return self.finals[0].device

    @property
    def batch_size(self) -> int:
        """B."""
        return self.state_major(self.finals[0]).shape[1]


def kernel_dtype_of(state: Tensor) -> torch.dtype:
    """To which autocast now rounds the weights that make a state; without it the dtype of the state."""
    kind = "cpu" if state.is_cpu else state.device.type
    if state.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return state.dtype


def watch(call: LayerCall, into: Callable[[], dict[str, Tensor]] | None = None) -> list[Any]:
    """Have autograd leave the gradients of a call's outputs in it; returns the hooks' handles.

    Args:
        call: its outputs must be in the graph now, and may be detached after.
        into: asked at each gradient where it is added, by its name; it must not hold the graph. None: the call.
    """
    gradients = call.gradients  # a hook that held the call would keep its graph alive for ever

    def hook(value: Tensor, name: str) -> Any:
        place, node = value.output_nr, value.grad_fn
        assert node is not None

        def keep(arrived: tuple[Tensor | None, ...]) -> None:
            gradient = arrived[place]
            if gradient is not None and not is_of_many_passes(gradient):  # None: compiled code, of an output not used
                add(gradients if into is None else into(), name, gradient.detach())

        return node.register_prehook(keep)  # it gets what hooks on the tensor made of the gradient

    output = call.output.data if isinstance(call.output, PackedSequence) else call.output
    handles = [hook(output, "output")] if output.requires_grad else []
    for value, name in zip(call.finals, call.final_names, strict=True):
        if value.requires_grad:
            handles.append(hook(value, name))
    return handles


_is_of_functorch = torch._C._functorch.is_functorch_wrapped_tensor
_is_batched = torch._C._functorch.is_legacy_batchedtensor


def is_of_many_passes(value: Tensor) -> bool:
    """Whether it is of many passes at once (``torch.autograd.grad(is_grads_batched=True)``), or within torch.func."""
    return _is_of_functorch(value) or _is_batched(value)


def add(gradients: dict[str, Tensor], name: str, gradient: Tensor) -> None:
    """Add one gradient to those of its name."""
    gradients[name] = gradients[name] + gradient if name in gradients else gradient


def _detached(value: Any) -> Any:
    """A tensor, a PackedSequence, None, or a tuple of tensors without the graph."""
    if isinstance(value, PackedSequence):
        return value._replace(data=_detached(value.data))
    if isinstance(value, tuple):
        return tuple(map(_detached, value))
    if value is None or not value.requires_grad:
        return value
    if _root(value).is_leaf:  # as of a learned h_0, expanded to the batch
        return value.detach().clone()
    return value.detach()


def _root(value: Tensor) -> Tensor:
    """What a tensor is a view of, or itself."""
    return value if value._base is None else value._base


def widened(value: Tensor) -> Tensor:
    """Half precision as float32, everything else as it is."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


@contextmanager
def plain_arithmetic(device: torch.device) -> Iterator[None]:
    """Neither graph nor autocast, wherever the replay is asked for."""
    kind = device.type
    with torch.no_grad(), torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        yield
