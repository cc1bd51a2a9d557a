"""Cells of the user's own: the layer that runs one along time, and the cell as a replay sees it.

Shapes: T time steps, B examples, D input size, H hidden size; ``...`` is any leading shape.
"""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradflow.cells.cell import Cell, State
from gradflow.cells.forms import Form, Rows
from gradflow.cells.layers import SequenceLayer
from gradflow.cells.scanning import check_states, scan
from gradflow.checks import check_flags


class Recurrent(SequenceLayer):
    """Runs a cell of the user's own along time, in torch's layouts: one layer, one direction.

    Args:
        cell: says its `state_names` and `hidden_size`, and does one `step`.
        batch_first: inputs and outputs are [B, T, ·] instead of [T, B, ·].

    Raises:
        TypeError: if `cell` is no :class:`gradflow.Cell`.
        ValueError: if it has no usable `hidden_size`, `state_names` or `output_names`.

    >>> class Leaky(Cell):
    ...     hidden_size = 2
    ...     def step(self, x_t, state):
    ...         return {"h": 0.5 * state["h"] + x_t}
    >>> output, h_n = Recurrent(Leaky())(torch.ones(3, 1, 2))
    >>> output[:, 0, 0].tolist(), tuple(h_n.shape)
    ([1.0, 1.5, 1.75], (1, 1, 2))
    """

    num_layers = 1
    bidirectional = False
    dropout = 0.0

    def __init__(self, cell: Cell, batch_first: bool = False):
        super().__init__()
        check_cell_names(cell)
        check_flags(batch_first=batch_first)
        self.cell, self.batch_first, self.hidden_size = cell, batch_first, cell.hidden_size

    @property
    def cell_class(self) -> type[Cell]:  # type: ignore[override]
        """The class of the cell."""
        return type(self.cell)

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | tuple[Tensor, ...] | None = None
    ) -> tuple[Any, Tensor | tuple[Tensor, ...]]:
        """Run the layer; see ``torch.nn.LSTM`` for the layouts.

        Args:
            input: [T, B, D] ([B, T, D] if `batch_first`, [T, D] unbatched), the same without D for indices, or packed.
            hx: initial states, each [1, B, H] ([1, H] unbatched): a tensor if there is one state, else a tuple in the
                order of `state_names`; zeros if not given.

        Returns:
            Output [T, B, H] of the states in the cell's `output_names`, side by side, in the layout of the input; and
            the final states, as `hx`.

        Raises:
            ValueError: if the input has a wrong number of dimensions, or `hx` or what the cell's step gives does not
                fit its states.
        """
        x, lengths, batched = self._time_major(input)
        initial = {name: state[0] for name, state in self._initial(x, hx, batched).items()}
        states, finals = scan(self.cell, x, initial, lengths)
        output = torch.cat([states[name] for name in self.cell.output_names], -1)
        # Views, never the last states themselves: what arrives at h_n must not hold what arrives at the output.
        h_n = [finals[name].unsqueeze(0) for name in self.cell.state_names]
        h_n = h_n if batched else [final.squeeze(1) for final in h_n]
        return self._own_layout(output, input, lengths, batched), h_n[0] if len(h_n) == 1 else tuple(h_n)

    def extra_repr(self) -> str:
        """The layout."""
        return f"batch_first={self.batch_first}"


def check_cell_names(cell: Cell) -> None:
    """Raise unless a cell says its sizes and states as it should; see :class:`Recurrent`."""
    if not isinstance(cell, Cell):
        raise TypeError(f"cell: expected a gradflow.Cell, got {type(cell).__name__}; make it a subclass")
    kind, names, size = type(cell).__name__, cell.state_names, getattr(cell, "hidden_size", None)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(
            f"cell: expected {kind}.hidden_size to be the number of units of every state, got {size}; set "
            f"self.hidden_size in its __init__"
        )
    if not isinstance(names, tuple) or not names or len(set(names)) < len(names):
        raise ValueError(
            f'cell: expected {kind}.state_names to be a tuple of distinct names such as ("h", "c"), got {names!r}'
        )
    shown = cell.output_names
    if not isinstance(shown, tuple) or not shown or not set(shown) <= set(names) or len(set(shown)) < len(shown):
        raise ValueError(f"cell: expected {kind}.output_names to be a tuple out of the states {names}, got {shown!r}")


