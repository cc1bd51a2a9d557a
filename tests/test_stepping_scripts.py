"""Scripts that step in unusual ways: each against autograd's own gradients, kept by `retain_grad`."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradflow as gf

T, B, D, H = 5, 4, 3, 4
X = torch.randn(T, B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Loop(nn.Module):
    """A cell in a loop, which keeps its states."""

    def __init__(self, cell, step=lambda cell, x, state: cell(x, state)):
        super().__init__()
        self.cell, self.step = cell.double(), step

    def forward(self, x):
        state, self.kept = None, []
        for x_t in x:
            state = self.step(self.cell, x_t, state)
            h = state[0] if isinstance(state, tuple) else state
            h.retain_grad()
            self.kept.append(h)
        return torch.stack(self.kept)


def recorded(model, path, pass_of, **options):
    """The log of two updates."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"every": 1, "spectrum_every": 1, "examples": "all", "reduction": "sum"} | options
    with gf.record(model, path, **options) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            pass_of(model)
            recorder.step()
            optimizer.step()
    return gf.open_run(path)


def backward(model):
    """One pass, with a loss that weighs every step differently."""
    (model(X).square() * torch.arange(1, T + 1).view(-1, *[1] * (X.dim() - 1))).sum().backward()


def norms(tensors):
    """ln of the norm of each example's gradient, the mean over examples, [T]."""
    return torch.stack([t.grad.reshape(-1, t.shape[-1]).norm(dim=-1).log().mean() for t in tensors])


def assert_exact(run, kept, call=0, module="cell"):
    rows = run.table("time").to_pandas().query(f"iteration == 1 and call == {call} and module == '{module}'")
    np.testing.assert_allclose(rows["log_state_gradient_mean"], norms(kept), 1e-5, 1e-5)


def test_accumulated_gradients(tmp_path):
    """A sequence that starts from no state never goes on with one whose states are gone."""

    def accumulated(model):
        for _ in range(3):
            backward(model)

    model = Loop(nn.GRUCell(D, H))
    run = recorded(model, tmp_path, accumulated)
    assert_exact(run, model.kept)
    assert run.proof == "proved"


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_without_a_batch(kind, tmp_path):
    """States [H] are views of those that the kernel gave, [1, H]."""
    model = Loop(kind(D, H))
    run = recorded(model, tmp_path, lambda m: m(X[:, 0]).square().sum().backward())
    assert_exact(run, model.kept)
    assert run.proof == "proved"


def test_many_sequences_side_by_side(tmp_path):
    """Twelve hypotheses of one cell are twelve sequences."""

    def side_by_side(model):
        states, model.kept = [None] * 12, [[] for _ in range(12)]
        for x_t in X:
            states = [model.cell(x_t * (i + 1), state) for i, state in enumerate(states)]
            for state, kept in zip(states, model.kept, strict=True):
                state.retain_grad()
                kept.append(state)
        torch.stack(states).square().sum().backward()

    model = Loop(nn.GRUCell(D, H))
    run = recorded(model, tmp_path, side_by_side)
    for call, kept in enumerate(model.kept):
        assert_exact(run, kept, call)
    assert run.proof == "proved"


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("kind", [nn.GRUCell, nn.GRU])
def test_weights_that_are_lent(kind, every, tmp_path):
    """`functional_call` is no change of parameters, of cells as of layers."""

    def lent(model):
        weights = {name: weight * 1.0 for name, weight in model.named_parameters()}
        torch.func.functional_call(model, weights, (X,)).square().sum().backward()

    model = Loop(kind(D, H), lambda cell, x, s: cell(x, s) if kind is nn.GRUCell else cell(x.unsqueeze(0), s)[1])
    run = recorded(model, tmp_path, lent, every=every)
    assert run.proof == "proved"


def test_a_cell_inside_of_torch_func(tmp_path):
    def transformed(model):
        weights = {name: weight.detach() for name, weight in model.named_parameters()}

        def loss(weights):
            h = None
            for x_t in X:
                h = torch.func.functional_call(model.cell, weights, (x_t, h))
            return h.square().sum()

        found = torch.func.grad(loss)({name.removeprefix("cell."): weight for name, weight in weights.items()})
        for name, weight in model.cell.named_parameters():
            weight.grad = found[name]

    with pytest.raises(RuntimeError, match=r"nothing to record of 'cell'.*torch\.func"):
        recorded(Loop(nn.GRUCell(D, H)), tmp_path, transformed)


def test_a_checkpoint_around_the_loop(tmp_path):
    """A pass that is made again inside of backward is no other pass; a reentrant one hides the first."""
    model = Loop(nn.GRUCell(D, H))
    run = recorded(
        model, tmp_path / "a", lambda m: checkpoint(m.forward, X, use_reentrant=False).square().sum().backward()
    )
    assert run.proof == "proved"
    h = torch.zeros(B, H, dtype=X.dtype, requires_grad=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        recorded(model, tmp_path / "b", lambda m: checkpoint(m.cell, X[0], h, use_reentrant=True).sum().backward())


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.GRU, nn.LSTM])
def test_many_gradients_at_once_on_the_side(kind, tmp_path):
    """A Jacobian by `is_grads_batched` before the backward pass leaves no trace."""

    def with_jacobian(model):
        if kind is nn.GRUCell:
            h, kept = None, []
            for x_t in X:
                h = model.cell(x_t, h)
                kept.append(h)
            y = torch.stack(kept)
        else:
            y = model.cell(X)[0]
        weights = list(model.parameters())
        unit = torch.eye(y.numel(), dtype=y.dtype)[:3].view(3, *y.shape)
        torch.autograd.grad(y, weights, unit, retain_graph=True, is_grads_batched=True)
        y.square().sum().backward()

    run = recorded(Loop(kind(D, H)), tmp_path, with_jacobian)
    assert run.proof == "proved"


def test_a_mark_whose_step_runs_a_recorded_cell(tmp_path):
    class Marks(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(D, H).double()

        def forward(self, x):
            h, self.kept = x.new_zeros(B, H), []
            for x_t in x:
                h = gf.mark("h", self.cell(x_t, h), step=lambda h, x_t=x_t: self.cell(x_t, h), previous=h)
                h.retain_grad()
                self.kept.append(h)
            return torch.stack(self.kept)

    model = Marks()
    run = recorded(model, tmp_path, backward, states=["h"])
    assert_exact(run, model.kept)
    assert_exact(run, model.kept, module="h")
