"""Where total gradients are lost: under the range of their dtype, with nobody who knows them on a scale of their own.

Shapes: t positions of a block, T all time steps, B examples, S state size.
"""

import math

import torch
from torch import Tensor

from gradflow.cells.cell import State
from gradflow.flow.arriving import LOWEST, Arriving, Carried, Direct, is_low, joint_norm
from gradflow.flow.metrics import all_between


class Faded:
    """Where nobody knows what autograd brought: it has faded out of the range, from block to block on the way back.

    As from a layer above that is called by itself, whose gradients vanish. An exact zero after one in range has not
    faded, nor has what is small where it begins.

    Args:
        batch: B.
        kind: the dtype.
        device: where they are.
    """

    def __init__(self, batch: int, kind: torch.dtype, device: torch.device):
        self._least = math.log(torch.finfo(kind).tiny)
        self._came = self._faded = torch.zeros(batch, dtype=torch.bool, device=device)
        self._any = False  # of them has faded

    def among(self, log_norms: Tensor | None, order: list[int]) -> Tensor | None:
        """Where in the next block, [t, B] bool; None: nowhere.

        Args:
            log_norms: [t, B] float64, natural logs of the norms of what arrives; None: nothing does.
            order: the steps of the block, against the direction of the layer.
        """
        if log_norms is None:
            return None
        if not (self._any or is_low(log_norms, self._least) or bool(log_norms[order[-1]].isnan().any())):
            self._came = log_norms[order[-1]] >= self._least
            return None
        found = torch.zeros_like(log_norms, dtype=torch.bool)
        for t in order:
            low, zero = log_norms[t] < self._least, log_norms[t] == -torch.inf
            self._came = self._came & ~(zero & ~self._faded)
            found[t] = self._faded = self._came & low
            self._came = self._came | (log_norms[t] >= self._least)
        self._any = bool(self._faded.any())
        return found if bool(found.any()) else None


class Lost:
    """Of which examples the total gradient is lost, from block to block on the way back.

    Args:
        direct: what arrives at the states.
        carried: what comes to the last one from later ones.
        kind: their dtype.

    Under the smallest normal number autograd's gradients are rounding, or exactly zero. Where they are all that there
    is, one that is so small is lost, unless nothing has come before; and from there on until one comes that has digits
    to spare. An exact zero after such a one is no underflow: nothing goes back, as where an example begins anew.
    """

    def __init__(self, direct: Direct, carried: Carried, kind: torch.dtype):
        none = torch.zeros_like(carried.log_norm, dtype=torch.bool)
        self._lowest, self._least = LOWEST[kind], math.log(torch.finfo(kind).tiny)
        self._as_read = not direct.carried
        self._lost = none if direct.doubtful is None else direct.doubtful
        self._came = carried.log_norm > -torch.inf if self._as_read else none
        self._last = torch.full_like(carried.log_norm, -torch.inf)

    def among(self, log_norms: State, order: list[int], direct: Arriving, between: Tensor | None) -> Tensor | None:
        """Where they are lost in the next block, [t, B] bool; None: nowhere.

        Args:
            log_norms: state name -> [t, B] float64, natural logs of the norms of the total gradients.
            order: its steps, against the direction of the layer.
            direct: what arrives at them.
            between: [t, B, S], see :class:`gradflow.flow.arriving.Direct`.
        """
        norms = joint_norm(log_norms)
        not_zero = [norm.masked_fill(norm == -torch.inf, torch.inf) for norm in log_norms.values()]
        smallest = torch.minimum(norms, torch.stack(not_zero).amin(0))
        if all_between(smallest, self._lowest, math.inf):
            self._lost, self._came = torch.zeros_like(self._lost), torch.full_like(self._came, self._as_read)
            self._last = norms[order[-1]]
            return None
        found = torch.zeros_like(norms, dtype=torch.bool)
        for t in order:
            if self._as_read:
                self._begins((norms[t] == -torch.inf) & (self._last >= self._lowest))
            came = self._came if direct.unknown is None else self._came | direct.unknown[t]
            found[t] = self._lost = (self._lost & (norms[t] < self._lowest)) | (came & (smallest[t] < self._least))
            if self._as_read:
                self._came, self._last = self._came | (norms[t] > -torch.inf), norms[t]
            if between is not None:
                self._begins((between[t] == 0).all(-1))
        return found

    def _begins(self, anew: Tensor) -> None:
        """Forget what came to some examples, [B] bool."""
        self._lost, self._came = self._lost & ~anew, self._came & ~anew
