"""Scripts that step in unusual ways: each against autograd's own gradients, kept by `retain_grad`."""

import weakref

import numpy as np
import pytest
import torch
from covering import each_pair
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradflow as gf
from gradflow.flow.between import between

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


class Marks(nn.Module):
    """A step by hand, in a checkpoint or not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.i2h, self.h2h = nn.Linear(D, H).double(), nn.Linear(H, H).double()

    def forward(self, x):
        h = x.new_zeros(x.shape[1], H)
        for x_t in x:

            def step(h, x_t=x_t):
                return torch.tanh(self.i2h(x_t) + self.h2h(h)) + 0.1 * h

            h = gf.mark("h", step(h), step=step, previous=h)
        return h


def test_a_mark_with_its_step_in_a_checkpoint(tmp_path):
    x, found, graphs = torch.randn(T, B, D, dtype=torch.float64), [], []
    for run in (lambda model: model(x), lambda model: checkpoint(model, x, use_reentrant=False)):
        model, path = Marks(), tmp_path / str(len(found))
        with gf.record(model, path, states=["h"], reduction="sum") as recorder:
            h = run(model)
            graphs.append(weakref.ref(h))
            h.sum().backward()
            del h
            recorder.step()
        columns = gf.open_run(path).frame("time")[["log_state_gradient_mean", "log_direct_gradient_mean"]]
        found.append([columns.to_numpy(), *(parameter.grad for parameter in model.parameters())])
    for plain, checkpointed in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, checkpointed)
    assert [graph() for graph in graphs] == [None, None]


class Reversed(torch.autograd.Function):
    """The gradient turned round, as in domain-adversarial training."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def hooked(t, h):
    """A hook that halves the gradient, as MuZero does at every step."""
    h.register_hook(lambda gradient: gradient * 0.5)
    return h


def looked_at(t, h):
    """A hook that only looks."""
    h.register_hook(lambda gradient: None)
    return h


LIVE = torch.stack([(torch.arange(B) + t) % 3 != 0 for t in range(T)]).unsqueeze(-1)
BETWEEN = {
    "mask": lambda t, h: h * LIVE[t],
    "mask a masked unit": lambda t, h: h * LIVE[t] * (torch.arange(H) != t),
    "dropout": lambda t, h: nn.functional.dropout(h, 0.4),
    "copies": lambda t, h: torch.stack(h.clone().unbind(0)).view(1, B, H)[0],
    "detached for some": lambda t, h: torch.where(LIVE[t], h, h.detach()),
    "half of it detached": lambda t, h: h * 0.5 + h.detach() * 0.5,
    "straight through": lambda t, h: h + (h.sign() - h).detach(),
    "looked at": looked_at,
}
"""What is done to a state, and the factor of its gradient is a number of each unit."""
MORE = {
    "swapped": lambda t, h: h.flip(-2),
    "the best": lambda t, h: h[torch.zeros(B, dtype=torch.long)],
    "halved by a hook": hooked,
    "a copy halved by a hook": lambda t, h: hooked(t, h * 1),
    "turned round": lambda t, h: Reversed.apply(h),
    "normalised": lambda t, h: nn.functional.layer_norm(h, (H,)),
}
"""More than that, or what nobody can ask."""


