"""Gradients of the loss at single positions: the backward recursion from a few anchors, as more examples of a batch.

Where a loss stands at every step the total gradient is a sum over all of them, about the same at every position, and
says nothing of memory. What does is ∂L_s/∂h_t against s - t, L_s being what the loss takes at position s alone: of the
layer's output there, and of the final state of a direction that ends there; whatever comes after the layer, another
recurrent one as well, is part of the loss. Below the top layer ∂L_s/∂h_t goes all ways, through the layers above and
between them.

Shapes: T time steps, B examples, N pairs of an example and an anchor s.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradflow.flow.adjoint import arriving_at, descend, in_time, only
from gradflow.flow.arriving import Direct
from gradflow.flow.recursion import Block, recur
from gradflow.flow.replay import Trace, Unrolled
from gradflow.flow.saved import Place

ANCHORS = 4  # of an example
EXAMPLES = 4


@dataclass(frozen=True)
class Anchors:
    """Pairs of an example and a position s of the loss.

    Attributes:
        examples: [N], places among the examples of the trace.
        positions: [N], s.
        read: [directions, N] bool: whether the loss reads this direction of the top layer at s.
    """

    examples: list[int]
    positions: Tensor
    read: Tensor


def anchors_of(trace: Trace, arrived: Mapping[str, Any]) -> Anchors | None:
    """Up to four anchors each of up to four examples; None if no example is read at several positions.

    Of the examples in which the loss reads a direction at several positions, those at ⌊iN/4⌋. Of the positions at which
    it reads an example the last, the one in the middle and two between, so that many steps come before each; with two
    directions the last, the first and two between.

    Args:
        trace: a forward pass.
        arrived: as for :func:`gradflow.flow.adjoint.descend`.
    """
    return _anchors(arriving_at(trace, arrived))


def _anchors(at: Tensor) -> Anchors | None:
    """Of [directions, T, B] bool: where the loss reads a direction."""
    several = (at.sum(1).amax(0) > 1).nonzero().squeeze(1).tolist()
    if not several:
        return None
    some = several if len(several) <= EXAMPLES else [several[i * len(several) // EXAMPLES] for i in range(EXAMPLES)]
    pairs = [(b, s) for b in some for s in _spread(at[:, :, b].any(0).nonzero().squeeze(1).tolist(), len(at))]
    examples, positions = (list(part) for part in zip(*pairs, strict=True))
    return Anchors(examples, torch.tensor(positions, device="cpu"), at[:, positions, examples])


def _spread(positions: list[int], directions: int) -> list[int]:
    last = len(positions) - 1
    first = 0 if directions == 2 else len(positions) // 2
    ranks = {first + i * (last - first) // (ANCHORS - 1) for i in range(ANCHORS)}
    return [positions[rank] for rank in sorted(ranks)]


def anchored_gradients(
    trace: Trace, arrived: Mapping[str, Any], anchors: Anchors
) -> Iterator[tuple[Place, Tensor, Tensor]]:
    """From the top layer down: (layer, direction), ln‖∂L_s/∂h_t‖ of the whole state, and where it counts.

    Args:
        trace: a forward pass.
        arrived: as for :func:`gradflow.flow.adjoint.descend`.
        anchors: of this pass.

    Yields:
        Layer and direction; [T, N] float64, (h, c) for an LSTM, natural logs without limit of range, -inf for an exact
        zero; [T, N] bool: h_t does not come after s in this direction, and the loss reads this one at s (below the top
        layer what is read at s has come through both).
    """
    pairs = trace.of(anchors.examples)
    time = torch.arange(len(pairs[0, 0].like), device="cpu").unsqueeze(1)
    for (layer, direction), blocks in descend(pairs, arrived, at=time == anchors.positions):
        unrolled = pairs[layer, direction]
        norms = in_time([block.log_joint_norm for block in blocks], unrolled).cpu()
        counts = time >= anchors.positions if direction else time <= anchors.positions
        if layer == trace.call.layer.num_layers - 1:
            counts = counts & anchors.read[direction]
        yield (layer, direction), norms, counts if unrolled.valid is None else counts & unrolled.valid.cpu()


class StepsFromAnchors:
    """The same of a sequence that a script stepped through, layer by layer from the top one down.

    What arrives directly is that of its blocks. Where more is done to the states between steps than that some examples
    begin anew, ∂L_s/∂h_t does not follow from the Jacobians, and nothing is found.
    """

    def __init__(self) -> None:
        self.anchors: Anchors | None = None
        self._given: Direct | None = None

    def down(self, unrolled: Unrolled, blocks: Sequence[Block]) -> tuple[Tensor, Tensor] | None:
        """ln‖∂L_s/∂h_t‖, [T, N], of one more layer, and where it counts; None if it is not known.

        Args:
            unrolled: its steps.
            blocks: of the top layer.
        """
        if self._given is None:
            self._begin(unrolled, blocks)
        if self.anchors is None or self._given is None:
            return None
        pairs = unrolled.of(self.anchors.examples)
        found = list(recur(pairs, self._given))
        norms = in_time([block.log_joint_norm for block in found], pairs).cpu()
        values = in_time([block.at_input() for block in found], pairs) if pairs.torch_cell is not None else None
        self._given = Direct(values, in_time([block.exponent for block in found], pairs))
        if pairs.cut is not None:
            begun = pairs.cut.cpu().cumsum(0)
            later = begun.gather(0, self.anchors.positions.unsqueeze(0))
            norms = norms.masked_fill(begun < later, -torch.inf)
        counts = torch.arange(len(norms), device="cpu").unsqueeze(1) <= self.anchors.positions
        return norms, counts if pairs.valid is None else counts & pairs.valid.cpu()

    def _begin(self, unrolled: Unrolled, blocks: Sequence[Block]) -> None:
        names = unrolled.cell.output_names
        if not unrolled.carried and unrolled.cut is None:
            return
        given = [[b.direct.values.get(name, torch.zeros_like(b.unrolled.like)) for name in names] for b in blocks]
        parts = [torch.cat(each, -1) for each in given]
        direct = in_time(parts, unrolled)
        self.anchors = _anchors((direct != 0).any(-1).cpu().unsqueeze(0))
        if self.anchors is not None:
            at = torch.arange(len(direct), device="cpu").unsqueeze(1) == self.anchors.positions
            exponents = [
                torch.zeros_like(b.exponent) if b.direct.exponent is None else b.direct.exponent for b in blocks
            ]
            exponent = in_time(exponents, unrolled)[:, self.anchors.examples]
            self._given = Direct(only(direct[:, self.anchors.examples], at), exponent)
