"""Sequences that a script steps through itself: the same numbers as those of the layer that runs all steps at once."""

import copy
import functools
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import gradflow as gf
from gradflow.flow.redoing import redone

T, B, D, H = 7, 5, 3, 4


class Coupled(gf.Cell):
    """Two states of which one is made of the other's new value, as in a coupled oscillator."""

    state_names = ("y", "z")

    def __init__(self):
        super().__init__()
        self.hidden_size, self.inner = H, nn.Linear(D + 2 * H, H)

    def step(self, x_t, state):
        z = state["z"] + 0.3 * (torch.tanh(self.inner(torch.cat((x_t, state["y"], state["z"]), -1))) - state["y"])
        return {"y": state["y"] + 0.3 * z, "z": z}


class OfInput(gf.Cell):
    """The second state is of the input alone, and makes the first one."""

    state_names = ("y", "z")

    def __init__(self):
        super().__init__()
        self.hidden_size, self.inner, self.given = H, nn.Linear(2 * H, H), nn.Linear(D, H)

    def step(self, x_t, state):
        z = torch.tanh(self.given(x_t))
        return {"y": torch.tanh(self.inner(torch.cat((state["y"], state["z"]), -1))) * z, "z": z}


class Own(gf.Cell):
    """One state."""

    def __init__(self):
        super().__init__()
        self.hidden_size, self.inner = H, nn.Linear(D + H, H)

    def step(self, x_t, state):
        return {"h": torch.tanh(self.inner(torch.cat((x_t, state["h"]), -1)))}


class Whole(nn.Module):
    """A layer over the whole sequence and a read-out of every position."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(H, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0])


class OneByOne(nn.Module):
    """The same, a step at a time."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(H, 2)

    def forward(self, x):
        state, outputs = None, []
        for x_t in x:
            h, state = self.step(x_t, state)
            outputs.append(self.head(h))
        return torch.stack(outputs)

    def step(self, x_t, state):
        if isinstance(self.layer, gf.Cell):
            names = self.layer.state_names
            state = {name: x_t.new_zeros(len(x_t), H) for name in names} if state is None else state
            state = self.layer(x_t, state)
            return state[names[0]], state
        if isinstance(self.layer, nn.RNNCellBase):
            state = self.layer(x_t, state)
            return (state[0] if isinstance(state, tuple) else state), state
        dim = 1 if self.layer.batch_first else 0
        output, state = self.layer(x_t.unsqueeze(dim), state)
        return output.squeeze(dim), state


def pair(kind):
    """A layer, and what steps with the same weights."""
    if isinstance(kind, type):
        cell = kind()
        return gf.Recurrent(copy.deepcopy(cell)), cell
    if kind.endswith("Cell") or kind == "RNNCell relu":
        name, _, nonlinearity = kind.partition(" ")
        options = {"nonlinearity": nonlinearity} if nonlinearity else {}
        layer, cell = getattr(nn, name.removesuffix("Cell"))(D, H, **options), getattr(nn, name)(D, H, **options)
        cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
        return layer, cell
    name, _, rest = kind.partition(" ")
    home, options = (gf, {}) if name.startswith("gf.") else (nn, {})
    options |= {"num_layers": 2} if "stack" in rest else {}
    layer = getattr(home, name.removeprefix("gf."))(D, H, **options)
    stepped = getattr(home, name.removeprefix("gf."))(D, H, batch_first="first" in rest, **options)
    stepped.load_state_dict(layer.state_dict())
    return layer, stepped


KINDS = [
    "RNNCell", "RNNCell relu", "LSTMCell", "GRUCell", Own, Coupled, "RNN", "LSTM", "GRU", "LSTM stack",
    "GRU stack first", "RNN stack", "gf.LSTM stack", "gf.GRU", "gf.LinearRNN first", OfInput,
]  # fmt: skip
LOSSES = {
    "every step": lambda y: y.square().mean(),
    "the end": lambda y: y[-1].square().mean(),
    "the middle": lambda y: y[3].square().mean() * 1e-3,
}