class ReplayedCell(Cell):
    """A cell of the user's own on the weights of one forward pass, for any leading shape.

    The cell itself only ever sees [examples, ·], as in training: all steps of all examples are examples here. It is a
    copy, so that whatever it keeps of a step never reaches the user's model.

    Args:
        cell: the copy, see :func:`copied`.
    """

    def __init__(self, cell: Cell):
        super().__init__()
        self.cell, self.hidden_size = cell, cell.hidden_size
        self.state_names, self.output_names = cell.state_names, cell.output_names  # type: ignore[misc]

    @property
    def writes(self) -> dict[str, slice]:
        """State -> the gates that write to it: all of them, unless the cell says so."""
        return {name: slice(None) for name in self.state_names} | getattr(self.cell, "writes", {})

    @property
    def weight_hh(self) -> Tensor:
        """What the rows of the closed form multiply, [K·H, H].

        Raises:
            ValueError: if the cell has none.
        """
        weight = getattr(self.cell, "weight_hh", None)
        if weight is None or "h" not in self.state_names:
            raise ValueError(
                f"{type(self.cell).__name__}.coefficients: rows multiply the cell's weight_hh [K·H, H] with its state "
                f"'h'; it has the states {list(self.state_names)} and {'no' if weight is None else 'a'} weight_hh"
            )
        return weight.contiguous()

    def step(self, x_t: Tensor, state: State) -> State:
        """One step, name -> [..., H]; x_t [..., D], or indices [...]."""
        x_t, entered, leading = self._flat(x_t, state)
        try:
            new = self.cell.step(x_t, dict(entered))
        except RuntimeError as error:
            dtype = next(iter(entered.values())).dtype
            error.add_note(
                f"gradflow ran {type(self.cell).__name__}.step in {dtype} on {len(x_t)} examples, which are all steps "
                f"of a replay; gradflow.testing.check_cell says what a step must bear"
            )
            raise
        check_states(self.cell, new, entered)
        return {name: new[name].reshape(*leading, -1) for name in self.state_names}

    def check_nothing_random(self, x_t: Tensor, state: State) -> None:
        """Raise if a step draws random numbers: a replay would draw others. The random state is as before.

        Raises:
            NotImplementedError: if it does.
        """
        devices = [x_t.device] if x_t.is_cuda else []
        with torch.random.fork_rng(devices):
            before = torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)
            self.step(x_t, state)
            after = torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)
        if not all(map(torch.equal, before, after)):
            raise NotImplementedError(
                f"{type(self.cell).__name__}.step draws random numbers, so it cannot be replayed as it was; put the "
                f"dropout outside of the cell"
            )

    def gates(self, x_t: Tensor, state: State) -> State:
        """See :meth:`Cell.gates`, name -> [..., H]."""
        x_t, state, leading = self._flat(x_t, state)
        return {name: gate.reshape(*leading, -1) for name, gate in self.cell.gates(x_t, state).items()}

    def coefficients(self, gates: State, state: State, previous: State) -> Form | None:
        """See :meth:`Cell.coefficients`; complete, and as large as the states.

        Raises:
            ValueError: if they do not fit the cell's states or its weight_hh.
        """
        leading = previous[self.state_names[0]].shape[:-1]
        form = self.cell.coefficients(*({n: v.flatten(0, -2) for n, v in d.items()} for d in (gates, state, previous)))
        if form is None:
            return None
        kind, hidden, named = type(self.cell).__name__, self.hidden_size, form.states
        if not named or not named <= set(self.state_names):
            raise ValueError(
                f"{kind}.coefficients: expected rows or a diagonal of the states {list(self.state_names)}, got "
                f"{sorted(named) or 'neither'}"
            )

        def whole(numbers: Tensor, *trailing: int) -> Tensor:
            if numbers.shape[-len(trailing) :] != trailing:
                raise ValueError(
                    f"{kind}.coefficients: expected a shape that ends in {trailing}, got {tuple(numbers.shape)}"
                )
            return numbers.expand(leading.numel(), *trailing).reshape(*leading, *trailing)

        if not isinstance(form, Rows):
            return form.map(lambda numbers: whole(numbers, hidden))
        every = range(len(self.weight_hh) // hidden)
        gates_of = {name: len(every[chosen]) for name, chosen in self.writes.items()}
        rows = {name: whole(numbers, gates_of[name], hidden) for name, numbers in form.rows.items()}
        like = next(iter(rows.values()))
        none = {name: like.new_zeros(*leading, gates_of[name], hidden) for name in self.state_names}
        return replace(replace(form, rows={}).map(lambda numbers: whole(numbers, hidden)), rows=none | rows)

    def _flat(self, x: Tensor, state: State) -> tuple[Tensor, State, torch.Size]:
        leading = state[self.state_names[0]].shape[:-1]
        flat = {name: part.reshape(-1, part.shape[-1]) for name, part in state.items()}
        return x.reshape(leading.numel(), *x.shape[len(leading) :]), flat, leading


def replayed(layer: Recurrent, weights: Mapping[str, Tensor]) -> ReplayedCell:
    """The cell of a layer on kept weights, by the names of ``layer.named_parameters()``."""
    kept = {id(parameter): weights[name] for name, parameter in layer.named_parameters()}
    return ReplayedCell(copied(layer.cell, lambda value: kept.get(id(value), value).detach().clone()))


def copied(module: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a module with every parameter, buffer and tensor attribute changed, that shares all the rest."""
    twin = copy(module)
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            vars(twin)[name] = change(value)
    for kind in ("_parameters", "_buffers"):
        tensors = vars(module)[kind]
        vars(twin)[kind] = {name: None if value is None else change(value) for name, value in tensors.items()}
    children = vars(module)["_modules"].items()
    vars(twin)["_modules"] = {name: None if child is None else copied(child, change) for name, child in children}
    return twin


def to_double(module: Any) -> Any:
    """A copy in float64, see :func:`copied`."""
    return copied(module, lambda value: value.double() if value.is_floating_point() else value)
