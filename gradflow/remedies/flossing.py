"""Gradient flossing: weights whose leading Lyapunov exponents lie near zero (Engelken 2023, arXiv:2312.17306).

Gradients then neither vanish nor explode in as many directions of the state.

Shapes: T time steps, B examples, H hidden size, S state size (H, or 2H for the (h, c) of an LSTM), k exponents.
"""

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from tqdm import tqdm

from gradflow.cells.cell import Cell, State, TorchCell
from gradflow.cells.scanning import within
from gradflow.checks import check_kind, real_number, require, whole_number
from gradflow.flow.calls import cell_class, check_supported, torch_cell, weights_known

log = logging.getLogger(__name__)


def lyapunov_loss(layer: nn.Module, x: Tensor | PackedSequence, exponents: int, hx: Any = None) -> Tensor:
    """(1/k) Σ_i λ_i² of the first k Lyapunov exponents λ along the sequences, to be minimised (Engelken 2023).

    λ_i is the mean of ln|R_ii| over the steps, where J_t Q = Q' R triangularises the step Jacobians one after the other
    (Benettin et al. 1980), as in :func:`gradflow.lyapunov_exponents` and from the same first Q. The triangular factors
    and the trajectory are both differentiated. In a stack each layer and direction has exponents of its own, on the
    inputs that the layer below gives it: together they are those of the stack, whose Jacobian is block triangular.
    Dropout between the layers is left out.

    Args:
        layer: torch.nn.RNN, LSTM or GRU, one of gradflow's, or gradflow.Recurrent with a cell of your own.
        x: sequences in the layer's own layout, or packed; such as a batch of the training data.
        exponents: k, 1 to S.
        hx: initial state, as the layer takes it; zeros if not given.

    Returns:
        [] float64, nats² per step², in the graph of the layer's parameters (and of `x`): the mean over examples, layers
        and directions. Infinite if one of the exponents is -inf, that is if J is singular in these directions.

    Raises:
        TypeError: if the layer is none of these.
        ValueError: for a number of exponents that the state does not have.

    >>> loss = lyapunov_loss(nn.LSTM(3, 4), torch.zeros(10, 2, 3), exponents=2)
    >>> loss.dtype, loss.requires_grad
    (torch.float64, True)
    """
    check_supported(layer)
    recurrent: Any = layer
    size = recurrent.hidden_size * len(cell_class(layer).state_names)
    if not 1 <= whole_number("exponents", exponents, 1) <= size:
        raise ValueError(f"exponents: expected 1 to {size}, the size of the state, got {exponents}")
    sequences, lengths, batched = _time_major(recurrent, x)
    valid = None if lengths is None else within(len(sequences), lengths).to(sequences.device)
    losses, sides = [], 2 if recurrent.bidirectional else 1
    for index in range(recurrent.num_layers):
        outputs = []
        for side in range(sides):
            cell = _cell(recurrent, index, side)
            entering = _entering(cell, hx, index * sides + side, sequences, batched)
            output, logs = _triangularised(cell, sequences, entering, exponents, valid, reverse=side == 1)
            steps = len(sequences) if valid is None else valid.sum(0).unsqueeze(-1)
            losses.append((logs / steps).square().mean())
            outputs.append(output)
        sequences = torch.cat(outputs, -1)
    return torch.stack(losses).mean()


def floss_(
    layer: nn.Module, x: Tensor | PackedSequence, iterations: int, lr: float, exponents: int, hx: Any = None
) -> list[float]:
    """Minimise :func:`lyapunov_loss` alone, by Adam on the parameters of the layer in place; done before training.

    Args:
        layer: as for :func:`lyapunov_loss`; parameters with ``requires_grad=False`` stay.
        x: the same sequences for every iteration.
        iterations: number of updates.
        lr: learning rate of Adam.
        exponents: k.
        hx: initial state.

    Returns:
        The loss before each update. ``.grad`` of the parameters is left as it was.

    Raises:
        TypeError, ValueError: as :func:`lyapunov_loss`; if there is nothing to do, or `lr` is not positive.
        FloatingPointError: if the loss is not finite; the parameters are those before it was.

    >>> layer = nn.RNN(3, 8)
    >>> losses = floss_(layer, torch.randn(20, 4, 3), iterations=5, lr=1e-2, exponents=4)
    >>> losses[-1] < losses[0]
    True
    """
    check_supported(layer)
    iterations = whole_number("iterations", iterations, 1)
    real_number("lr", lr, above=0)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.Adam(parameters, lr=lr), []
    kept = [parameter.grad for parameter in parameters]
    for iteration in tqdm(range(iterations), desc="flossing", disable=None, leave=False):
        loss = lyapunov_loss(layer, x, exponents, hx)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"floss_: the loss is {losses[-1]} at iteration {iteration}: an exponent is infinite (ReLU units that "
                f"are all off) or the weights have diverged; ask for fewer exponents, or lower lr={lr}"
            )
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)  # of a linear RNN's W_ih there is none
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        for parameter, before in zip(parameters, kept, strict=True):
            parameter.grad = before
    if losses:
        log.info(
            "flossed %d exponents for %d iterations: loss %.3g to %.3g", exponents, iterations, losses[0], losses[-1]
        )
    return losses


