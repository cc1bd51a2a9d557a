"""Sequences that a script steps through itself: cells in a loop, layers called with T = 1, states of a step by hand.

Each call gives out states, and autograd brings to their nodes the sum of all that depends on them: the total gradient.
A call whose states descend from those that an earlier one of the same module gave out (as they are, masked, dropped
out, mixed with something else) goes on with its :class:`Chain`: one sequence in time. One that starts anew, or from
detached states, begins the next.
"""

import weakref
from collections.abc import Callable, Collection, MutableMapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from gradflow.cells.cell import Cell, State
from gradflow.flow.between import AS_LEFT, SEARCHED, Between, between
from gradflow.flow.calls import REACH, SteppedCell, add, is_of_many_passes, weights_known
from gradflow.flow.dropout import Dropout
from gradflow.flow.hooks import Look, look_first, registered_by_script, tell_of_later_changes
from gradflow.flow.redoing import Redone


class Arrived(dict[str, Tensor]):
    """Gradients by name, and whether they are still what they were: autograd may have given their memory to others."""

    def __init__(self) -> None:
        super().__init__()
        self._versions: dict[str, int] = {}

    def __setitem__(self, name: str, gradient: Tensor) -> None:
        super().__setitem__(name, gradient)
        self._versions[name] = gradient._version

    def have_changed(self) -> bool:
        """Whether one was changed in place since."""
        return any(gradient._version != self._versions[name] for name, gradient in self.items())


class Marked:
    """A state that a script marks in a step of its own, seen as a layer of one.

    Args:
        name: that the script gave it.
    """

    num_layers, bidirectional, batch_first, dropout, is_own = 1, False, False, 0.0, True

    def __init__(self, name: str):
        self.name = name
        self.cell_class: type[Cell] = Cell
        self.knows_step: bool | None = None  # not yet marked

    def takes(self, count: int, *, knows_step: bool) -> None:
        """What the script marks: how many states, and whether it says how they are made."""
        if count != len(self.cell_class.state_names):
            names = ("h", *(f"h{i}" for i in range(1, count)))
            self.cell_class = type("MarkedStates", (Cell,), {"state_names": names, "output_names": names[:1]})
        self.knows_step = knows_step

    def parameters(self) -> list[Tensor]:
        """None is known."""
        return []

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """None is known."""
        return []

    def __repr__(self) -> str:
        return f"states marked {self.name!r}"


class Step:
    """What one call took in and gave out, without the graph.

    Attributes:
        index: its place in the sequence.
        x: the input; None: of a marked state nobody knows it.
        entering: the states that entered, each None for zeros.
        leaving: the states that left, in the order of the cell.
        between: what happens between the step before and this one; None: it is the first.
        is_hooked: a hook of the script changed the gradient of one of its states.
        is_shared: several steps go on from its states.
        dropout: between the layers of a stack; None: nothing was dropped.
        coupled: one marked state is made of another one of the same step.
        redone: a marked step that says how it is made, done again; else None.
        arrived: number of a backward pass -> what it left at the outputs.
    """

    __slots__ = (
        "__weakref__", "arrived", "between", "coupled", "dropout", "entering", "index", "is_hooked", "is_shared",
        "leaving", "redone", "versions", "x",
    )  # fmt: skip

    def __init__(
        self, index: int, x: Tensor | None, entering: tuple, leaving: tuple[Tensor, ...], between: Between | None
    ):
        self.index, self.x, self.entering, self.leaving, self.between = index, x, entering, leaving, between
        self.is_hooked = self.is_shared = False
        self.dropout: Dropout | None = None
        self.coupled = False
        self.redone: Redone | None = None
        self.arrived: dict[int, Arrived] = {}
        self.versions = [tensor._version for tensor in self.tensors()]

    def tensors(self) -> list[Tensor]:
        """All that must stay as it was."""
        return [part for part in (self.x, *self.entering, *self.leaving) if part is not None]

    def is_stale(self, passes: Sequence[int]) -> bool:
        """Whether one of them, or a gradient of some passes, was changed in place."""
        if any(self.arrived[number].have_changed() for number in passes if number in self.arrived):
            return True
        return [tensor._version for tensor in self.tensors()] != self.versions