def recorded(model, x, loss_of, path, **options):
    """The log of three updates."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"every": 1, "spectrum_every": 1, "quantities": None} | options
    with gf.record(model, path, **options) as recorder:
        for _ in range(3):
            loss = loss_of(model(x))
            optimizer.zero_grad()
            loss.backward()
            recorder.step(loss)
            optimizer.step()
    return gf.open_run(path)


def assert_same(run, other, *, tables=("time", "lag", "gates", "spectrum"), tolerance=2e-6):
    for table in tables:
        found, expected = run.table(table).to_pandas(), other.table(table).to_pandas()
        assert list(found.columns) == list(expected.columns)
        assert len(found) == len(expected)
        for name in found.columns:
            if pd.api.types.is_numeric_dtype(found[name]):
                np.testing.assert_allclose(found[name], expected[name], tolerance, tolerance, err_msg=f"{table} {name}")


QUICK = [("every step", "all"), ("the end", 3)]
"""Of each kind one of these."""
WAYS = [
    pytest.param(kind, *way, marks=[] if way == QUICK[number % 2] else pytest.mark.slow)
    for number, kind in enumerate(KINDS)
    for way in itertools.product(LOSSES, ("all", 3))
]


@pytest.mark.parametrize(("kind", "loss", "examples"), WAYS)
def test_steps_are_one_sequence(kind, loss, examples, tmp_path):
    torch.manual_seed(0)
    layer, stepped = pair(kind)
    whole, by_steps = Whole(layer).double(), OneByOne(stepped).double()
    by_steps.head.load_state_dict(whole.head.state_dict())
    x = torch.randn(T, B, D, dtype=torch.float64)
    expected = recorded(whole, x, LOSSES[loss], tmp_path / "whole", examples=examples)
    run = recorded(by_steps, x, LOSSES[loss], tmp_path / "steps", examples=examples)
    assert_same(run, expected)
    assert run.proof == expected.proof == ("proved" if isinstance(kind, str) else "unproved")


class Counts(gf.Cell):
    """A state that counts the steps, and that another one is made of."""

    state_names = ("h", "n")

    def __init__(self):
        super().__init__()
        self.hidden_size, self.inner = H, nn.Linear(D + H, H)

    def step(self, x_t, state):
        n = state["n"] + 0.1
        return {"h": torch.tanh(self.inner(torch.cat((x_t, state["h"]), -1)) * n), "n": n}


def test_a_state_without_gradients_has_none(tmp_path):
    torch.manual_seed(0)
    model, kept = OneByOne(Counts()), []
    model.layer.register_forward_hook(lambda *given: given[2]["h"].retain_grad() or kept.append(given[2]["h"]))
    with gf.record(model, tmp_path, reduction="sum", examples="all") as recorder:
        model(torch.randn(T, B, D)).square().mean().backward()
        recorder.step()
    norms = [state.grad.norm(dim=-1).log().mean().item() for state in kept]
    frame = gf.open_run(tmp_path).frame("time")
    assert frame.log_state_gradient_mean.tolist() == frame.log_joint_gradient_mean.tolist() == pytest.approx(norms)


class InParts(Whole):
    """The same in calls of 3, 1 and 3 steps, the state carried on."""

    def forward(self, x):
        state, outputs = None, []
        for part in x.split([3, 1, 3]):
            output, state = self.layer(part, state)
            outputs.append(self.head(output))
        return torch.cat(outputs)


IN_PARTS = ["RNN", "LSTM", "GRU", "LSTM stack", "GRU stack", "gf.LSTM", "gf.RNN stack", Own, Coupled]


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        pytest.param(kind, loss, marks=[] if loss == ("every step", "the middle")[number % 2] else pytest.mark.slow)
        for number, kind in enumerate(IN_PARTS)
        for loss in ("every step", "the end", "the middle")
    ],
)
def test_calls_of_several_steps_are_one_sequence(kind, loss, tmp_path):
    torch.manual_seed(0)
    whole = Whole(pair(kind)[0]).double()
    parts = InParts(copy.deepcopy(whole.layer)).double()
    parts.load_state_dict(whole.state_dict())
    x = torch.randn(T, B, D, dtype=torch.float64)
    expected = recorded(whole, x, LOSSES[loss], tmp_path / "whole", examples="all")
    run = recorded(parts, x, LOSSES[loss], tmp_path / "parts", examples="all")
    assert_same(run, expected)
    assert run.proof == expected.proof
    assert len(run.table("proof")) == len(expected.table("proof"))


class Loop(nn.Module):
    """A cell in a loop where `between` is done to the state from step to step; keeps states and what is read out."""

    def __init__(self, kind, between=lambda model, t, h: h):
        super().__init__()
        self.cell, self.head, self.between = getattr(nn, kind)(D, H), nn.Linear(H, 2), between
        self.query = nn.Linear(H, H)
        self.memory = torch.randn(6, H, dtype=torch.float64)

    def forward(self, x):
        state, outputs = None, []
        self.kept, self.read = [], []
        for t, x_t in enumerate(x):
            if state is not None:
                parts = state if isinstance(state, tuple) else (state,)
                parts = tuple(self.between(self, t, part) for part in parts)
                state = parts if isinstance(state, tuple) else parts[0]
            state = self.cell(x_t, state)
            h = state[0] if isinstance(state, tuple) else state
            h.retain_grad()
            read = torch.zeros_like(h, requires_grad=True)  # dL/d read is what arrives at h_t directly
            self.kept.append(h)
            self.read.append(read)
            outputs.append(self.head(h + read))
        return torch.stack(outputs)


def episodes(model, t, h):
    """Some examples start anew."""
    over = (torch.arange(B) + t) % 3 == 0
    return h * (~over).double().unsqueeze(1)


def anew(model, t, h):
    """The same by `where`, from zeros."""
    return torch.where(((torch.arange(B) + t) % 3 == 0).unsqueeze(1), torch.zeros_like(h), h)


def dropped(model, t, h):
    """Dropout between steps."""
    return nn.functional.dropout(h, 0.4)


def attending(model, t, h):
    """The state takes in what it attends to in a memory."""
    return h + torch.softmax(model.query(h) @ model.memory.T, -1) @ model.memory


KNOWN = {"as it is": lambda model, t, h: h, "episodes": episodes, "anew": anew, "dropout": dropped}


@pytest.mark.parametrize("between", [*KNOWN, "attention"])
@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
def test_what_happens_between_steps(kind, between, tmp_path):
    torch.manual_seed(1)
    model = Loop(kind, KNOWN.get(between, attending)).double()
    seen = []

    def loss_of(y):
        seen.append((model.kept, model.read))
        return y.square().mean() + 3 * y[3].square().mean()

    x = torch.randn(T, B, D, dtype=torch.float64)
    run = recorded(model, x, loss_of, tmp_path / "run", examples="all", reduction="sum")
    for iteration, (kept, read) in enumerate(seen):
        rows = run.table("time").to_pandas().query(f"iteration == {iteration}")
        for name, tensors in (("log_state_gradient", kept), ("log_direct_gradient", read)):
            norms = torch.stack([tensor.grad.norm(dim=-1).log() for tensor in tensors])
            if name == "log_direct_gradient" and between == "attention":  # nobody knows but at the last step
                assert rows[f"{name}_non_finite"].tolist() == [B] * (T - 1) + [0]
                rows, norms = rows[-1:], norms[-1:]
            np.testing.assert_allclose(rows[f"{name}_mean"], norms.mean(1), 1e-5, 1e-5, err_msg=name)
            assert rows[f"{name}_non_finite"].eq(0).all()
    assert run.proof == "proved"


def test_an_example_begins_anew_only_with_all_its_states(tmp_path):
    """With h of an LSTM alone set to zero, its c goes on: gradients of single steps are not cut there."""

    class OnlyH(Loop):
        def forward(self, x):
            state, outputs = (x.new_zeros(B, H), x.new_zeros(B, H)), []
            for t, x_t in enumerate(x):
                state = self.cell(x_t, (episodes(self, t, state[0]), state[1]))
                outputs.append(self.head(state[0]))
            return torch.stack(outputs)

    torch.manual_seed(0)
    x = torch.randn(T, B, D, dtype=torch.float64)
    for model, is_known in ((OnlyH("LSTMCell"), False), (Loop("LSTMCell", episodes), True)):
        run = recorded(model.double(), x, lambda y: y.square().mean(), tmp_path / str(is_known))
        assert (run.frame("lag")["log_anchored_gradient_valid"] > 0).any() == is_known
        assert run.proof == "proved"


def test_bit_for_bit(tmp_path):
    results = []
    for recording in (False, True):
        torch.manual_seed(0)
        model = Loop("LSTMCell", dropped).double()
        x = torch.randn(T, B, D, dtype=torch.float64)
        if recording:
            recorded(model, x, lambda y: y.square().mean(), tmp_path / "run", every=2)
        else:
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for _ in range(3):
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
        results.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(map(torch.equal, *results))


class Sequences(nn.Module):
    """One cell runs several sequences: two side by side, then one more, then one whose state is detached half way."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(D, H)

    def forward(self, x):
        a = b = c = d = torch.zeros(B, H, dtype=torch.float64)
        self.kept = [[], [], [], [], []]
        for x_t in x:
            a, b = self.keep(0, self.cell(x_t, a)), self.keep(1, self.cell(-x_t, b))
        for x_t in x[:3]:
            c = self.keep(2, self.cell(2 * x_t, c))
        for t, x_t in enumerate(x):
            d = self.keep(3 if t < 4 else 4, self.cell(x_t, d.detach() if t == 4 else d))
            lost = d.square().sum() if t == 3 else 0.0
            self.kept_loss = lost if t == 3 else self.kept_loss if t > 3 else None
        return torch.stack((a, b, c, d)).square().sum() + self.kept_loss

    def keep(self, which, h):
        h.retain_grad()
        self.kept[which].append(h)
        return h


