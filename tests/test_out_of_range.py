"""Sequences run in several calls whose gradients leave the range of float32 on the way, against float64 autograd."""

import pytest
import torch
from torch import nn

import gradflow as gf
from gradflow.flow import recursion
from tests.oracles import double, run

T, B, D, H = 60, 2, 2, 3
CHUNK = 20


def as_it_is(states, t):
    return states


def masked(states, t):
    """The first example begins anew once."""
    keep = torch.tensor([float(t != 40), 1.0]).to(states[0].dtype).unsqueeze(1)
    return tuple(state * keep for state in states)


def dropped(states, t):
    """Known factors, some of them zero."""
    factor = 1.5 * ((torch.arange(B * H).view(B, H) + t) % 4 != 0).to(states[0].dtype)
    return tuple(state * factor for state in states)


def mixed(states, t):
    """More than factors."""
    return tuple(state + 0.1 * state.roll(1, -1) for state in states)


class InCalls(nn.Module):
    """A layer over parts of a sequence, or a cell over its steps; `between` is done to the states that are carried."""

    def __init__(self, layer, sizes, between=as_it_is):
        super().__init__()
        self.layer, self.sizes, self.between = layer, sizes, between

    def forward(self, x):
        """[T, B, H], and the last states."""
        states, outputs, start = None, [], 0
        for size in self.sizes:
            if states is not None:
                states = self.between(states, start)
            given = states if states is None or len(states) > 1 else states[0]
            output, left = self.layer(x[start : start + size], given)
            states = left if isinstance(left, tuple) else (left,)
            outputs.append(output)
            start += size
        return torch.cat(outputs), states


def slow(model, x, loss_of):
    """ln of the norms of dL/dh and dL/dc-as-autograd-has-it of each layer, [T, B]."""
    layer, states, outputs, start, found = double(model.layer), None, [], 0, []
    for size in model.sizes:
        if states is not None:
            states = model.between(states, start)
        given = states if states is None or len(states) > 1 else states[0]
        seen, output, *left = run(layer, x[start : start + size].double(), hx=given)
        states = tuple(part for part in left if part is not None)
        outputs.append(torch.stack(output, 1))
        found.append(seen)
        start += size
    loss_of(torch.cat(outputs), states).backward()
    norms = []
    for index in range(layer.num_layers):
        steps = [[step["h"].grad for step in column] for seen in found for column in zip(*seen[index, 0], strict=True)]
        zero = torch.zeros(H, dtype=torch.float64)
        norms.append(torch.stack([torch.stack([zero if g is None else g for g in step]) for step in steps]))
    return [part.norm(dim=-1).log() for part in norms]


def recorded(model, x, loss_of, path):
    with gf.record(model, path, every=1, examples="all", reduction="sum") as recorder:
        loss_of(*model(x)).backward()
        recorder.step()
    return gf.open_run(path)


