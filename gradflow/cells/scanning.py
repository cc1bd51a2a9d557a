"""The loop over time, in which every state that a cell gives is a node of the autograd graph."""

import torch
from torch import Tensor

from gradflow.cells.cell import Cell, State


def scan(
    cell: Cell, x: Tensor, initial: State, lengths: Tensor | None = None, *, reverse: bool = False
) -> tuple[State, State]:
    """Run a cell along time.

    Args:
        cell: any cell.
        x: [T, B, D], or indices [T, B].
        initial: name -> [B, H], the states before the first step.
        lengths: [B]; positions past an example's length leave its states alone and give 0.
        reverse: from the last position to the first.

    Returns:
        Name -> [T, B, H], the states at every position that the cell's output shows; name -> [B, H], all final ones.

    Raises:
        ValueError: if the cell's first step gives other states than it should.
    """
    step, state, seen = cell.steps(x), initial, [initial] * len(x)
    full = len(x) if lengths is None else int(lengths.min())  # of the positions before it every example has a state
    padding = None if lengths is None else ~within(len(x), lengths).to(x.device).unsqueeze(-1)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        new = step(t, state)
        if state is initial:
            check_states(cell, new, initial)
        if padding is None or t < full:
            seen[t] = state = new
        else:
            seen[t] = {name: part.masked_fill(padding[t], 0) for name, part in new.items()}
            state = {name: torch.where(padding[t], state[name], part) for name, part in new.items()}
    return {name: torch.stack([at[name] for at in seen]) for name in cell.output_names}, state


def within(steps: int, lengths: Tensor) -> Tensor:
    """Which of so many positions lie within the examples, [T, B] bool, for lengths [B] on the CPU, where it is made."""
    return torch.arange(steps, device="cpu").unsqueeze(1) < lengths


def check_states(cell: Cell, new: State, entered: State) -> None:
    """Raise unless a step gave every state of the cell, and no other, as it entered: real and of its shape.

    Raises:
        ValueError: if not, saying which state and what came.
    """
    step = f"{type(cell).__name__}.step"
    if not isinstance(new, dict) or new.keys() != entered.keys():
        got = list(new) if isinstance(new, dict) else type(new).__name__
        raise ValueError(
            f"{step}: expected a dict of the states {list(entered)}, got {got}; return each of state_names"
        )
    for name, part in new.items():
        if part.shape != entered[name].shape:
            raise ValueError(
                f"{step}: expected state {name!r} of shape {tuple(entered[name].shape)}, [examples, hidden_size], "
                f"got {tuple(part.shape)}"
            )
        if not part.is_floating_point():
            raise ValueError(
                f"{step}: expected real numbers in state {name!r}, got {part.dtype}; keep the real and the imaginary "
                f"part of a complex state as two states"
            )