def test_several_sequences_of_one_cell(tmp_path):
    torch.manual_seed(0)
    model = Sequences().double()
    x = torch.randn(T, B, D, dtype=torch.float64)
    run = recorded(model, x, lambda y: y, tmp_path / "run", examples="all", reduction="sum")
    rows = run.table("time").to_pandas().query("iteration == 2")
    assert sorted(rows["call"].unique()) == [0, 1, 2, 3, 4]
    for call, kept in enumerate(model.kept):
        norms = torch.stack([h.grad.norm(dim=-1).log() for h in kept]).mean(1)
        np.testing.assert_allclose(rows.query(f"call == {call}")["log_state_gradient_mean"], norms, 1e-5)
    assert run.proof == "proved"


def test_a_model_called_at_every_step(tmp_path):
    """A policy: the script calls the model once a step and carries the state; truncated every 4 steps."""
    torch.manual_seed(0)
    model = OneByOne(nn.GRU(D, H)).double()
    model.forward = model.step
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    state = None
    with gf.record(model, tmp_path / "run", every=2, examples="all", reduction="sum") as recorder:
        for _ in range(5):
            kept, total = [], 0.0
            for x_t in torch.randn(4, B, D, dtype=torch.float64):
                h, state = model(x_t, state)
                state.retain_grad()
                kept.append((h, state))
                h.retain_grad()
                total = total + model.head(h).square().sum()
            optimizer.zero_grad()
            total.backward()
            recorder.step(total)
            optimizer.step()
            state = state.detach()
    rows = gf.open_run(tmp_path / "run").table("time").to_pandas()
    assert rows["time"].tolist() == [0, 1, 2, 3] * 3  # the last iteration, 4, was due
    zero = torch.zeros(1, dtype=torch.float64)
    totals = torch.stack([h.grad + (zero if s.grad is None else s.grad[0]) for h, s in kept])
    np.testing.assert_allclose(
        rows.query("iteration == 4")["log_state_gradient_mean"], totals.norm(dim=-1).log().mean(1), 1e-5
    )
    assert gf.open_run(tmp_path / "run").proof == "proved"


