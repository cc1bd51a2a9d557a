"""Everything that is recorded of a position: one record a quantity, and nothing else anywhere to be kept in step.

A record says what the log says of a quantity, which layers have it, whether it scales with the loss, and how it is
computed: block by block of the backward recursion, where it compares the steps of an example from the whole, or of a
few examples from their Jacobian.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradflow.cells.lstm import LSTMCell
from gradflow.cells.rnn import LinearCell
from gradflow.checks import check_name
from gradflow.flow.calls import cell_class, weights_known
from gradflow.flow.horizons import product_norms
from gradflow.flow.recursion import Block
from gradflow.flow.replay import Unrolled
from gradflow.flow.stepping import Marked
from gradflow.jacobian.operator import Jacobian
from gradflow.runlog.schema import Label, LagLabel


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One quantity of the tables `time` and `lag`.

    Attributes:
        name: of its columns, before the statistic.
        unit: "nats" for natural logarithms, "1" if it has none.
        long_name: in words.
        scales: it is the ln of something proportional to the loss, and reported per example of a mean-reduced one.
        of_block: from a block and what the block before handed on (None at first) to [t, B] and what to hand on; None:
            it is always of a few examples.
        of_whole: from all positions of `of_block`, [T, B], to the quantity; None: they are it.
        of_few: of how many examples at most it is taken, and how from their Jacobian, [T, B]; None: never.
        of_anchors: it is of the loss at single positions, in the table `lag` alone: from ln‖∂L_s/∂h_t‖, [T, N], where
            they count, [T, N] bool or None, and whether the direction is reverse, to the quantity; None: it is not.
        has: whether a layer has it.
        opt_in: recorded only where it is asked for.
        needs_carried: it is a product over steps, which nobody knows where something is done to the state between them.
        with_spectra: recorded on the schedule of the weights' spectra, at the first recording from then on.
    """

    name: str
    unit: str
    long_name: str
    scales: bool
    of_block: Callable[[Block, Any], tuple[Tensor, Any]] | None = None
    of_whole: Callable[[Unrolled, Tensor], Tensor] | None = None
    of_anchors: Callable[[Tensor, Tensor | None, bool], Tensor] | None = None
    of_few: tuple[int, Callable[[Jacobian], Tensor]] | None = None
    has: Callable[[Any], bool] = lambda layer: True
    opt_in: bool = False
    needs_carried: bool = False
    with_spectra: bool = False

    def __post_init__(self) -> None:
        if self.of_anchors is not None and (self.of_block is not None or self.of_few is not None):
            raise ValueError(f"{self.name}: expected of_anchors alone, got of_block or of_few too; make it two records")
        if self.of_block is None and self.of_few is None and self.of_anchors is None:
            raise ValueError(
                f"{self.name}: expected of_block, of_few or both, or of_anchors, which say how it is computed, got none"
            )

    def is_costly(self, norm_is_dense: bool) -> bool:
        """Whether it is taken of a few examples: there is no other way, or the norm needs the dense matrix."""
        return self.of_block is None or (self.of_few is not None and norm_is_dense)


def _each(take: Callable[[Block], Tensor]) -> Callable[[Block, Any], tuple[Tensor, Any]]:
    """Of every block by itself."""
    return lambda block, carried: (take(block), carried)


def _derivative(block: Block) -> Tensor:
    """φ'_t, [t, B, H]: the only row coefficients of the Jacobian of a cell without gates."""
    return block.unrolled.jacobian.rows["h"].squeeze(-2)


def _several_states(layer: Any) -> bool:
    return len(cell_class(layer).state_names) > 1


def _is_lstm(layer: Any) -> bool:
    return weights_known(layer) and issubclass(cell_class(layer), LSTMCell)


def _without_gates(layer: Any) -> bool:
    return weights_known(layer) and issubclass(cell_class(layer), LinearCell)


def _log_frobenius(jacobian: Jacobian) -> Tensor:
    return jacobian.frobenius_norm().log()


def _log_spectral(jacobian: Jacobian) -> Tensor:
    return jacobian.spectral_norm().log()