class Head:
    """The last step of a sequence, as the next call of the module can know it; it holds neither graph nor states.

    Args:
        chain: the sequence, which the hooks in the graph hold.
        step: its last one.
        index: of this step.
        given: the states that it gave out.
        made: all that it gave out: of each state, and "output" of a layer.
        ran: number of each node that gave out states of the sequence before -> the index of its step; of this step
            they are added.
        keeper: one that keeps its gradients; None: they are kept otherwise.

    Attributes:
        ran: numbers of the nodes that gave out the states of this step.
    """

    def __init__(
        self, chain: Any, step: Any, index: int, given: Sequence[Tensor], made: Sequence[Tensor], ran: dict[int, int],
        keeper: "Keeper | None" = None,
    ):  # fmt: skip
        self._chain: Any = weakref.ref(chain)
        self._index, self._keeper = index, None if keeper is None else weakref.ref(keeper)
        self._step, self._since = weakref.ref(step), registered_by_script()
        self._given = [weakref.ref(state) for state in given]
        self.ran: set[int] = set()
        self._places: list[list[tuple[int, int]]] = []
        for state in given:
            self._places.append([])
            if state.grad_fn is not None:
                self._places[-1].append(place_of(state))
                self.ran.add(self._places[-1][0][0])
        for value in made:
            if value.grad_fn is None:
                continue
            place = place_of(value)
            ran[place[0]] = index
            if value is made[0] and len(made) > len(given) and value.numel() == given[0].numel():
                self._places[0].append(place)  # of a layer of one, whose output is its state as well
        self._ran = ran

    @property
    def chain(self) -> Any:
        """The sequence, as long as its graph is there."""
        return self._chain()

    @property
    def is_there(self) -> bool:
        """Whether its step is still in some graph."""
        return self.step is not None

    @property
    def step(self) -> Any:
        """The last step, as long as its graph is there."""
        return self._step()

    def below(self, states: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """What the hooks of the next step are to hold: nodes of this step, or what those of this step do.

        Args:
            states: of the next step, as they enter it or as they leave it.
        """
        if self._index % REACH < REACH - 1:
            keeper = None if self._keeper is None else self._keeper()
            return () if keeper is None else keeper.below
        waiting, seen = [state.grad_fn for state in states if state is not None], set[Any]()
        while waiting and len(seen) < SEARCHED:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [] if node._sequence_nr() in self.ran else [child for child, _ in node.next_functions]
        return tuple(node for node in seen if node._sequence_nr() in self.ran)

    def goes_on_with(self, states: Sequence[Tensor | None], *, asked: bool) -> Between | None:
        """What happens to the states given out here before they enter a step; None: those do not descend from them."""
        entered = [state for state in states if state is not None and state.grad_fn is not None]
        if not self.is_there or not entered:
            return None
        if len(entered) == len(self._given) and all(
            ref() is state and place_of(state) in places
            for ref, state, places in zip(self._given, entered, self._places, strict=True)
        ):
            return AS_LEFT
        return between(states, self._places, self._ran, self._since, asked=asked)


def place_of(state: Tensor) -> tuple[int, int]:
    """Number of the node that made a state, in the order in which they ran, and the place among its outputs."""
    node: Any = state.grad_fn
    return node._sequence_nr(), state.output_nr


def _descend(ran: Collection[int], nodes: Sequence[Any]) -> bool:
    """Whether some nodes of the graph descend from one of those of the given sequence numbers, or are one."""
    lowest, waiting, seen = min(ran), list(nodes), set[Any]()
    while waiting and len(seen) < SEARCHED:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node._sequence_nr() in ran:
            return True
        if node._sequence_nr() > lowest:
            waiting += [child for child, _ in node.next_functions]
    return False


def are_coupled(states: Sequence[Tensor]) -> bool:
    """Whether one of the states of a step was computed from another one of them."""
    nodes = [state.grad_fn for state in states if state.grad_fn is not None]
    above = [child for node in nodes for child, _ in node.next_functions]
    return len(nodes) > 1 and _descend({node._sequence_nr() for node in nodes}, above)


class Heads:
    """The sequences of one module that may go on."""

    def __init__(self) -> None:
        self._heads: list[Head] = []
        self._steps: MutableMapping[int, Any] = weakref.WeakValueDictionary()  # by nodes that gave states

    def before(
        self, states: Sequence[Tensor | None], *, asked: bool = True
    ) -> tuple[Head, Between] | tuple[None, None]:
        """The one that a step goes on with, which is taken out, and what happens to its states between, if asked.

        A step whose states enter a second one as they left is told that they are shared.
        """
        for place, head in enumerate(self._heads):
            found = head.goes_on_with(states, asked=asked)
            if found is not None:
                return self._heads.pop(place), found
        for state in states if self._steps else ():
            step = None if state is None or state.grad_fn is None else self._steps.get(place_of(state)[0])
            if step is not None:
                step.is_shared = True
        return None, None

    def hold(self, states: Sequence[Tensor]) -> bool:
        """Whether one of the states came out of the same node of the graph as the end of a sequence."""
        ran = {state.grad_fn._sequence_nr() for state in states if state.grad_fn is not None}
        return any(head.chain is not None and not ran.isdisjoint(head.ran) for head in self._heads)

    def add(self, head: Head) -> None:
        """Another one that may go on."""
        self._heads = [*(other for other in self._heads if other.is_there), head]
        self._steps.update(dict.fromkeys(head.ran, head.step))


def one_step(layer: Any, x: Any) -> bool:
    """Whether a call of a layer is one step in one direction, of a tensor."""
    if layer.bidirectional or not isinstance(x, Tensor) or not weights_known(layer):
        return False
    batched = x.dim() - (1 if x.is_floating_point() else 0) == 2
    return x.shape[1 if batched and layer.batch_first else 0] == 1


def cell_given(
    called: str, layer: SteppedCell, args: tuple, kwargs: dict, output: Any
) -> tuple[Tensor, Any, dict[str, Tensor]]:
    """What one call of a cell took and gave: input, the states that entered, and name -> state that left.

    Args:
        called: name of the cell, for the error.
        layer: the cell, seen as a layer of one.
        args: what its forward took.
        kwargs: the same.
        output: what its forward gave.

    Raises:
        ValueError: if that is not what such a cell gives.
    """
    names = layer.cell_class.state_names
    x = args[0] if args else kwargs["x_t" if layer.is_own else "input"]
    entering = args[1] if len(args) > 1 else kwargs.get("state" if layer.is_own else "hx")
    if isinstance(entering, dict):
        entering = tuple(entering[name] for name in names)
    left: tuple[Any, ...]
    if layer.is_own and isinstance(output, dict):
        left = tuple(output.get(name) for name in names)
    else:
        left = tuple(output) if isinstance(output, tuple) else (output,)
    if len(left) != len(names) or not all(isinstance(state, Tensor) for state in left):
        raise ValueError(
            f"{called}: expected the states {', '.join(names)} from a step of {type(layer.cell).__name__}, got "
            f"{type(output).__name__}; its own forward (a subclass) or a hook does more: put that into a module around "
            f"the cell, which then can be recorded"
        )
    return x, entering, dict(zip(names, left, strict=True))


class Keeper(Look):
    """Leaves what a backward pass brings to one state of a step; small, since the garbage collector visits each.

    Args:
        step: whose state it is.
        name: of the state.
        place: among the outputs of its node.
        reached: told the step and the number of each backward pass at the first gradient that it brings.
        below: nodes some steps before, which are held, see :data:`gradflow.flow.calls.REACH`.
    """

    __slots__ = ("__weakref__", "_name", "_place", "_reached", "_since", "_step", "below")

    def __init__(
        self, step: Step, name: str, place: int, reached: Callable[[Step, int], None], below: tuple[Any, ...] = ()
    ):
        super().__init__()
        self._since = registered_by_script()
        self._step, self._name, self._place, self._reached, self.below = step, name, place, reached, below

    def keep(self, gradients: tuple[Tensor | None, ...]) -> None:
        """What comes to the node, after the hooks of the script."""
        gradient, step = gradients[self._place], self._step
        if gradient is None or is_of_many_passes(gradient):
            return
        if self.has_seen_other_than(gradient):
            self._is_changed()
        elif registered_by_script() != self._since:
            tell_of_later_changes(gradient, self._place, self._is_changed)
        number = torch._C._current_graph_task_id()
        if number not in step.arrived:
            step.arrived[number] = Arrived()
            self._reached(step, number)
        add(step.arrived[number], self._name, gradient.detach().clone())  # a leaf's .grad may take its memory

    def _is_changed(self) -> None:
        self._step.is_hooked = True


def keep_gradients(
    step: Step, outputs: State, reached: Callable[[Step, int], None], below: tuple[Any, ...] = ()
) -> Keeper | None:
    """Have autograd leave what arrives at the outputs of a step; None if they are not in the graph.

    Args:
        step: where it is left.
        outputs: name -> tensor.
        reached: see :class:`Keeper`.
        below: the same.
    """
    keeper = None
    for name, value in outputs.items():
        if value.requires_grad and value.grad_fn is not None:
            keeper = Keeper(step, name, value.output_nr, reached, below)
            look_first(value, keeper)
            cast(Any, value.grad_fn).register_prehook(keeper.keep)
    return keeper