class ByHand(nn.Module):
    """A hand-written step."""

    def __init__(self, tells):
        super().__init__()
        self.i2h, self.h2h, self.tells = nn.Linear(D, H), nn.Linear(H, H), tells

    def forward(self, x):
        h, self.kept, self.weight = torch.zeros(B, H, dtype=torch.float64), [], self.h2h.weight.detach().clone()
        for x_t in x:

            def step(h, x_t=x_t):
                return torch.tanh(self.i2h(x_t) + self.h2h(h))

            h = gf.mark("h", step(h), step=step, previous=h) if self.tells else gf.mark("h", step(h))
            h.retain_grad()
            self.kept.append(h)
        return h


@pytest.mark.parametrize("tells", [True, False])
def test_marked_states(tells, tmp_path):
    torch.manual_seed(0)
    model = ByHand(tells).double()
    x = torch.randn(T, B, D, dtype=torch.float64)
    options = {"states": ["h"], "examples": "all", "reduction": "sum"}
    run = recorded(model, x, lambda h: h.square().sum(), tmp_path / "run", **options)
    rows = run.table("time").to_pandas().query("iteration == 2")
    norms = torch.stack([h.grad.norm(dim=-1).log() for h in model.kept]).mean(1)
    np.testing.assert_allclose(rows["log_state_gradient_mean"], norms, 1e-5)
    if tells:
        slopes = 1 - torch.stack(model.kept).detach()[:, :4].square()  # examples 0 to 3 of 5
        jacobians = slopes.unsqueeze(-1) * model.weight
        for name, of in (
            ("frobenius", torch.linalg.matrix_norm),
            ("spectral", lambda J: torch.linalg.matrix_norm(J, 2)),
        ):
            expected = of(jacobians).log().mean(1)
            np.testing.assert_allclose(rows[f"log_jacobian_{name}_mean"], expected, 1e-5, 1e-5)
    assert run.proof == "unproved"  # the weights of a hand-written step are not known
    other = ByHand(tells).double()
    assert other(x).shape == (B, H)  # without a recorder the marks do nothing