@each_pair(between=[*BETWEEN, *MORE], kind=["relu", "LSTMCell"], alike={"apart": False, "alike": True})
def test_what_arrives_directly_is_right_or_unknown(kind, between, alike, tmp_path):
    """Whatever is done to a state between steps, also where values do not tell: units that are zero, equal examples."""
    torch.manual_seed(0)
    cell = nn.RNNCell(D, H, nonlinearity="relu") if kind == "relu" else nn.LSTMCell(D, H)
    change = (BETWEEN | MORE)[between]
    direct = []

    def step(cell, x, state):
        if isinstance(state, tuple):
            state = tuple(change(len(direct), part) for part in state)
        elif state is not None:
            state = change(len(direct), state)
        return cell(x, state)

    def pass_of(model):
        direct.clear()
        state, loss = None, 0.0
        for t, x_t in enumerate(X[:, :1].expand(T, B, D) if alike else X):
            state = step(model.cell, x_t, state)
            h = state[0] if isinstance(state, tuple) else state
            direct.append(torch.zeros_like(h, requires_grad=True))  # its gradient is what arrives at h directly
            read = h + direct[-1]
            loss = loss + ((read.square() + read) * (t + 1)).sum()
        loss.backward()

    run = recorded(Loop(cell), tmp_path, pass_of)
    rows = run.table("time").to_pandas().query("iteration == 1")
    unknown = rows["log_direct_gradient_non_finite"].to_numpy()
    assert unknown[-1] == 0
    assert unknown.any() == (between in MORE)
    some = unknown == 0
    np.testing.assert_allclose(rows["log_direct_gradient_mean"][some], _mean(direct)[some], 1e-5, 1e-5)
    assert run.proof == "proved"


def _mean(direct):
    """Of those that are not zero."""
    logs = torch.stack([each.grad.norm(dim=-1).log() for each in direct]).numpy()
    return np.where(np.isfinite(logs), logs, 0).sum(1) / np.isfinite(logs).sum(1)


def test_what_is_asked_between_steps_is_not_seen_by_the_script(tmp_path):
    """No hook of the script is called once more, and no gradient retained that backward did not bring."""
    called = []

    def step(cell, x, state):
        if state is not None:
            state.register_hook(lambda gradient: called.append(1))
            state = state * LIVE[0]
            state.retain_grad()
        return cell(x, state)

    model = Loop(nn.GRUCell(D, H), step)
    recorded(model, tmp_path, backward)
    assert len(called) == 2 * (T - 1)


def test_examples_that_are_done_keep_their_state(tmp_path):
    """What a mask leaves as it was comes to the earlier state directly; what came through a later step does not."""

    def frozen(model):
        h, model.kept = torch.zeros(B, H, dtype=X.dtype), []
        for t, x_t in enumerate(X):
            new = model.cell(x_t, h)
            new.retain_grad()
            model.kept.append(new)
            h = torch.where((torch.arange(B) < t).unsqueeze(1), h, new)  # example t - 1 is done at t
        h.square().sum().backward()

    model = Loop(nn.GRUCell(D, H))
    run = recorded(model, tmp_path / "a", frozen)
    rows = run.table("time").to_pandas().query("iteration == 1")
    assert rows["log_direct_gradient_non_finite"].eq(0).all()
    assert rows["log_direct_gradient_zeros"].tolist() == [3, 3, 3, 3, 4]  # one is done at each, and at 4 the last
    assert run.proof == "proved"

    def skipping(model):
        states = [torch.zeros(B, H, dtype=X.dtype)]
        for x_t in X:
            states.append(model.cell(x_t, states[-1] + (states[-3] if len(states) > 3 else 0)))
        states[-1].square().sum().backward()

    rows = recorded(model, tmp_path / "b", skipping).table("time").to_pandas().query("iteration == 1")
    assert rows["log_direct_gradient_non_finite"].tolist() == [B, B, 0, 0, 0]