def made(kind, sizes, between=as_it_is, gain=0.3, **options):
    torch.manual_seed(0)
    layer = kind(D, H, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(gain)
    return InCalls(layer, sizes, between), torch.randn(sum(sizes), B, D)


def the_end(y, states):
    return y[-1].sum() * 1e-28


IN_CHUNKS, IN_STEPS, IN_BOTH = [CHUNK] * 3, [1] * T, [19, 1, 20, 1, 1, 18]


@pytest.mark.parametrize(
    ("kind", "sizes", "layers", "between"),
    [
        (nn.RNN, IN_CHUNKS, 2, as_it_is),
        (nn.GRU, IN_CHUNKS, 2, masked),
        (nn.LSTM, IN_CHUNKS, 2, dropped),
        (nn.LSTM, IN_CHUNKS, 1, as_it_is),
        (gf.LSTM, IN_CHUNKS, 1, masked),
        (nn.RNN, IN_STEPS, 1, dropped),
        (nn.RNN, IN_STEPS, 2, masked),
        (nn.GRU, IN_STEPS, 2, as_it_is),
        (nn.LSTM, IN_STEPS, 2, as_it_is),
        (nn.LSTM, IN_STEPS, 2, dropped),
        (nn.LSTM, IN_BOTH, 2, as_it_is),
        (nn.GRU, IN_BOTH, 2, as_it_is),
    ],
)
def test_calls_that_go_on_with_one_another(kind, sizes, layers, between, tmp_path):
    """What comes through the next call is taken on its own scale where autograd's has no digits left."""
    model, x = made(kind, sizes, between, num_layers=layers)
    run = recorded(model, x, the_end, tmp_path)
    rows = run.frame("time").reset_index()
    for index, expected in enumerate(slow(model, x, the_end)):
        own, zero = rows[rows["layer"] == index], expected == -torch.inf
        found = own["log_state_gradient_mean"].to_numpy()
        assert found == pytest.approx(expected.masked_fill(zero, torch.nan).nanmean(1).numpy(), abs=1e-3)
        assert own["log_state_gradient_zeros"].tolist() == zero.sum(1).tolist()
        assert expected.masked_fill(zero, 0).min() < -95  # float32 has no digits from -87 on
        direct = zero if index < layers - 1 else torch.arange(T).view(-1, 1).expand(T, B) < T - 1
        assert own["log_direct_gradient_zeros"].tolist() == direct.sum(1).tolist()
    assert not rows.filter(regex="non_finite").to_numpy().any()
    assert run.proof == "proved"


def ended(states, t):
    """The first example begins anew twice."""
    keep = torch.tensor([float(t not in {4, 9}), 1.0]).unsqueeze(1)
    return tuple(state * keep for state in states)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_zeros_where_an_example_begins_anew_are_in_range(kind, tmp_path, monkeypatch):
    """Nothing was lost there, so nothing is to be gone through once more, a step at a time in Python."""
    monkeypatch.setattr(recursion, "_step_by_step", lambda *_: pytest.fail("out of range"))
    model, x = made(kind, [1] * 12, ended, gain=1)
    run = recorded(model, x, lambda y, states: y[-1].sum(), tmp_path)
    assert run.error is None
    assert run.frame("time")["log_state_gradient_zeros"].tolist() == [1.0] * 9 + [0.0] * 3
    assert run.proof == "proved"


@pytest.mark.parametrize("sizes", [IN_CHUNKS, IN_STEPS])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_where_nobody_knows_what_happens_between_calls(kind, sizes, tmp_path):
    """Autograd's gradients are recorded as far as they have digits; from there on they are NaN, and counted."""
    model, x = made(kind, sizes, mixed, num_layers=2)
    run = recorded(model, x, the_end, tmp_path)
    rows = run.frame("time").reset_index()
    for index, expected in enumerate(slow(model, x, the_end)):
        own = rows[rows["layer"] == index]
        unknown = own["log_state_gradient_non_finite"].to_numpy() > 0
        found, expected = own["log_state_gradient_mean"].to_numpy(), expected.mean(1).numpy()
        assert unknown[0]
        assert not unknown[expected > -87].any()
        assert found[~unknown] == pytest.approx(expected[~unknown], abs=1e-3)
    assert not rows[["log_state_gradient_zeros", "log_weight_gradient_zeros"]].to_numpy().any()
    assert run.proof == "proved"


def test_one_state_out_of_the_range_beside_the_other(tmp_path):
    """The loss reads h at the end of a call, where what comes to c through the next one is out of the range."""

    def loss_of(y, states):
        return y[CHUNK - 1].sum() + y[-1].sum() * 1e-33

    model, x = made(gf.LSTM, IN_CHUNKS)
    found = recorded(model, x, loss_of, tmp_path / "found").frame("time")
    expected = recorded(model.double(), x.double(), loss_of, tmp_path / "expected").frame("time")
    assert expected["log_cell_gradient_mean"].iloc[CHUNK - 1] < -95
    for name in ("log_state_gradient", "log_cell_gradient", "log_direct_gradient", "log_weight_gradient"):
        columns = [f"{name}_mean", f"{name}_zeros", f"{name}_non_finite"]
        assert found[columns].to_numpy() == pytest.approx(expected[columns].to_numpy(), abs=1e-3, nan_ok=True), name


class ByOutput(InCalls):
    """The script carries the output of each step."""

    def forward(self, x):
        state, outputs = None, []
        for x_t in x.split(1):
            state = self.layer(x_t, state)[0][-1:]
            outputs.append(state)
        return torch.cat(outputs), (state,)


def test_outputs_that_are_carried(tmp_path):
    """What comes through the next step is not taken for what arrives at the output."""
    model, x = made(nn.GRU, IN_STEPS)
    rows = recorded(ByOutput(model.layer, IN_STEPS), x, the_end, tmp_path).frame("time")
    expected = slow(model, x, the_end)[0].mean(1).numpy()
    assert expected.min() < -103
    assert rows["log_state_gradient_mean"].to_numpy() == pytest.approx(expected, abs=1e-3)
    assert rows["log_direct_gradient_zeros"].tolist() == [B] * (T - 1) + [0]


class Fork(nn.Module):
    """Two sequences go on from the end of one."""

    def __init__(self, layer, size):
        super().__init__()
        self.layer, self.size = layer, size

    def forward(self, x):
        first = self.along(x[:CHUNK], None)[1]
        return sum(self.along(part, first)[0][-1] for part in (x[CHUNK:], -x[CHUNK:]))

    def along(self, x, state):
        for part in x.split(self.size):
            output, state = self.layer(part, state)
        return output, state


@pytest.mark.parametrize("size", [CHUNK, 1])
def test_states_that_two_calls_go_on_with(size, tmp_path):
    """What comes through the second one is not known under the range."""
    model = Fork(made(nn.GRU, [size])[0].layer, size)
    with gf.record(model, tmp_path, every=1, examples="all") as recorder:
        (model(torch.randn(T, B, D)).sum() * 1e-28).backward()
        recorder.step()
    rows = gf.open_run(tmp_path).frame("time").reset_index()
    before = rows[(rows["call"] == 0) & (rows["time"] < CHUNK)]
    unknown = before["log_state_gradient_non_finite"].gt(0)
    assert unknown.iloc[0]
    assert before["log_state_gradient_mean"][~unknown].gt(-88).all()
    assert not before["log_state_gradient_zeros"].any()


class ByHand(nn.Module):
    """A step that is marked alone; the first example begins anew once."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(D, H), nn.Linear(H, H)

    def forward(self, x):
        h = x.new_zeros(B, H)
        for t, x_t in enumerate(x):
            (h,) = masked((h,), t)
            h = gf.mark("h", torch.tanh(self.inner(x_t) + 0.3 * self.outer(h)))
        return h


def test_marked_states_out_of_the_range(tmp_path):
    """Without their step they are unknown there; where an example begins anew what comes before has no gradient."""
    torch.manual_seed(0)
    model = ByHand()
    with gf.record(model, tmp_path, every=1, states=["h"], examples="all") as recorder:
        model(torch.randn(T, B, D)).sum().backward()
        recorder.step()
    rows = gf.open_run(tmp_path).frame("time")
    assert rows["log_state_gradient_zeros"].tolist() == [1] * 40 + [0] * 20
    unknown = rows["log_state_gradient_non_finite"].gt(0)
    assert unknown.iloc[0]
    assert rows["log_state_gradient_mean"][~unknown].between(-88, 2).all()


class Two(nn.Module):
    """Two modules, one above the other."""

    def __init__(self, kind):
        super().__init__()
        self.below, self.above = kind(D, H), kind(H, H)
        with torch.no_grad():
            for gain, module in ((0.2, self.below), (0.6, self.above)):
                for parameter in module.parameters():
                    parameter.mul_(gain)

    def forward(self, x):
        if isinstance(self.below, nn.RNNBase):
            return self.above(self.below(x)[0])[0], ()
        below = above = x.new_zeros(B, H)
        for x_t in x:
            below = self.below(x_t, below)
            above = self.above(below, above)
        return above.unsqueeze(0), ()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.GRUCell])
def test_below_a_module_whose_gradients_leave_the_range(kind, tmp_path):
    """What arrives from it is unknown there, and so is what goes back from that."""
    torch.manual_seed(0)
    model, x = Two(kind), torch.randn(T, B, D)
    found = recorded(model, x, the_end, tmp_path / "found").frame("time").reset_index()
    expected = recorded(model.double(), x.double(), the_end, tmp_path / "expected").frame("time").reset_index()
    below = found["module"] == "below"
    for name in ("log_state_gradient", "log_direct_gradient"):
        unknown = found[f"{name}_non_finite"] > 0
        assert unknown[below].iloc[0]
        assert not unknown[~below].any()
        assert not found.loc[below, f"{name}_zeros"].any()
        known = found[f"{name}_mean"][~unknown]
        assert known.to_numpy() == pytest.approx(expected.loc[~unknown, f"{name}_mean"], abs=1e-2, nan_ok=True)