def test_marks_that_never_come(tmp_path):
    model = ByHand(False).double()
    with gf.record(model, tmp_path / "run", states=["hidden"]) as recorder:
        model(torch.randn(T, B, D, dtype=torch.float64)).sum().backward()
        with pytest.raises(RuntimeError, match=r"step: .*'hidden'.*marked.*'h'"):
            recorder.step()


@pytest.mark.parametrize("examples", ["all", 2])
@pytest.mark.parametrize("order", [("y", "z"), ("z", "y")])
def test_marked_states_of_which_one_is_made_of_another(order, examples, tmp_path):
    """With the step they are told apart as those of a cell; without it only the total of the first is known."""
    torch.manual_seed(0)
    cell, kept = Coupled().double(), []

    class Marks(nn.Module):
        def __init__(self, tells):
            super().__init__()
            self.inner, self.tells = cell.inner, tells

        def forward(self, x):
            now, kept[:] = {name: torch.zeros(B, H, dtype=torch.float64) for name in order}, []
            for x_t in x:
                before = now

                def step(*states, x_t=x_t):
                    now = cell.step(x_t, dict(zip(order, states, strict=True)))
                    return tuple(now[name] for name in order)

                now = step(*(before[name] for name in order))
                given = {"step": step, "previous": [before[name] for name in order]} if self.tells else {}
                now = dict(zip(order, gf.mark("yz", *now, **given), strict=True))
                now[order[0]].retain_grad()
                kept.append(now[order[0]])
            return now["y"]

    x, loss_of = torch.randn(T, B, D, dtype=torch.float64), lambda y: y.square().sum()
    options = {"examples": examples, "reduction": "sum"}
    whole = recorded(
        gf.Recurrent(copy.deepcopy(cell)), x, lambda given: loss_of(given[0][-1]), tmp_path / "w", **options
    )
    marks = {"states": ["yz"], **options}
    run = recorded(Marks(True), x, loss_of, tmp_path / "told", **marks)
    rows, expected = (each.frame("time").query("iteration == 0") for each in (run, whole))
    names = ["log_joint_gradient_mean", "log_relative_gradient_mean"]
    names += ["log_jacobian_frobenius_mean"] + ["log_direct_gradient_mean"] * (order[0] == "y")  # the one that is shown
    np.testing.assert_allclose(rows[names], expected[names], 1e-5, 1e-5)
    rows = recorded(Marks(False), x, loss_of, tmp_path / "untold", **marks).frame("time").query("iteration == 2")
    which = list(range(B)) if examples == "all" else [0, 2]
    totals = torch.stack([state.grad[which].norm(dim=-1).log() for state in kept]).mean(1)
    np.testing.assert_allclose(rows["log_state_gradient_mean"], totals, 1e-5, 1e-5)
    assert rows["log_joint_gradient_non_finite"].eq(len(which)).all()


