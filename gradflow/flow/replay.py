"""Replay: from what a recurrent layer took in and gave out to every state, gate and Jacobian.

A fused layer shows only its output. But for one layer of it all h_t *are* the output, so every gate of all steps is one
matrix product (teacher forcing); lower layers are run again one by one, an LSTM's c_t by an elementwise scan.

Shapes: T time steps, B examples, H hidden size, K gates. Results are [T, B, ...] in the original batch order, by
0-based position; in the reverse direction the state that enters position t is that of position t+1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gradflow.cells.cell import Cell, State, TorchCell
from gradflow.cells.layers import is_fused
from gradflow.cells.recurrent import Recurrent, ReplayedCell, replayed
from gradflow.cells.scanning import scan, within
from gradflow.checks import check_kind, require, shown
from gradflow.flow.calls import LayerCall, check_given, check_supported, plain_arithmetic, torch_cell, watch, widened
from gradflow.flow.dropout import active_dropout
from gradflow.flow.examples import picked
from gradflow.flow.kernels import Inside, has_own_forward
from gradflow.flow.saved import Place, Saved
from gradflow.jacobian.dispatch import jacobian_of
from gradflow.jacobian.operator import Jacobian

_KERNELS: dict[str, Callable] = {
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
    "LSTM": torch.lstm,
    "GRU": torch.gru,
}


@dataclass(frozen=True)
class Unrolled:
    """All time steps of one layer in one direction.

    Attributes:
        cell: the cell, on the weights of that forward pass.
        inputs: [T, B, D], or indices [T, B].
        carried: every state entered as it left the step before; if not, the Jacobians are those of the cell alone.
        cut: [T, B] bool: these examples began anew here, from zeros, and no more was done; None: it was, or nothing.
        input_scale: [T, B, D], by which dropout multiplied the output of the layer below to make them; None: by 1.
        states: "h" (and "c", or a cell's own) -> [T, B, H], the states produced at each position.
        previous: the same for the states that entered.
        gates: gate letter -> [T, B, H] activations.
        gates_are_own: they are those of the cell for these inputs and previous states; if not, they were read.
        lengths: [B], or None if all examples fill all positions.
        ends: [B], the position of the last state of this direction.
        valid: [T, B] bool: positions within an example; None if all are.
        reverse: this direction runs from the last position to the first.
    """

    cell: TorchCell | ReplayedCell
    inputs: Tensor
    states: State
    previous: State
    gates: State
    lengths: Tensor | None
    ends: Tensor
    valid: Tensor | None
    reverse: bool
    input_scale: Tensor | None = None
    carried: bool = True
    cut: Tensor | None = None
    gates_are_own: bool = False

    def part(self, positions: slice) -> "Unrolled":
        """The same at some positions only; `lengths` and `ends` stay those of the whole."""
        return self._cut(lambda tensor: tensor[positions])

    def of(self, examples: list[int]) -> "Unrolled":
        """The same of some examples only."""
        index = torch.as_tensor(examples, device="cpu")
        cut = self._cut(lambda tensor: tensor.index_select(1, index.to(tensor.device)))
        cell = self.cell
        if isinstance(cell, ReplayedCell):
            cell = cell.of(lambda tensor: tensor[index.to(tensor.device)])
        return replace(
            cut, cell=cell, lengths=None if self.lengths is None else self.lengths[index], ends=self.ends[index]
        )

    def _cut(self, cut: Callable[[Tensor], Tensor]) -> "Unrolled":
        def each(tensors: State) -> State:
            return {name: cut(tensor) for name, tensor in tensors.items()}

        return replace(
            self,
            inputs=cut(self.inputs),
            states=each(self.states),
            previous=each(self.previous),
            gates=each(self.gates),
            valid=None if self.valid is None else cut(self.valid),
            input_scale=None if self.input_scale is None else cut(self.input_scale),
            cut=None if self.cut is None else cut(self.cut),
        )

    @property
    def like(self) -> Tensor:
        """A state, for size, dtype and device."""
        return next(iter(self.states.values()))

    @property
    def torch_cell(self) -> TorchCell | None:
        """The cell, if its weights have torch's names and layout; None: it is the user's own."""
        return self.cell if isinstance(self.cell, TorchCell) else None

    @property
    def is_lstm(self) -> bool:
        """Whether it is torch's LSTM, whose h is a view of c."""
        return self.torch_cell is not None and "c" in self.cell.state_names

    @cached_property
    def jacobian(self) -> Jacobian:
        """∂s_t/∂s_{t-1} for all (t, b)."""
        with torch.no_grad():
            jacobian = jacobian_of(self.cell, self.inputs, self.gates, self.states, self.previous, self.valid)
        jacobian.reverse = self.reverse
        return jacobian


class Trace:
    """One forward pass, replayed: ``trace[layer, direction]`` is a :class:`Unrolled` (0 forward, 1 reverse).

    Args:
        call: what was seen of the forward pass.
        examples: positions in the batch that are replayed; None: all.
        read: layer and direction -> state name -> [T, B, H], total gradients of these examples that were read from the
            backward pass (of c autograd's); None: none were.
        saved: what the autograd graph had saved of these examples; None: nothing.
        padding: counts as well, see :attr:`whole`.
    """

    def __init__(
        self,
        call: LayerCall,
        examples: Sequence[int] | None = None,
        read: Mapping[Place, State] | None = None,
        saved: Saved | None = None,
        *,
        padding: bool = False,
    ):
        self.call = call
        self.output, self.h_n = call.output, call.finals[0]
        self.c_n = call.finals[1] if len(call.finals) > 1 else None
        self.read = read or {}
        self._examples, self._saved, self._padding = examples, saved or Saved(), padding

    @cached_property
    def _steps(self) -> dict[Place, Unrolled]:
        with plain_arithmetic(self.output.data.device):
            return _replay(self.call, self.pick, self._saved, padding=self._padding)

    @property
    def whole(self) -> "Trace":
        """The pass as the layer ran it: of a padded tensor through the padding, which lengths leave out.

        The reverse direction begins there, so that a share of the gradients of its weights comes from there.
        """
        if self.call.packed or self.call.example_lengths is None:
            return self
        return Trace(self.call, self._examples, self.read, self._saved, padding=True)

    def pick(self, value: Tensor, dim: int = 1) -> Tensor:
        """The replayed examples of a tensor whose dimension `dim` is the batch."""
        return picked(value, self._examples, dim)

    def of(self, places: list[int]) -> "Trace":
        """The same of some of the replayed examples, by their places among them; one may be there several times.

        Without what was read: that is of the whole loss.
        """
        part = Trace(self.call, places if self._examples is None else [self._examples[place] for place in places])
        part._steps = {key: unrolled.of(places) for key, unrolled in self._steps.items()}
        return part

    def __getitem__(self, key: tuple[int, int]) -> Unrolled:
        if key not in self._steps:
            raise KeyError(f"trace: expected (layer, direction) among {list(self._steps)}, got {key}")
        return self._steps[key]

    def keys(self) -> list[tuple[int, int]]:
        """Every (layer, direction)."""
        return list(self._steps)


def trace(layer: nn.Module, x: Tensor | PackedSequence, hx: Any = None, lengths: Tensor | None = None) -> Trace:
    """Run one recurrent layer and keep what is needed to look inside.

    Args:
        layer: torch.nn.RNN, LSTM or GRU, one of gradflow's own, or gradflow.Recurrent with a cell of your own. Of a
            subclass with a forward of its own the trace is of what torch's kernel took and gave inside of that, in the
            kernel's layout (of a packed sequence the longest example first).
        x: its input in its own layout, or packed.
        hx: its initial state, or states as a tuple or list.
        lengths: [B], where `x` is a padded tensor of ragged examples.

    Returns:
        The trace; ``trace.output`` is in the autograd graph, in the layer's own layout.

    A padded tensor runs on over its padding, forward to h_n and backward from the padding: `lengths` only says which
    positions count, and gradients that came through padding are refused (:func:`gradflow.state_gradients`).

    Raises:
        TypeError: if the layer is none of these, or `x` no tensor.
        ValueError: for an input or state that the layer does not take, for lengths that are not B whole numbers from 1
            to T, and if a hook has the layer give something else.
        NotImplementedError: for ``proj_size``, for dropout between the layers of torch's kernels but on a CPU, and for
            a subclass whose forward does not run its kernel exactly once.

    >>> step = trace(nn.RNN(3, 2), torch.zeros(5, 4, 3))[0, 0]
    >>> step.states["h"].shape, step.jacobian.frobenius_norm().shape
    (torch.Size([5, 4, 2]), torch.Size([5, 4]))
    """
    check_supported(layer)
    check_kind("x", x, (Tensor, PackedSequence), "a tensor or a PackedSequence")
    given = hx if isinstance(hx, tuple | list) else [] if hx is None else [hx]
    require(all(isinstance(state, Tensor) for state in given), "hx", "the initial state, or a tuple of states", hx)
    call = _only_run(layer, x, hx) if has_own_forward(layer) else _only_call(layer, x, hx)
    call.lengths = lengths
    _ = call.example_lengths  # wrong ones are refused here
    watch(call)
    return Trace(call)


def _only_call(layer: nn.Module, x: Tensor | PackedSequence, hx: Any) -> LayerCall:
    dropout = active_dropout(layer)
    try:
        given = layer(x, hx)
    except (NotImplementedError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, AttributeError) as error:
        shapes = ", ".join(shown(value.data if isinstance(value, PackedSequence) else value) for value in (x, hx))
        raise ValueError(f"x, hx: expected what {layer} takes, got {shapes} ({error})") from error
    check_given("layer", layer, x, given)
    return LayerCall(layer, x, hx, given[0], given[1] if isinstance(given[1], tuple) else (given[1],), dropout=dropout)


def _only_run(layer: nn.RNNBase, x: Tensor | PackedSequence, hx: Any) -> LayerCall:
    """What the kernel did inside of a forward that is not torch's own."""
    runs: list[LayerCall] = []
    with Inside(layer, "layer", runs.append):
        layer(x, hx)
    if len(runs) != 1:
        raise NotImplementedError(
            f"layer: expected the forward of this {type(layer).__name__} to run torch's kernel once, it ran "
            f"{len(runs)} times; trace a torch.nn layer with the same weights on what each run takes"
        )
    return runs[0]


def _replay(call: LayerCall, pick: Callable[..., Tensor], saved: Saved, *, padding: bool) -> dict[Place, Unrolled]:
    layer = call.layer
    steps: dict[Place, Unrolled] = {}
    sides = 2 if layer.bidirectional else 1
    whole = call.time_major(call.x)
    x, output = pick(whole), pick(call.time_major(call.output).detach())
    lengths = None if padding or call.example_lengths is None else pick(call.example_lengths, 0)
    stops = lengths if call.packed else None
    given = call.hx if isinstance(call.hx, tuple) else (call.hx,)
    initial = [None if h is None else pick(call.state_major(h)).detach() for h in given]
    weights = {
        name: widened(weight.to(call.kernel_dtype)) if weight.is_floating_point() else weight
        for name, weight in call.weights.items()
    }
    for index, scale in enumerate(_input_scales(call)):
        scale = None if scale is None else pick(scale)
        x = x if scale is None else x * scale
        cells: list[TorchCell | ReplayedCell]
        if isinstance(layer, Recurrent):
            cells = [replayed(layer, weights, whole[0]).of(partial(pick, dim=0))]
        else:
            cells = [torch_cell(layer, weights.get, index, side) for side in range(sides)]
        rows = slice(index * sides, (index + 1) * sides)
        entering = [
            _states(cells[0], [None if h is None else h[rows][d] for h in initial], output) for d in range(sides)
        ]
        hidden = output if index == layer.num_layers - 1 else saved.outputs.get(index)
        hidden = _run_again(call, index, cells, x, entering, stops) if hidden is None else hidden
        for side, h in enumerate(hidden.chunk(sides, -1)):
            gates = saved.gates.get((index, side))
            unrolled = _teacher_forced(cells[side], x, h, entering[side], gates, lengths, stops, reverse=side == 1)
            steps[index, side] = unrolled if scale is None else replace(unrolled, input_scale=scale)
        x = hidden
    return steps


def _input_scales(call: LayerCall) -> list[Tensor | None]:
    """What dropout multiplied the inputs of each layer by, [T, B, directions·H]; None: it did not."""
    layer, output = call.layer, call.output
    if call.dropout is None:
        return [None] * layer.num_layers
    of_torch = call.packed and is_fused(layer)  # its masks are packed as well
    shape = output.data.shape if of_torch else call.time_major(output).shape
    scales = call.dropout.scales(shape, output.data.dtype, layer.num_layers - 1)
    if of_torch:
        return [None, *(call.time_major(output._replace(data=scale)) for scale in scales)]  # type: ignore[union-attr]
    return [None, *map(widened, scales)]


def _states(cell: Cell, given: list[Tensor | None], like: Tensor) -> State:
    zeros = like.new_zeros(like.shape[1], cell.hidden_size)
    filled = [zeros if value is None else value for value in given] + [zeros] * len(cell.state_names)
    return dict(zip(cell.state_names, filled, strict=False))


def _run_again(
    call: LayerCall, index: int, cells: list[Any], x: Tensor, entering: list[State], lengths: Tensor | None
) -> Tensor:
    """The output [T, B, directions·H] of one lower layer, by the kernel that the whole layer used."""
    if not is_fused(call.layer):
        sides = [scan(c, x, entering[d], lengths, reverse=d == 1)[0]["h"] for d, c in enumerate(cells)]
        return torch.cat(sides, -1)
    weights = [w for c in cells for w in (c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh) if w is not None]
    states = tuple(torch.stack([side[name] for side in entering]) for name in cells[0].state_names)
    hx: Any = states if len(states) > 1 else states[0]
    kernel, bidirectional = _KERNELS[call.layer.mode], call.layer.bidirectional
    if lengths is None:
        return kernel(x, hx, weights, call.layer.bias, 1, 0.0, False, bidirectional, False)[0]
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    in_order = tuple(h.index_select(1, cast(Tensor, packed.sorted_indices)) for h in states)
    hx = in_order if len(states) > 1 else in_order[0]
    data = kernel(packed.data, packed.batch_sizes, hx, weights, call.layer.bias, 1, 0.0, False, bidirectional)[0]
    return pad_packed_sequence(packed._replace(data=data), total_length=len(x))[0]


def _teacher_forced(
    cell: TorchCell | ReplayedCell,
    x: Tensor,
    shown: Tensor,
    entering: State,
    gates: State | None,
    lengths: Tensor | None,
    stops: Tensor | None,
    *,
    reverse: bool,
) -> Unrolled:
    """All steps at once, and their gates unless they are given.

    `lengths` say which positions count, `stops` are the same if the kernel knew of them.
    """
    states, previous = {}, {}
    for name, state in zip(cell.output_names, shown.chunk(len(cell.output_names), -1), strict=True):
        states[name], previous[name] = _with_previous(state, entering[name], stops, reverse)
    valid = None if lengths is None else within(len(x), lengths).to(shown.device)
    if isinstance(cell, ReplayedCell):
        is_own = False
        cell.check_nothing_random(x[:1], {name: state.unsqueeze(0) for name, state in entering.items()})
        for name, state in _hidden_states(cell, x, previous, entering, valid).items():
            states[name], previous[name] = _with_previous(state, entering[name], stops, reverse)
        gates = cell.gates(x, previous)
    else:
        is_own = not gates and not cell.gateless
        gates = {"h": states["h"]} if cell.gateless else gates or cell.gates(x, previous)
        if "c" in cell.state_names:
            states["c"], previous["c"] = _cell_states(gates, entering["c"], stops, reverse)
    time, batch = shown.shape[:2]
    ends = torch.full((batch,), time - 1, device="cpu") if lengths is None else lengths - 1
    ends = torch.zeros_like(ends) if reverse else ends
    return Unrolled(cell, x, states, previous, gates, lengths, ends, valid, reverse, gates_are_own=is_own)


def _hidden_states(cell: ReplayedCell, x: Tensor, shown: State, entering: State, valid: Tensor | None) -> State:
    """States that the output does not show, [T, B, H]: by the cell's own steps from those that it shows."""
    hidden = [name for name in cell.state_names if name not in shown]
    state, seen = entering, []
    for t in range(len(x) if hidden else 0):
        new = cell.step(x[t], state | {name: part[t] for name, part in shown.items()})
        state = {name: new[name] for name in hidden}
        seen.append(state)
    stacked = {name: torch.stack([at[name] for at in seen]) for name in hidden}
    return stacked if valid is None else {n: p.masked_fill(~valid.unsqueeze(-1), 0) for n, p in stacked.items()}


def _with_previous(states: Tensor, entering: Tensor, lengths: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
    """The states, and those that entered each position, [T, B, H]: of the same memory where they can be."""
    if not reverse:
        both = torch.cat((entering.unsqueeze(0), states))
        return both[1:], both[:-1]
    both = torch.cat((states, entering.unsqueeze(0)))
    if lengths is None:
        return both[:-1], both[1:]
    previous = both[1:].clone()
    previous[lengths - 1, torch.arange(len(lengths), device="cpu")] = entering
    return both[:-1], previous


def _cell_states(gates: State, c_0: Tensor, lengths: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
    """c_t = f c_{t-1} + i g, an elementwise scan, and what entered each position, of the same memory.

    A reverse scan meets the padding first and must pass it untouched.
    """
    keep, time = gates["f"], len(gates["f"])
    both = keep.new_empty(time + 1, *keep.shape[1:])
    states, previous = (both[:-1], both[1:]) if reverse else (both[1:], both[:-1])
    torch.mul(gates["i"], gates["g"], out=states)
    previous[time - 1 if reverse else 0] = c_0
    if reverse and lengths is not None:
        padding = ~within(time, lengths).to(keep.device).unsqueeze(-1)
        keep = keep.masked_fill(padding, 1)
        states.masked_fill_(padding, 0)
    steps = list(zip(keep.unbind(), previous.unbind(), states.unbind(), strict=True))
    for keep_t, before, c_t in reversed(steps) if reverse else steps:
        c_t.addcmul_(keep_t, before)
    return states, previous