def _relative_to_last(norms: Tensor, counts: Tensor | None, reverse: bool) -> Tensor:
    """Of each example against its own value at the last step that the gradient reaches, [T, B].

    Args:
        norms: [T, B], natural logs.
        counts: [T, B] bool, the positions among which the last is looked for; None: all.
        reverse: the last is the first position.

    Returns:
        The same, -inf everywhere where no step is reached.
    """
    reached = norms != -torch.inf if counts is None else (norms != -torch.inf) & counts
    last = (reached if reverse else reached.flip(0)).int().argmax(0)
    value = norms.gather(0, (last if reverse else len(norms) - 1 - last).unsqueeze(0))
    return torch.where(reached.any(0), norms - value, norms)


def _cumulative_share(unrolled: Unrolled, log_shares: Tensor) -> Tensor:
    """Cumulative over lag: Σ_{lag ≤ k} of the norms of the per-step shares of dL/dW_hh over their whole sum."""
    parts = (log_shares - log_shares.nan_to_num(nan=-torch.inf).amax(0)).exp()
    present = parts if unrolled.valid is None else parts.masked_fill(~unrolled.valid, 0)
    run = present.cumsum(0) if unrolled.reverse else present.flip(0).cumsum(0).flip(0)
    return run / present.sum(0)


def _cell_path(block: Block, path: Any) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """ln‖(Π_{s>t} f_s) ∘ dL/dc_T‖, [t, B]: what reaches c_t through the cells alone; T is the last step reached.

    Args:
        block: the next block of the backward recursion.
        path: ln(·)² of it, [B, H], and whether T has come, [B], as the block before handed them on; NaN where more
            happens between steps.

    Returns:
        The norms, and the `path` to hand on.
    """
    unrolled = block.unrolled
    reached, log_f = block.log_joint_norm != -torch.inf, unrolled.gates["f"].log()
    if unrolled.valid is not None:
        reached = reached & unrolled.valid
        log_f = log_f.masked_fill(~unrolled.valid.unsqueeze(-1), 0)
    unknown = -torch.inf if unrolled.carried else torch.nan
    if path is None:
        path = torch.full_like(log_f[0], unknown, dtype=torch.float64), torch.zeros_like(reached[0])
    start, begun = path
    in_order = reached if unrolled.reverse else reached.flip(0)
    everywhere = bool(reached.all())
    on_path = in_order if everywhere else in_order.int().cummax(0).values.bool() | begun
    examples = (on_path[-1] & ~begun).nonzero().squeeze(1)
    if len(examples):
        first = on_path.int().argmax(0)[examples]
        where = first if unrolled.reverse else len(on_path) - 1 - first, examples
        total = block.cell_total(where).double().abs().log() + block.log_scale[where].unsqueeze(-1)
        start = start.index_put((examples,), 2 * total)
    if not everywhere:
        log_f = log_f.masked_fill(~(on_path if unrolled.reverse else on_path.flip(0)).unsqueeze(-1), 0)
    run = log_f.new_zeros(len(log_f) + 1, *log_f.shape[1:])
    sums, steps = run.unbind(), log_f.unbind()
    for before, after, step in zip(sums, sums[1:], steps if unrolled.reverse else steps[::-1], strict=False):
        torch.add(before, step, alpha=2, out=after)
    onward = start + run[-1]
    norms = torch.logsumexp(run[:-1].add_(start), -1).double() / 2
    if not everywhere:
        norms = norms.masked_fill(~on_path, -torch.inf)
    return block.masked(norms if unrolled.reverse else norms.flip(0)), (onward, on_path[-1])