class Told(nn.Module):
    """A step by hand that is told, with something between the steps or among the examples."""

    def __init__(self, between, among):
        super().__init__()
        self.inner, self.outer, self.between, self.among = nn.Linear(D, H), nn.Linear(H, H), between, among

    def forward(self, x):
        h, outputs = torch.zeros(B, H, dtype=x.dtype), []
        self.kept, self.read, self.steps = [], [], []
        for t, x_t in enumerate(x):

            def step(h, x_t=x_t):
                return torch.tanh(self.inner(x_t) + self.among(self.outer(h)))

            before = self.between(self, t, h)
            h = gf.mark("h", step(before), step=step, previous=before)
            h.retain_grad()
            self.kept.append(h)
            self.read.append(torch.zeros_like(h, requires_grad=True))
            self.steps.append((step, before.detach()))
            outputs.append(h + self.read[-1])
        return torch.stack(outputs)


def less_the_mean(h):
    """Each example enters all others, as in a batch norm."""
    return h - h.mean(0)


@pytest.mark.parametrize("among", [lambda h: h, less_the_mean], ids=["separate", "mixed"])
@pytest.mark.parametrize("between", ["as it is", "episodes", "dropout"])
@pytest.mark.parametrize("examples", [2, "all"])
def test_what_arrives_directly_at_marked_states(between, among, examples, tmp_path):
    torch.manual_seed(0)
    model, jacobians = Told(KNOWN[between], among).double(), []

    def loss_of(y):
        each = [torch.autograd.functional.jacobian(*step)[range(B), :, range(B)] for step in model.steps]
        jacobians[:] = torch.stack(each)  # [T, B, H, H], each example by itself
        return y.square().mean()

    x = torch.randn(T, B, D, dtype=torch.float64)
    run = recorded(model, x, loss_of, tmp_path, states=["h"], examples=examples, reduction="sum")
    time, lag = (run.frame(table).query("iteration == 2") for table in ("time", "lag"))
    which = list(range(B)) if examples == "all" else [0, 2]
    for name, tensors in (("log_state_gradient", model.kept), ("log_direct_gradient", model.read)):
        norms = torch.stack([tensor.grad[which].norm(dim=-1).log() for tensor in tensors])
        np.testing.assert_allclose(time[f"{name}_mean"], norms.mean(1), 1e-5, 1e-5, err_msg=name)
        assert time[f"{name}_non_finite"].eq(0).all()
    norms = torch.linalg.matrix_norm(torch.stack(jacobians)[:, which[:4]]).log()
    np.testing.assert_allclose(time["log_jacobian_frobenius_mean"], norms.mean(1), 1e-5, 1e-5)
    follows = among is not less_the_mean and between != "dropout"
    assert lag["log_anchored_gradient_valid"].fillna(0).iloc[0] == follows * min(len(which), 4) * 4


@pytest.mark.parametrize("how", ["default", "closure", "partial", "list", "mixed"])
def test_the_jacobian_of_a_marked_step_is_found_of_its_rows_alone_where_it_takes_them(how):
    torch.manual_seed(0)
    x, h, seen = torch.randn(B, H), torch.randn(B, H), []

    def made(h, x_t):
        seen.append(len(h))
        return torch.tanh(h.roll(1, -1) + (x_t[0] if isinstance(x_t, list) else x_t) + (how == "mixed") * h.mean(0))

    steps = {"closure": lambda h: made(h, x), "partial": functools.partial(made, x_t=x)}
    steps["list"] = functools.partial(made, x_t=[x])
    step = steps.get(how, lambda h, x_t=x: made(h, x_t))
    found = redone("h", step, (h,), (step(h),)).jacobian([0, 3])
    whole = torch.autograd.functional.jacobian(step, h)
    torch.testing.assert_close(found, torch.stack([whole[b, :, b] for b in (0, 3)]))
    assert min(seen) < B  # it is tried, and taken where it gives what these rows gave


