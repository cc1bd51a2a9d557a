"""Cells of the user's own: the layer that runs one along time, and the cell as a replay sees it.

Shapes: T time steps, B examples, D input size, H hidden size; ``...`` is any leading shape.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradflow.cells.cell import Cell, State
from gradflow.cells.copying import copied, get_held, holding, set_held
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
        by_example: dotted names ("cell.memory") of the tensors that it holds for each example, [B, ...].
    """

    def __init__(self, cell: Cell, by_example: Sequence[str] = ()):
        super().__init__()
        self._by_example, self._leading = by_example, 1
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
            with self.for_each(leading):
                new = self.cell.step(x_t, dict(entered))
        except RuntimeError as error:
            dtype = next(iter(entered.values())).dtype
            error.add_note(
                f"gradflow ran {type(self.cell).__name__}.step in {dtype} on {len(x_t)} examples, which are all steps "
                f"of a replay; gradflow.testing.check_cell says what a step must bear, and what it holds of each "
                f"example is to be a tensor attribute [B, ...]"
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
        with self.for_each(leading):
            gates = self.cell.gates(x_t, state)
        return {name: gate.reshape(*leading, -1) for name, gate in gates.items()}

    def coefficients(self, gates: State, state: State, previous: State) -> Form | None:
        """See :meth:`Cell.coefficients`; complete, and as large as the states.

        Raises:
            ValueError: if they do not fit the cell's states or its weight_hh.
        """
        leading = previous[self.state_names[0]].shape[:-1]
        with self.for_each(leading):
            flat = ({n: v.flatten(0, -2) for n, v in d.items()} for d in (gates, state, previous))
            form = self.cell.coefficients(*flat)
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

    def of(self, pick: Callable[[Tensor], Tensor]) -> "ReplayedCell":
        """The same of some examples; `pick` takes them out of a tensor [B, ...]."""
        return self if not self._by_example else holding(self, {n: pick(v) for n, v in self._held().items()})

    def at(self, index: Any, leading: torch.Size, indexed: torch.Size) -> "ReplayedCell":
        """The same for a part of the arguments: those of a `leading` shape, of which `index` leaves `indexed`."""
        if not self._by_example:
            return self
        twin: ReplayedCell = holding(
            self, {name: self._spread(name, v, leading)[index] for name, v in self._held().items()}
        )
        twin._leading = len(indexed)
        return twin

    def _held(self) -> dict[str, Tensor]:
        return {name: get_held(self, name) for name in self._by_example}

    def _spread(self, name: str, value: Tensor, leading: torch.Size) -> Tensor:
        """What is held, for arguments of a leading shape."""
        own = value.shape[: self._leading]
        if own != leading[len(leading) - len(own) :]:
            raise ValueError(
                f"{type(self.cell).__name__}: it holds {name.removeprefix('cell.')} of {tuple(own)} examples, so that "
                f"its step cannot be taken of {tuple(leading)}; leave the batch dimension whole"
            )
        return value.expand(*leading, *value.shape[self._leading :])

    @contextmanager
    def for_each(self, leading: torch.Size) -> Iterator[None]:
        """Have the cell hold, inside, what it holds of each example for arguments of a leading shape, flat."""
        held = self._held()
        for name, value in held.items():
            spread = self._spread(name, value, leading)
            set_held(self, name, spread.reshape(leading.numel(), *spread.shape[len(leading) :]))
        try:
            yield
        finally:
            for name, value in held.items():
                set_held(self, name, value)

    def _flat(self, x: Tensor, state: State) -> tuple[Tensor, State, torch.Size]:
        leading = state[self.state_names[0]].shape[:-1]
        flat = {name: part.reshape(-1, part.shape[-1]) for name, part in state.items()}
        return x.reshape(leading.numel(), *x.shape[len(leading) :]), flat, leading


def replayed(layer: Recurrent, weights: Mapping[str, Tensor], x_t: Tensor | None = None) -> ReplayedCell:
    """The cell of a layer on what was kept of it.

    Args:
        layer: whose cell it is.
        weights: by the names of ``layer.named_parameters()``, and what :func:`held` gave.
        x_t: [B, D] or [B], of all examples at any position, by which it is found what the cell holds of each; None:
            nothing.

    Raises:
        NotImplementedError: if that cannot be told.
    """
    names = {id(parameter): name for name, parameter in layer.named_parameters()}
    cell = copied(layer.cell, lambda v: (weights[names[id(v)]] if id(v) in names else v).detach().clone())
    others = {name: value for name, value in weights.items() if name not in names.values()}
    shared = holding(ReplayedCell(cell), others)
    batch = 0 if x_t is None else len(x_t)
    perhaps = [name for name, value in others.items() if value.dim() and len(value) == batch]
    if x_t is None or not perhaps or batch == 1:
        return shared
    for found in (shared, holding(ReplayedCell(cell, perhaps), others)):
        if _steps_alike(found, x_t):
            return found
    raise NotImplementedError(
        f"{type(layer.cell).__name__}: it holds {', '.join(name.removeprefix('cell.') for name in perhaps)} of "
        f"{batch} rows, as many as examples, but not all are one for each example; register what the examples share "
        f"as a buffer"
    )


def _steps_alike(cell: ReplayedCell, x_t: Tensor) -> bool:
    """Whether a step of two copies of a batch gives twice what the cell gives as it is."""
    state = {name: x_t.new_full((len(x_t), cell.hidden_size), 0.5, dtype=_dtype(cell)) for name in cell.state_names}
    expected = cell.cell.step(x_t, dict(state))
    try:
        found = cell.step(torch.stack((x_t, x_t)), {name: torch.stack((part, part)) for name, part in state.items()})
    except (RuntimeError, ValueError, IndexError):
        return False
    return all(torch.allclose(found[name], part, rtol=1e-3, atol=1e-5) for name, part in expected.items())


def _dtype(cell: Cell) -> torch.dtype:
    return next((p.dtype for p in cell.parameters() if p.is_floating_point()), torch.get_default_dtype())