_ALL = (
    Quantity(
        name="log_state_gradient",
        unit="nats",
        long_name="ln of the norm of the total derivative dL/dh_t",
        scales=True,
        of_block=_each(lambda block: block.log_output_norm),
    ),
    Quantity(
        name="log_cell_gradient",
        unit="nats",
        long_name="ln of the norm of the cell part of the adjoint of (h, c)",
        scales=True,
        of_block=_each(lambda block: block.log_norms["c"]),
        has=_is_lstm,
    ),
    Quantity(
        name="log_joint_gradient",
        unit="nats",
        long_name="ln of the norm of the adjoint of the whole state, (h, c) for an LSTM",
        scales=True,
        of_block=_each(lambda block: block.log_joint_norm),
        has=_several_states,
    ),
    Quantity(
        name="log_direct_gradient",
        unit="nats",
        long_name="ln of the norm of the direct part of dL/dh_t",
        scales=True,
        of_block=_each(lambda block: block.log_direct_norm),
    ),
    Quantity(
        name="log_weight_gradient",
        unit="nats",
        long_name="ln of the norm of this step's share of dL/dW_hh",
        scales=True,
        of_block=_each(lambda block: block.known(block.log_weight_share)),
        has=weights_known,
    ),
    Quantity(
        name="log_jacobian_frobenius",
        unit="nats",
        long_name="ln of the Frobenius norm of the Jacobian of one step",
        scales=False,
        of_block=_each(lambda block: _log_frobenius(block.unrolled.jacobian)),
        of_few=(4, _log_frobenius),
    ),
    Quantity(
        name="activation_derivative",
        unit="1",
        long_name="mean over units of the derivative of the activation",
        scales=False,
        of_block=_each(lambda block: block.masked(_derivative(block).mean(-1).double())),
        has=_without_gates,
    ),
    Quantity(
        name="activation_derivative_rms",
        unit="1",
        long_name="root mean square over units of the derivative of the activation",
        scales=False,
        of_block=_each(lambda block: block.masked(_derivative(block).square().mean(-1).sqrt().double())),
        has=_without_gates,
    ),
    Quantity(
        name="log_cell_path",
        unit="nats",
        long_name="ln of the norm of dL/dc_T times the product of the forget gates after t, T the last step reached",
        scales=True,
        of_block=_cell_path,
        has=_is_lstm,
    ),
    Quantity(
        name="log_relative_gradient",
        unit="nats",
        long_name="ln of the norm of dL/dh_t relative to that at the last step that the gradient reaches",
        scales=False,
        of_block=_each(lambda block: block.log_joint_norm),
        of_whole=lambda unrolled, norms: _relative_to_last(norms, unrolled.valid, unrolled.reverse),
    ),
    Quantity(
        name="log_anchored_gradient",
        unit="nats",
        long_name="ln of the norm of dL_s/dh_t, the loss at s, lag steps back from s, relative to s; 4 s in 4 examples",
        scales=False,
        of_anchors=_relative_to_last,
        with_spectra=True,
    ),
    Quantity(
        name="weight_gradient_share",
        unit="1",
        long_name="share of dL/dW_hh that comes from the last lag + 1 steps",
        scales=False,
        of_block=_each(lambda block: block.log_weight_share),
        of_whole=_cumulative_share,
        has=weights_known,
    ),
    Quantity(
        name="log_jacobian_spectral",
        unit="nats",
        long_name="ln of the largest singular value of one step's Jacobian, of 4 examples",
        scales=False,
        of_few=(4, _log_spectral),
        with_spectra=True,
    ),
    Quantity(
        name="log_product_spectral",
        unit="nats",
        long_name="ln of the largest singular value of dh_T/dh_t, of 2 examples",
        scales=False,
        of_few=(2, product_norms),
        opt_in=True,
        needs_carried=True,
    ),
)

QUANTITIES: dict[str, Quantity] = {quantity.name: quantity for quantity in _ALL}
"""Every quantity, by name, in the order of the log's columns."""
assert len(QUANTITIES) == len(_ALL), "two quantities have one name"


_OF_MARKED = ("log_state_gradient", "log_joint_gradient", "log_relative_gradient")
_OF_MARKED_STEPS = (
    "log_direct_gradient", "log_anchored_gradient", "log_jacobian_frobenius", "log_jacobian_spectral",
    "log_product_spectral",
)  # fmt: skip


def quantities_of(layer: Any) -> list[str]:
    """Names of the quantities that a layer has; those that need torch's weights are not for cells of the user's own."""
    if isinstance(layer, Marked):
        of_step = () if layer.knows_step is False else _OF_MARKED_STEPS
        return [name for name in QUANTITIES if name in (*_OF_MARKED, *of_step)]
    return [name for name, quantity in QUANTITIES.items() if quantity.has(layer)]


def labels(names: Collection[str]) -> dict[str, Label]:
    """What the log says of the named quantities.

    Raises:
        ValueError: for an unknown name.
    """
    for name in names:
        check_name("quantities", name, QUANTITIES)
    chosen = [QUANTITIES[name] for name in names]
    return {q.name: (LagLabel if q.of_anchors else Label)(q.unit, q.long_name) for q in chosen}
