"""Hooks of a script on the way of a state from one step to the next: direct gradients are right, or NaN."""

import numpy as np
import pytest
import torch
from torch import nn

import gradflow as gf

T, B, D, H = 6, 4, 3, 5


class Loop(nn.Module):
    """A cell, or a layer in calls of two steps; before the next one the state is doubled and quartered.

    Args:
        kind: of the cell or layer.
        hook: (the state as it left, doubled, as it enters) -> None, before the next step.
        late: the same after all steps.
        reads: the doubled state is read out as well.
    """

    def __init__(self, kind, hook=None, late=None, *, reads=False):
        super().__init__()
        self.step, self.head = getattr(nn, kind)(D, H), nn.Linear(H, 2)
        self.hook, self.late, self.reads = hook, late, reads

    def forward(self, x):
        state, outputs, self.left, self.entered = None, [], [], []
        for x_t in x if isinstance(self.step, nn.RNNCellBase) else x.split(2):
            if state is not None:
                state = self.between(state, outputs)
            out = self.step(x_t, state)
            state = out if isinstance(self.step, nn.RNNCellBase) else out[1]
            self.left.append(state[0] if isinstance(state, tuple) else state)
            outputs.append(self.head(self.left[-1]).view(B, 2))
        for h in [*self.left, *(passed[2] for passed in self.entered)]:
            h.retain_grad()
        for passed in self.entered if self.late else ():
            self.late(*passed)
        return torch.stack(outputs)

    def between(self, state, outputs):
        """The state as it enters the next step."""
        first, *others = state if isinstance(state, tuple) else (state,)
        middle = 2 * first
        entering = middle * 0.25
        if self.reads:
            outputs.append(self.head(middle).view(B, 2))
        self.entered.append((first, middle, entering))
        if self.hook:
            self.hook(first, middle, entering)
        return (entering, *others) if others else entering

    def direct(self):
        """What arrives at each state that left, not through the next step: log of its norm, mean of the batch."""
        through = [0.5 * passed[2].grad for passed in self.entered] + [0]
        parts = [h.grad - later for h, later in zip(self.left, through, strict=True)]
        return [part.norm(dim=-1).log().mean().item() for part in parts]


def recorded(model, tmp_path, node_halves=False):
    torch.manual_seed(1)
    x = torch.randn(T, B, D, dtype=torch.float64)
    with gf.record(model.double(), tmp_path, examples="all", reduction="sum") as recorder:
        model(x).square().sum().backward()
        recorder.step()
    run = gf.open_run(tmp_path)
    frame = run.frame("time")
    frame = frame[[model.left[0].dim() == 2 or t % 2 == 1 for t in range(T)]]  # where a call ends
    total = np.array([h.grad.norm(dim=-1).log().mean().item() for h in model.left])
    total[:-1] += np.log(0.5) if node_halves else 0  # inside of a layer, past its last state
    np.testing.assert_allclose(frame.log_state_gradient_mean, total, 1e-6)
    assert run.proof == "proved"
    return frame


def halve(gradient):
    return gradient * 0.5


def halve_in_place(gradient):
    gradient *= 0.5


def halve_all(*given):
    return tuple(None if gradient is None else gradient * 0.5 for gradient in given[0])


CHANGING = {
    "on the tensor between": lambda h, middle, entering: middle.register_hook(halve),
    "in place": lambda h, middle, entering: middle.register_hook(halve_in_place),
    "on the state that enters": lambda h, middle, entering: entering.register_hook(halve),
    "on the state that left": lambda h, middle, entering: h.register_hook(halve),
    "before a node between": lambda h, middle, entering: middle.grad_fn.register_prehook(halve_all),
    "after a node between": lambda h, middle, entering: entering.grad_fn.register_hook(halve_all),
}
PLAIN = ["on the tensor between"]


@pytest.mark.parametrize(
    ("kind", "where", "when"),
    [
        pytest.param(kind, where, when, marks=[] if where in quick else pytest.mark.slow)
        for kind, quick in (("GRUCell", CHANGING), ("LSTMCell", PLAIN), ("GRU", PLAIN))
        for where in CHANGING
        for when in ("hook", "late")
    ],
)
def test_a_hook_that_changes_gradients_between_steps(kind, where, when, tmp_path):
    """What came through the next step is not what the graph says, so nobody knows what arrived directly."""
    torch.manual_seed(0)
    model = Loop(kind, **{when: CHANGING[where]})
    frame = recorded(model, tmp_path)
    assert frame.log_direct_gradient_non_finite.tolist() == [B] * (len(frame) - 1) + [0]
    assert frame.log_direct_gradient_mean.iloc[-1] == pytest.approx(model.direct()[-1])


@pytest.mark.parametrize(("watched", "reads"), [(None, True), ("h", False), ("middle", False)])
@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell", "GRU"])
def test_hooks_that_change_nothing_and_a_tensor_between_that_is_read(kind, watched, reads, tmp_path):
    torch.manual_seed(0)
    places, norms = {"h": 0, "middle": 1}, []
    hook = watched and (lambda *passed: passed[places[watched]].register_hook(lambda g: norms.append(g.norm())))
    model = Loop(kind, hook, reads=reads)
    frame = recorded(model, tmp_path)
    np.testing.assert_allclose(frame.log_direct_gradient_mean, model.direct(), 1e-5)
    assert len(norms) == (len(model.entered) if watched else 0)  # nobody else has called it


class Masked(Loop):
    """One operation between steps."""

    def between(self, state, outputs):
        entering = 0.5 * state
        self.entered.append((state, state, entering))
        return entering


@pytest.mark.parametrize("place", [0, 2], ids=["of the state", "between"])
@pytest.mark.parametrize("before", [False, True])
def test_a_late_hook_on_a_node_that_gradflow_has_hooks_on(before, place, tmp_path):
    """It comes after those that gradflow has registered on the same node, and is seen all the same."""

    def late(*passed):
        node = passed[place].grad_fn
        node.register_prehook(halve_all) if before else node.register_hook(halve_all)

    torch.manual_seed(0)
    frame = recorded(Masked("GRU", late=late), tmp_path, node_halves=place == 0)
    assert frame.log_direct_gradient_non_finite.tolist() == [B] * (len(frame) - 1) + [0]


@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
@pytest.mark.parametrize("changes", [False, True])
def test_hooks_of_a_forward_hook_that_was_there_before_the_recorder(changes, kind, tmp_path):
    def forward_hook(module, args, out):
        (out[0] if isinstance(out, tuple) else out).register_hook(halve if changes else lambda gradient: None)

    torch.manual_seed(0)
    model = Loop(kind)
    model.step.register_forward_hook(forward_hook)
    frame = recorded(model, tmp_path)
    if changes:
        assert frame.log_direct_gradient_non_finite.tolist() == [B] * len(frame)
    else:
        np.testing.assert_allclose(frame.log_direct_gradient_mean, model.direct(), 1e-5)
