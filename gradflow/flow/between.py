"""What a script does to states between two steps: what gradients are multiplied by on their way back.

Values do not tell. A state that is detached for some examples, whose gradient a hook halves, that belongs to another
example with the same value, or whose units are zero before a mask as after it, enters the next step as it left. So the
graph between the steps is asked, while it is there: two products with its transposed Jacobian say whether that is
diagonal, and what stands there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from gradflow.flow.examples import picked
from gradflow.flow.hooks import Passage, is_hooked

SEARCHED = 1000  # nodes between two steps

Places = Sequence[tuple[int, int]]
"""Number of a node in the order in which they ran, and place among its outputs: where a state was given out."""


@dataclass(frozen=True)
class Between:
    """What happens between two steps.

    Attributes:
        factors: of each state, in its shape, what its gradient is multiplied by on the way back; NaN where that is more
            than a factor, or nobody knows. None: the states enter as they left.
        earlier: indices of the steps before the last whose states the ones that enter depend on as well, not through
            the steps after.
        passages: of the states, by which it is known whether a hook of the script changes what the factors say.
    """

    factors: tuple[Tensor, ...] | None = None
    earlier: frozenset[int] = frozenset()
    passages: tuple[Passage, ...] = ()

    @property
    def is_hooked(self) -> bool:
        """Whether a hook of the script has changed the gradient of a state on its way."""
        return any(passage.is_hooked for passage in self.passages)

    def factor(self, place: int, like: Tensor, layer: int, examples: Sequence[int] | None) -> Tensor:
        """Of one state of one layer of a stack, [B, H].

        Args:
            place: of the state.
            like: [B, H].
            layer: in the stack.
            examples: positions in the batch of those in `like`; None: all.
        """
        if self.factors is None:
            return torch.ones_like(like)
        whole = self.factors[place]
        by_layer = whole.reshape(whole.shape[0] if whole.dim() == 3 else 1, -1, whole.shape[-1])
        return picked(by_layer[layer], examples, 0).to(like.dtype)


AS_LEFT = Between()


def between(
    states: Sequence[Tensor | None], given: Sequence[Places], ran: Mapping[int, int], since: int, *, asked: bool
) -> Between | None:
    """What happens to the states of a step before they enter the next one; None if those do not descend from it.

    Args:
        states: that enter the next step.
        given: where each state was given out by the step, once or, as the output of a layer, again.
        ran: number of each node that gave out states of the sequence -> the index of its step.
        since: :func:`gradflow.flow.hooks.registered_by_script` when the step had run.
        asked: whether the factors are; otherwise they are unknown.
    """
    last = max(ran.values())
    ways = [None if state is None else _Way(state, ran) for state in states]
    reached = {number for way in ways if way is not None for number in way.ends}
    if last not in map(ran.get, reached):
        return None
    if not asked:
        return Between(tuple(torch.tensor(torch.nan, device="cpu") for _ in states))
    like = next(state for state in states if state is not None)
    of_last = {number for number in reached if ran[number] == last}
    factors = [
        torch.zeros_like(like) if way is None else way.factor(places, of_last & way.ends)
        for way, places in zip(ways, given, strict=True)
    ]
    passages = [
        way.passage(places, factor, since)
        for way, places, factor in zip(ways, given, factors, strict=True)
        if way is not None and not bool(factor.isnan().all())
    ]
    earlier = frozenset(map(ran.__getitem__, reached)) - {last}
    return Between(tuple(factors), earlier, tuple(passage for passage in passages if passage is not None))


class _Way:
    """From a state that enters a step back to where states of the sequence were given out.

    Args:
        state: that enters.
        ran: as for :func:`between`.

    Attributes:
        ends: numbers of the nodes that gave out states from which this one descends, not through each other.
    """

    def __init__(self, state: Tensor, ran: Mapping[int, int]):
        self._state, self.ends = state, set[int]()
        lowest, seen = min(ran), dict[Any, int]()
        waiting: list[Any] = [state.grad_fn]
        while waiting and len(seen) < SEARCHED:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen[node] = number = node._sequence_nr()
            if number in ran:
                self.ends.add(number)
            elif number > lowest:
                waiting += [child for child, _ in node.next_functions]
        self._numbers = seen

    def factor(self, places: Places, ends: set[int]) -> Tensor:
        """By what the gradient is multiplied, in the shape of the state, NaN where that is more; 0 if nothing leads.

        Args:
            places: where the state was given out.
            ends: those of the way's ends that are of the last step.
        """
        state = self._state
        if not ends:
            return torch.zeros_like(state)
        unknown = torch.full_like(state, torch.nan)
        if not ends <= {number for number, _ in places} or is_hooked(state) or are_packed(if_unknown=False):
            return unknown
        ones, spread = _vectors(state.shape, state.device)
        try:
            with torch.no_grad():
                once, again = self._back(ones, places), self._back(spread, places)
        except (RuntimeError, TypeError):  # the graph has gone, or has a function of the script's own
            return unknown
        if once is None or again is None:
            return unknown
        return once.masked_fill(~((again - once * spread).abs() <= self._rounding * once.abs()), torch.nan)

    def passage(self, places: Places, factor: Tensor, since: int) -> Passage | None:
        """Looks after the gradient on its way; None: the state enters as it left.

        Args:
            places: where the state was given out.
            factor: what :meth:`factor` gave.
            since: see :func:`between`.
        """
        edges = {}
        for node in self._path:
            places_below = [(self._numbers.get(child), at) for child, at in node.next_functions]
            chosen = [edge for edge, place in enumerate(places_below) if place in places]
            if chosen:
                edges[node] = chosen
        return Passage(self._state, factor, edges, self._rounding, since) if edges else None

    def _back(self, vector: Tensor, places: Places) -> Tensor | None:
        """The vector times the Jacobian of the state by what left at some places, summed; None: not of its shape.

        Node by node, without autograd's engine, so that no hook of the script is called and no gradient retained.
        """
        arrived: dict[tuple[int, int], Tensor] = {}

        def add(place: tuple[int, int], part: Tensor) -> None:
            arrived[place] = arrived[place] + part if place in arrived else part

        add((self._numbers[self._state.grad_fn], self._state.output_nr), vector)
        for node in self._path:
            number = self._numbers[node]
            gradients = [arrived.get((number, place)) for place in range(len(node._input_metadata))]
            found = node(*gradients)
            for (child, place), part in zip(
                node.next_functions, found if isinstance(found, tuple) else (found,), strict=True
            ):
                if part is not None and child in self._numbers:
                    add((self._numbers[child], place), part)
        parts = [arrived[place] for place in places if place in arrived]
        if any(part.numel() != vector.numel() for part in parts):
            return None
        return sum((part.reshape(vector.shape).to(vector.dtype) for part in parts), torch.zeros_like(vector))

    @cached_property
    def _rounding(self) -> float:
        """Of the coarsest number that lies on the way, relative."""
        nodes = [*self._path, *(node for node, number in self._numbers.items() if number in self.ends)]
        kinds = {self._state.dtype, *(found.dtype for node in nodes for found in node._input_metadata)}
        return 4 * max(torch.finfo(kind).eps for kind in kinds)

    @cached_property
    def _path(self) -> list[Any]:
        """The nodes that lie on the way, the last one first."""
        leads: set[Any] = set()
        for node, number in sorted(self._numbers.items(), key=lambda item: item[1]):
            if number not in self.ends and any(
                child in leads or self._numbers.get(child) in self.ends for child, _ in node.next_functions
            ):
                leads.add(node)
        return sorted(leads, key=self._numbers.__getitem__, reverse=True)


@lru_cache(8)
def _vectors(shape: torch.Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ones, and numbers between 1 and 2 that are far from those beside them, float64; not to be changed."""
    with torch.inference_mode(False):
        places = torch.arange(shape.numel(), dtype=torch.float64, device="cpu")
        spread = 1 + (places * (5**0.5 - 1) / 2).frac().view(shape).to(device)
        return torch.ones_like(spread), spread


def are_packed(*, if_unknown: bool) -> bool:
    """Whether hooks pack what is saved, as in a checkpoint, where to ask for it runs its function again.

    Args:
        if_unknown: the answer where torch cannot tell, as 2.6.
    """
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return if_unknown if top is None else top(False) is not None