def test_a_step_that_gives_out_what_entered_is_refused(tmp_path):
    class Slow(gf.Cell):
        state_names = ("h", "s")

        def __init__(self):
            super().__init__()
            self.hidden_size, self.inner = H, nn.Linear(D + 2 * H, H)

        def step(self, x_t, state):
            h = torch.tanh(self.inner(torch.cat((x_t, state["h"], state["s"]), -1)))
            return {"h": h, "s": state["s"]}

    def pass_of(model):
        h = torch.zeros(B, H, dtype=X.dtype)
        state = {"h": h, "s": h.clone().requires_grad_() * 1}
        for x_t in X:
            state = model.cell(x_t, state)
        state["h"].sum().backward()

    with pytest.raises(ValueError, match=r"cell: expected new states.*'s' as it entered.*give out a copy"):
        recorded(Loop(Slow()), tmp_path, pass_of)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_factors_in_any_precision(dtype):
    """Of a mask, a cast and dropout a number; of the states of other examples none, though all have one value."""
    h = torch.full((B, H), 0.5, dtype=dtype, requires_grad=True).tanh()
    number = h.grad_fn._sequence_nr()

    def factor(entered):
        return between((entered,), [[(number, 0)]], {number: 0}, 0, asked=True).factors[0]

    torch.testing.assert_close(factor(h * LIVE[1]), LIVE[1].double().expand(B, H))
    torch.testing.assert_close(factor(h.float().double() * 2), torch.full((B, H), 2.0, dtype=torch.float64))
    dropped = nn.functional.dropout(h, 0.5)
    torch.testing.assert_close(factor(dropped), (dropped / h).double())
    assert factor(h.roll(1, 0)).isnan().any(-1).all()
    assert factor(h.roll(1, 1)).isnan().any(-1).all()


def test_a_leaf_whose_gradient_is_that_of_a_state(tmp_path):
    """The second backward pass adds to the leaf's gradient in place, which autograd gave the state's memory."""

    def twice(model):
        h, model.kept, outputs = None, [], []
        for x_t in X:
            h = model.cell(x_t, h)
            h.retain_grad()
            model.kept.append(h)
            outputs.append(h + torch.zeros_like(h, requires_grad=True))
        loss = torch.stack(outputs).square().sum()
        (loss * 0.3).backward(retain_graph=True)
        (loss * 0.7).backward()

    model = Loop(nn.GRUCell(D, H))
    run = recorded(model, tmp_path, twice)
    assert_exact(run, model.kept)
    assert run.proof == "proved"


@pytest.mark.parametrize("between", ["mask", "looked at", "detached for some", "swapped", "halved by a hook"])
def test_what_arrives_directly_between_calls_of_several_steps(between, tmp_path):
    """The last step of each call, against a loop over a cell with the same weights."""
    change, parts = (BETWEEN | MORE)[between], X.split([2, 1, 2])
    model, cell = Loop(nn.GRU(D, H)), nn.GRUCell(D, H).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in model.cell.state_dict().items()})

    def pass_of(model):
        h, outputs = None, []
        for t, x in enumerate(parts):
            output, h = model.cell(x, h if h is None else change(t, h))
            outputs.append(output)
        torch.cat(outputs).square().sum().backward()

    run = recorded(model, tmp_path, pass_of)
    rows = run.table("time").to_pandas().query("iteration == 0")
    assert rows["time"].tolist() == list(range(T))
    assert run.proof == "proved"
    if between not in ("mask", "looked at"):
        assert rows["log_direct_gradient_non_finite"].tolist() == [0, B, B, 0, 0]
        return
    h, direct, loss = None, [], 0.0
    for t, x in enumerate(parts):
        h = h if h is None else change(t, h)
        for x_t in x:
            h = cell(x_t, h)
            direct.append(torch.zeros_like(h, requires_grad=True))
            loss = loss + (h + direct[-1]).square().sum()
    loss.backward()
    np.testing.assert_allclose(rows["log_direct_gradient_mean"], _mean(direct), 1e-5, 1e-5)


def test_marks_where_most_iterations_are_not_recorded(tmp_path):
    """Of a marked state nobody knows weights that could be kept for the last iteration."""

    class Marks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(D + H, H).double()

        def forward(self, x):
            h, self.kept = x.new_zeros(B, H), []
            for x_t in x:
                h = gf.mark("h", torch.tanh(self.inner(torch.cat((x_t, h), -1))))
                h.retain_grad()
                self.kept.append(h)
            return torch.stack(self.kept)

    run = recorded(Marks(), tmp_path, backward, states=["h"], every=3)
    assert run.table("time").to_pandas()["time"].tolist() == list(range(T))
    assert len(run.scalars) == 2