def test_marked_gradients_go_on_below_the_range_of_float32(tmp_path):
    torch.manual_seed(0)
    model, steps = Told(KNOWN["as it is"], lambda h: 1e-4 * h), 14
    x = torch.randn(steps, B, D)
    run = recorded(model, x, lambda y: y[-1].square().mean(), tmp_path, states=["h"], examples="all", reduction="sum")
    rows = run.frame("time").query("iteration == 0")
    falls = np.diff(rows["log_state_gradient_mean"])
    assert rows[["log_state_gradient_zeros", "log_state_gradient_non_finite"]].eq(0).all(axis=None)
    assert rows["log_state_gradient_mean"].iloc[0] < -110
    assert (falls > 8).all()


def scan(parts):
    """A parallel scan gives all steps at once."""
    decay = torch.full((T, 1, 1), 0.5, dtype=torch.float64).cumprod(0)
    return decay * torch.cumsum(parts / decay, 0)


class Scans(nn.Module):
    def __init__(self, take):
        super().__init__()
        self.inner, self.take = nn.Linear(D, H), take

    def forward(self, x):
        return torch.stack([gf.mark("h", h) for h in self.take(scan(self.inner(x)))])


@pytest.mark.parametrize("take", [lambda h: h.unbind(0), lambda h: [h[0], h[0].sin()] * 2], ids=["scan", "twice"])
def test_marks_that_one_operation_gave_are_refused(take, tmp_path):
    model = Scans(take).double()
    with gf.record(model, tmp_path, states=["h"]), pytest.raises(ValueError, match=r"mark: .*'h'.* same operation"):
        model(torch.randn(T, B, D, dtype=torch.float64))


def test_marks_of_which_none_goes_on_are_spoken_of(tmp_path, caplog):
    model = Scans(lambda h: [h[t] for t in range(T)]).double()
    recorded(model, torch.randn(T, B, D, dtype=torch.float64), lambda y: y.sum(), tmp_path, states=["h"])
    assert len(caplog.messages) == 1
    assert f"'h' was marked {T} times at iteration 0, and none was computed from the one before" in caplog.messages[0]


class Padded(nn.Module):
    """Steps through a padded tensor; `keep` holds the state of an example that has ended."""

    def __init__(self, kind, *, keep):
        super().__init__()
        self.cell, self.keep = kind(D, H), keep

    def forward(self, x, lengths):
        state, outputs = None, []
        for t, x_t in enumerate(x):
            left, before = self.cell(x_t, state), state
            state = left if isinstance(left, tuple) else (left,)
            if self.keep and t:
                before = before if isinstance(before, tuple) else (before,)
                state = tuple(
                    torch.where((t < lengths).unsqueeze(1), *pair) for pair in zip(state, before, strict=True)
                )
            outputs.append(state[0])
            state = state if isinstance(left, tuple) else state[0]
        return torch.stack(outputs)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell])
def test_steps_that_lengths_leave_out(kind, tmp_path):
    """They do not count, and a gradient that arrives there is refused as that of a padded tensor is."""
    torch.manual_seed(0)
    x, lengths = torch.randn(T, B, D, dtype=torch.float64), torch.tensor([7, 2, 4, 7, 1])
    padded, kept = Padded(kind, keep=False).double(), Padded(kind, keep=True).double()
    kept.load_state_dict(padded.state_dict())
    ends = lengths - 1, torch.arange(B)
    runs = []
    for model, read in ((padded, ends), (kept, -1)):
        folder = tmp_path / str(model.keep)
        with gf.record(model, folder, examples="all") as recorder:
            model(x, lengths)[read].sin().sum().backward()
            recorder.step(lengths=lengths)
        runs.append(gf.open_run(folder))
        assert runs[-1].proof == "proved"
    columns = ["valid", "log_state_gradient_mean", "log_direct_gradient_zeros"]
    assert runs[0].frame("lag")[columns].to_numpy() == pytest.approx(runs[1].frame("lag")[columns].to_numpy())
    with gf.record(padded, tmp_path / "refused", examples="all") as recorder:
        padded(x, lengths)[-1].sum().backward()
        with pytest.raises(
            ValueError, match=r"lengths: .* at step 1 of 'cell' .* example 4, whose length is 1 of 7; .*where"
        ):
            recorder.step(lengths=lengths)