def _time_major(layer: Any, x: Tensor | PackedSequence) -> tuple[Tensor, Tensor | None, bool]:
    """[T, B, D] or indices [T, B], lengths [B] if packed, whether there is a batch."""
    if isinstance(x, PackedSequence):
        return (*pad_packed_sequence(x), True)
    check_kind("x", x, Tensor, "a tensor or a PackedSequence")
    dimensions = x.dim() + (0 if x.is_floating_point() else 1)
    if dimensions not in (2, 3):
        raise ValueError(f"x: expected sequences as {type(layer).__name__} takes them, got shape {tuple(x.shape)}")
    size = getattr(layer, "input_size", None)
    if size is not None and x.is_floating_point() and x.shape[-1] != size:
        raise ValueError(f"x: expected {size} features in the last dimension, got {x.shape[-1]}")
    if dimensions == 2:
        return x.unsqueeze(1), None, False
    return (x.transpose(0, 1) if layer.batch_first else x), None, True


def _cell(layer: Any, index: int, side: int) -> Cell:
    if not weights_known(layer):
        return layer.cell
    return torch_cell(layer, lambda name: getattr(layer, name, None), index, side)


def _entering(cell: Cell, hx: Any, row: int, x: Tensor, batched: bool) -> State:
    if hx is None:
        like = cell.weight_hh if isinstance(cell, TorchCell) else next(cell.parameters(), x)
        return {name: like.new_zeros(x.shape[1], cell.hidden_size) for name in cell.state_names}
    given = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
    names, last = cell.state_names, (x.shape[1], cell.hidden_size) if batched else (cell.hidden_size,)
    fits = len(given) == len(names) and all(isinstance(h, Tensor) and h.shape[1:] == last for h in given)
    require(fits and all(len(h) > row for h in given), "hx", f"a tensor [layers, {last}] for each of {list(names)}", hx)
    return {n: h[row] if batched else h[row].unsqueeze(0) for n, h in zip(cell.state_names, given, strict=True)}


def _triangularised(
    cell: Cell, x: Tensor, state: State, exponents: int, valid: Tensor | None, *, reverse: bool
) -> tuple[Tensor, Tensor]:
    """The states h [T, B, H], and Σ_t ln|R_ii| [B, k] float64; past an example's length nothing moves."""
    names, like = cell.state_names, next(iter(state.values()))
    size = cell.hidden_size * len(names)
    random = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    q = torch.linalg.qr(random).Q[:, :exponents].to(like.device).expand(len(like), -1, -1)
    logs, seen = q.new_zeros(len(like), exponents), [like] * len(x)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        new, image = _pushed(cell, x[t], state, q.to(like.dtype))
        onward, factor = torch.linalg.qr(image.double())
        step = factor.diagonal(dim1=-2, dim2=-1).abs().log()  # the signs of Q's columns change no |R_ii|
        if valid is not None:
            moves = valid[t].unsqueeze(-1)
            new = {name: torch.where(moves, new[name], state[name]) for name in names}
            onward, step = torch.where(moves.unsqueeze(-1), onward, q), torch.where(moves, step, 0.0)
        state, q, logs, seen[t] = new, onward, logs + step, new[names[0]]
    return torch.stack(seen), logs


def _pushed(cell: Cell, x_t: Tensor, state: State, q: Tensor) -> tuple[State, Tensor]:
    """One step of the states, and J q for q [B, S, k], differentiable: u -> Jᵀu is linear, and its adjoint is J."""
    new, adjoint = vjp(lambda entering: cell.step(x_t, entering), state)[:2]
    push = vjp(lambda u: adjoint(u)[0], {name: torch.zeros_like(part) for name, part in new.items()})[1]
    directions = dict(zip(cell.state_names, q.chunk(len(cell.state_names), 1), strict=True))
    (image,) = vmap(push, in_dims=-1, out_dims=-1)(directions)
    return new, torch.cat([image[name] for name in cell.state_names], 1)
