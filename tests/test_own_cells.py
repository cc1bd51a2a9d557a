"""Cells of the user's own: automatic differentiation, closed forms and a slow loop agree; errors say what to do."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from covering import each_pair
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradflow as gf
from gradflow.cells.cell import Cell
from gradflow.cells.gru import GRUBeforeCell
from gradflow.cells.lstm import LSTMCell
from gradflow.jacobian.autodiff import AutodiffJacobian
from gradflow.jacobian.diagonal import DiagonalJacobian
from gradflow.jacobian.lstm import LSTMJacobian
from gradflow.jacobian.reset_before import ResetBeforeJacobian
from gradflow.jacobian.rows import RowsJacobian

spec = importlib.util.spec_from_file_location("own_cell", Path(__file__).parents[1] / "examples" / "own_cell.py")
own_cell = importlib.util.module_from_spec(spec)
spec.loader.exec_module(own_cell)

T, B, D, H = 6, 4, 3, 5
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


class Tanh(gf.Cell):
    """As a user writes it, for a batch: `cat` along dimension 1."""

    def __init__(self, input_size=D, hidden_size=H):
        super().__init__()
        self.hidden_size = hidden_size
        self.both = nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x_t, state):
        return {"h": torch.tanh(self.both(torch.cat((x_t, state["h"]), 1)))}


class ClosedTanh(Tanh):
    @property
    def weight_hh(self):
        return 1.0 * self.both.weight[:, D:]

    def coefficients(self, gates, state, previous):
        return gf.Coefficients(rows={"h": (1 - state["h"] ** 2).unsqueeze(1)})


class LSTM(gf.Cell):
    """torch's own cell inside, which takes [B, D] only."""

    state_names = ("h", "c")

    def __init__(self, input_size=D, hidden_size=H):
        super().__init__()
        self.hidden_size = hidden_size
        self.inner = nn.LSTMCell(input_size, hidden_size)

    def step(self, x_t, state):
        h, c = self.inner(x_t, (state["h"], state["c"]))
        return {"h": h, "c": c}


class FullRows(LSTMCell):
    """The LSTM with every gate writing to both states, as its closed form reads when nothing is made of their order."""

    writes = {"h": slice(None), "c": slice(None)}  # noqa: RUF012

    def coefficients(self, gates, state, previous):
        i, f, g, o = (gates[name] for name in "ifgo")
        tanh_c = torch.tanh(state["c"])
        shown = o * (1 - tanh_c**2)
        of_c = torch.stack((g * i * (1 - i), previous["c"] * f * (1 - f), i * (1 - g**2), 0 * o), -2)
        of_h = shown.unsqueeze(-2) * of_c
        of_h[..., 3, :] = tanh_c * o * (1 - o)
        return gf.Coefficients({"h": of_h, "c": of_c}, {("h", "c"): shown * f, ("c", "c"): f})


class Fading(gf.Cell):
    """A state h with weights, and a slow trace of it that is not shown: `rows` for one state only."""

    state_names = ("h", "trace")

    def __init__(self):
        super().__init__()
        self.hidden_size = H
        self.weight_hh = nn.Parameter(torch.randn(H, H) / 2)
        self.weight_ih = nn.Parameter(torch.randn(H, D))
        self.register_buffer("decay", torch.tensor(0.8))

    def step(self, x_t, state):
        h = torch.tanh(x_t @ self.weight_ih.T + state["h"] @ self.weight_hh.T - state["trace"])
        return {"h": h, "trace": self.decay * state["trace"] + 0.1 * state["h"]}

    def coefficients(self, gates, state, previous):
        slope, ones = 1 - state["h"] ** 2, torch.ones_like(state["h"])
        diagonal = {("h", "trace"): -slope, ("trace", "trace"): self.decay * ones[0], ("trace", "h"): 0.1 * ones}
        return gf.Coefficients({"h": slope.unsqueeze(1)}, diagonal)


def without_closed_form(kind):
    return type(f"Open{kind.__name__}", (kind,), {"coefficients": Cell.coefficients})


def weights(gates):
    return [nn.Parameter(torch.randn(*shape) / 2) for shape in ((gates * H, D), (gates * H, H), (gates * H,))] + [None]


CELLS = {
    "tanh": (Tanh, AutodiffJacobian),
    "tanh closed": (ClosedTanh, RowsJacobian),
    "lstm": (LSTM, AutodiffJacobian),
    "lstm closed": (lambda: LSTMCell(*weights(4)), LSTMJacobian),
    "lstm rows": (lambda: FullRows(*weights(4)), RowsJacobian),
    "gru before": (lambda: GRUBeforeCell(*weights(3)), ResetBeforeJacobian),
    "fading": (Fading, RowsJacobian),
    "fading open": (without_closed_form(Fading), AutodiffJacobian),
    "minGRU": (lambda: own_cell.MinGRU(D, H), DiagonalJacobian),
    "minGRU open": (lambda: without_closed_form(own_cell.MinGRU)(D, H), AutodiffJacobian),
    "LRU": (lambda: own_cell.LRU(D, H), DiagonalJacobian),
    "LRU open": (lambda: without_closed_form(own_cell.LRU)(D, H), AutodiffJacobian),
}
each_cell = pytest.mark.parametrize("name", CELLS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
each_way = each_pair(
    name=[*CELLS],
    lengths={"full": None, "ragged": [3, 6, 1, 6]},
    dtype={"f64": torch.float64, "f32": torch.float32},
)


def build(name, dtype=torch.float64, **options):
    torch.manual_seed(5)
    return gf.Recurrent(CELLS[name][0]().to(dtype), **options)


def close(actual, expected, dtype=torch.float64):
    scale = max(1.0, float(expected.abs().max()))
    assert float((actual.double() - expected).abs().max()) <= TOLERANCE[dtype] * scale


def loop(cell, x, lengths, initial):
    """Every state of every example as a leaf-like copy, so that its gradient is that of the *state* alone."""
    seen = []
    for b, length in enumerate(lengths):
        state, steps = {name: part[b : b + 1] for name, part in initial.items()}, []
        for t in range(length):
            state = {name: part.clone() for name, part in cell.step(x[t, b : b + 1], state).items()}
            for part in state.values():
                if part.requires_grad:
                    part.retain_grad()
            steps.append(state)
        seen.append(steps)
    return seen


def both(name, lengths, dtype):
    """A trace with a loss on every output and final state, and the loop in float64 with the same loss."""
    layer = build(name, dtype)
    cell, full = layer.cell, lengths or [T] * B
    x = torch.randn(T, B, D, dtype=dtype)
    hx = tuple(torch.randn(1, B, H, dtype=dtype) for _ in cell.state_names)
    at_output = torch.randn(T, B, H * len(cell.output_names), dtype=dtype)
    at_final = [torch.randn(B, H, dtype=dtype) for _ in cell.state_names]
    given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    seen = gf.trace(layer, given, hx if len(hx) > 1 else hx[0])
    padded = seen.output if lengths is None else pad_packed_sequence(seen.output)[0]
    loss = sum((padded[:n, b] * at_output[:n, b]).sum() for b, n in enumerate(full))
    (loss + sum((f[0] * w).sum() for f, w in zip(seen.call.finals, at_final, strict=True))).backward()
    slow = build(name, torch.float64).cell
    initial = {name: h[0].double().requires_grad_() for name, h in zip(cell.state_names, hx, strict=True)}
    states = loop(slow, x.double(), full, initial)
    loss = torch.zeros(1, dtype=torch.float64)
    for b, steps in enumerate(states):
        for t, state in enumerate(steps):
            shown = torch.cat([state[name][0] for name in cell.output_names])
            loss = loss + (shown * at_output[t, b].double()).sum()
        for part, weight in zip(steps[-1].values(), at_final, strict=True):
            loss = loss + (part[0] * weight[b].double()).sum()
    loss.backward()
    return seen, states, slow, x.double(), full


@each_way
def test_states_and_total_gradients(name, lengths, dtype):
    """I2: the gradient of every state is autograd's, also of states that the output does not show."""
    seen, states, _, _, full = both(name, lengths, dtype)
    found, step = gf.state_gradients(seen)[0, 0], seen[0, 0]
    names = step.cell.state_names
    for b, steps in enumerate(states):
        for t, state in enumerate(steps):
            for key, part in state.items():
                close(step.states[key][t, b], part[0].detach(), dtype)
                close(found.value[key][t, b], part.grad[0], dtype)
            joint = torch.cat([part.grad[0] for part in state.values()]).norm()
            assert float(found.log_norm["joint" if len(names) > 1 else names[0]][t, b].exp()) == pytest.approx(
                float(joint), rel=1e-3
            )
        for key in names:
            assert bool((found.value[key][full[b] :, b] == 0).all())
            assert bool(found.log_norm[key][full[b] :, b].isnan().all())
    assert found.weight_share is None
    assert found.log_weight_share is None


@each_way
def test_jacobian(name, lengths, dtype):
    """I1, I7: dense, products, norms and singular values are those of autograd's matrix, one example at a time."""
    seen, states, slow, x, full = both(name, lengths, dtype)
    jacobian = seen[0, 0].jacobian
    assert type(jacobian) is CELLS[name][1]
    names = slow.state_names
    v = torch.randn(2, T, B, len(names) * H, dtype=dtype)
    dense, norm, values = jacobian.dense(), jacobian.frobenius_norm(), jacobian.singular_values()
    assert dense.shape == jacobian.shape
    forward, backward = jacobian.matvec(v[0]), jacobian.rmatvec(v[0])
    for method in (jacobian.matvec, jacobian.rmatvec):
        close(method(v)[1], method(v[1]).double(), dtype)
    initial = torch.cat([part[0] for part in (seen[0, 0].previous[key][:1] for key in names)], -1).double()
    for b, steps in enumerate(states):
        entering = [initial[b], *(torch.cat([part[0] for part in state.values()]).detach() for state in steps)]
        for t in range(full[b]):

            def whole(flat, t=t, b=b):
                new = slow.step(x[t, b : b + 1], dict(zip(names, flat.unsqueeze(0).chunk(len(names), 1), strict=True)))
                return torch.cat([new[key][0] for key in names])

            expected = torch.autograd.functional.jacobian(whole, entering[t])
            close(dense[t, b], expected, dtype)
            close(norm[t, b], expected.norm(), dtype)
            close(values[t, b], torch.linalg.svdvals(expected), dtype)
            close(forward[t, b], expected @ v[0, t, b].double(), dtype)
            close(backward[t, b], expected.T @ v[0, t, b].double(), dtype)
            if isinstance(jacobian, DiagonalJacobian):
                close(jacobian.log_abs_det()[t, b], torch.linalg.slogdet(expected)[1], dtype)
        for padded in (dense, norm, values, jacobian.block(names[-1], names[0]), jacobian.spectral_norm()):
            assert bool(padded[full[b] :, b].isnan().all())
        assert bool((forward[full[b] :, b] == 0).all())
        assert bool((backward[full[b] :, b] == 0).all())
    last = full.index(T)
    close(jacobian.block(names[-1], names[0])[-1, last], dense[-1, last, -H:, :H].double(), dtype)
    assert torch.allclose(jacobian.spectral_norm()[-1], values[-1, :, 0], rtol=1e-5, atol=1e-12, equal_nan=True)
    close(jacobian[-1].rmatvec(v[0, -1]), backward[-1].double(), dtype)
    assert jacobian.double().dense().dtype == torch.float64


def test_lstm_written_with_step_is_torch_lstm():
    """States, total gradients and Jacobians by automatic differentiation are those of the closed form."""
    own, theirs = build("lstm"), nn.LSTM(D, H).double()
    with torch.no_grad():
        for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
    x, found = torch.randn(T, B, D, dtype=torch.float64), []
    for layer in (own, theirs):
        seen = gf.trace(layer, x)
        seen.output[-1].square().sum().backward()
        found.append((gf.state_gradients(seen)[0, 0], seen[0, 0].jacobian))
    (mine, of_mine), (other, of_other) = found
    for key in ("h", "c"):
        close(mine.value[key], other.value[key])
        assert torch.allclose(mine.log_norm[key], other.log_norm[key], atol=1e-10)
    assert torch.allclose(mine.log_norm["joint"], other.log_norm["joint"], atol=1e-10)
    close(of_mine.dense(), of_other.dense())
    close(of_mine.block("c", "h"), of_other.block("c", "h"))


def test_lru_is_the_complex_recurrence():
    layer = build("LRU")
    x, cell = torch.randn(T, 1, D, dtype=torch.float64), layer.cell
    eigenvalues = torch.exp(-torch.exp(cell.nu) + 1j * torch.exp(cell.theta))
    gamma = (1 - eigenvalues.abs() ** 2).sqrt()
    s = torch.zeros(H, dtype=torch.complex128)
    output, _ = layer(x)
    for t in range(T):
        s = eigenvalues * s + gamma * torch.complex(*cell.input(x[t, 0]).chunk(2))
        assert torch.allclose(output[t, 0], torch.cat((s.real, s.imag)))
    norms = gf.trace(layer, x)[0, 0].jacobian.singular_values()
    assert torch.allclose(norms[0, 0, ::2], eigenvalues.abs().sort(descending=True).values)


@each_cell
def test_layouts(name):
    """The same numbers batch first, unbatched, packed and time first, with and without initial states."""
    layer, first = build(name), build(name, batch_first=True)
    x, lengths = torch.randn(T, B, D, dtype=torch.float64), torch.tensor([3, 6, 1, 6])
    hx = tuple(torch.randn(1, B, H, dtype=torch.float64) for _ in layer.cell.state_names)
    given = hx if len(hx) > 1 else hx[0]
    output, finals = layer(x, given)
    other, same = first(x.transpose(0, 1), given)
    assert torch.equal(other.transpose(0, 1), output)
    packed, of_packed = layer(pack_padded_sequence(x, lengths, enforce_sorted=False), given)
    padded = pad_packed_sequence(packed)[0]
    as_tuple = [finals, same, of_packed] if len(hx) > 1 else [(finals,), (same,), (of_packed,)]
    for b, length in enumerate(lengths):
        alone = tuple(h[:, b] for h in hx)
        row, last = layer(x[:length, b], alone if len(hx) > 1 else alone[0])
        assert torch.allclose(row, output[:length, b], atol=1e-14)
        assert torch.allclose(padded[:length, b], row, atol=1e-14)
        assert bool((padded[length:, b] == 0).all())
        for short, long in zip(last if len(hx) > 1 else (last,), as_tuple[2], strict=True):
            assert short.shape == (1, H)
            assert torch.allclose(short, long[:, b], atol=1e-14)
    for whole, again in zip(as_tuple[0], as_tuple[1], strict=True):
        assert whole.shape == (1, B, H)
        assert torch.equal(whole, again)
    zeros = tuple(torch.zeros_like(h) for h in hx)
    assert torch.equal(layer(x)[0], layer(x, zeros if len(hx) > 1 else zeros[0])[0])
    seen, unbatched = gf.trace(first, x.transpose(0, 1)), gf.trace(layer, x[:, 1])
    for trace, entry in ((seen, seen.output[1]), (unbatched, unbatched.output)):
        entry.square().sum().backward()
        trace.found = gf.state_gradients(trace)[0, 0].value[layer.cell.state_names[0]]
    assert torch.allclose(seen.found[:, 1], unbatched.found[:, 0], atol=1e-14)


class Lookup(gf.Cell):
    """Takes indices."""

    hidden_size = H

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(D, H)

    def step(self, x_t, state):
        return {"h": torch.tanh(self.table(x_t) + 0.5 * state["h"])}


def test_inputs_may_be_indices():
    layer = gf.Recurrent(Lookup())
    seen = gf.trace(layer, torch.randint(D, (T, B)))
    seen.output.sum().backward()
    step = seen[0, 0]
    expected = torch.diag_embed(0.5 * (1 - step.states["h"] ** 2))
    assert torch.allclose(step.jacobian.dense(), expected, atol=1e-6)
    assert bool(gf.state_gradients(seen)[0, 0].log_norm["h"].isfinite().all())
    assert step.jacobian.double().frobenius_norm() == pytest.approx(expected.norm(dim=(-1, -2)).double(), rel=1e-5)


class Spike(torch.autograd.Function):
    """A step function whose derivative is taken for that of a sigmoid: an own derivative in an own cell."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx, gradient):
        s = torch.sigmoid(ctx.saved_tensors[0])
        return gradient * s * (1 - s)


class Spiking(Tanh):
    def step(self, x_t, state):
        return {"h": Spike.apply(self.both(torch.cat((x_t, state["h"]), 1)))}


def test_surrogate_gradients_are_those_of_the_training():
    torch.manual_seed(0)
    layer = gf.Recurrent(Spiking().double())
    gf.testing.check_cell(layer.cell, input_size=D)
    seen = gf.trace(layer, torch.randn(T, B, D, dtype=torch.float64))
    (seen.output * torch.randn(T, B, H)).sum().backward()
    weight, bias = layer.cell.both.weight, layer.cell.both.bias
    s = torch.sigmoid(seen[0, 0].inputs @ weight[:, :D].T + seen[0, 0].previous["h"] @ weight[:, D:].T + bias)
    slope, gradients = (s * (1 - s)).detach(), gf.state_gradients(seen)[0, 0].value["h"]
    close(seen[0, 0].jacobian.dense(), slope.unsqueeze(-1) * weight[:, D:].detach())
    close((gradients * slope).sum((0, 1)), bias.grad)


class Linear(gf.Cell):
    """h_t = W h_{t-1} + x_t with W = s I."""

    def __init__(self, factor):
        super().__init__()
        self.hidden_size = D
        self.recurrent = nn.Linear(D, D, bias=False)
        self.factor = torch.tensor(1.0)  # neither parameter nor buffer
        with torch.no_grad():
            self.recurrent.weight.copy_(factor * torch.eye(D))

    def step(self, x_t, state):
        return {"h": self.factor * self.recurrent(state["h"]) + x_t}


@pytest.mark.parametrize(("factor", "open_form"), [(0.1, True), (10.0, True), (0.1, False)])
@each_dtype
def test_unlimited_range(factor, open_form, dtype):
    """ln‖dL/dh_t‖ is linear in t to 1e-350 and 1e350."""
    if open_form:
        layer = gf.Recurrent(Linear(factor).to(dtype))
    else:
        cell = own_cell.LRU(D, D).to(dtype)
        with torch.no_grad():
            cell.nu.fill_(math.log(-math.log(factor)))
        layer = gf.Recurrent(cell)
    seen = gf.trace(layer, torch.zeros(350, 2, D, dtype=dtype))
    seen.output[-1].sum().backward()
    norms = gf.state_gradients(seen)[0, 0].log_norm["h" if open_form else "joint"]
    assert torch.allclose(norms[0], norms[-1] + 349 * math.log(factor), atol=1e-9 if dtype == torch.float64 else 1e-2)


def test_stacked_modules():
    """What arrives at the lower layer is autograd's business: its total gradients are right as well."""
    lower, upper = build("tanh"), gf.Recurrent(Tanh(H, H).double())
    x = torch.randn(T, B, D, dtype=torch.float64)
    below = gf.trace(lower, x)
    gf.trace(upper, below.output).output[-1].sum().backward()
    h, u, states = torch.zeros(B, H, dtype=torch.float64), torch.zeros(B, H, dtype=torch.float64), []
    for t in range(T):
        h = lower.cell.step(x[t], {"h": h})["h"].clone()
        h.retain_grad()
        states.append(h)
        u = upper.cell.step(h, {"h": u})["h"]
    u.sum().backward()
    close(gf.state_gradients(below)[0, 0].value["h"], torch.stack([state.grad for state in states]))


@pytest.mark.parametrize("number", [torch.inf, torch.nan])
@each_cell
def test_non_finite_numbers_never_raise(name, number):
    layer = build(name, torch.float32)
    x = torch.randn(T, B, D)
    x[3, 1] = torch.nan
    with torch.no_grad():
        next(layer.parameters()).view(-1)[0] = number
    seen = gf.trace(layer, x)
    seen.output.sum().backward()
    found, jacobian = gf.state_gradients(seen)[0, 0], seen[0, 0].jacobian
    assert not bool(seen.output.isfinite().all())
    if math.isnan(number):
        assert not bool(torch.cat(list(found.value.values())).isfinite().all())
    assert jacobian.frobenius_norm().shape == jacobian.spectral_norm().shape == (T, B)


@each_cell
def test_determinants(name):
    """Against the dense matrix, closed form or not."""
    jacobian = gf.trace(build(name), torch.randn(T, B, D, dtype=torch.float64))[0, 0].jacobian
    expected = torch.linalg.slogdet(jacobian.dense()).logabsdet
    assert torch.allclose(jacobian.log_abs_det(), expected, atol=1e-8)


def test_replay_uses_the_weights_of_the_forward_pass():
    for name in ("lstm", "fading", "minGRU"):
        layer, x = build(name), torch.randn(T, B, D, dtype=torch.float64)
        expected, later = gf.trace(layer, x), gf.trace(layer, x)
        dense = expected[0, 0].jacobian.dense()
        later.call.weights = {key: weight.detach().clone() for key, weight in later.call.weights.items()}
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(2)
        assert torch.equal(later[0, 0].jacobian.dense(), dense)


class Counting(Tanh):
    """Keeps things of its steps, in a buffer and in an attribute."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.seen = None

    def step(self, x_t, state):
        self.count += 1
        self.seen = len(x_t)
        return super().step(x_t, state)


class Model(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.recurrent, self.read_out = gf.Recurrent(cell), nn.Linear(H * len(cell.output_names), 2)

    def forward(self, x):
        return self.read_out(self.recurrent(x)[0][-1])


def train(cell, path=None):
    torch.manual_seed(3)
    model, losses = Model(cell), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recorder = gf.record(model, path, every=2, examples=3) if path else None
    if recorder:
        recorder.__enter__()
    for _ in range(4):
        x, y = torch.randn(T, B, D), torch.randint(0, 2, (B,))
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if recorder:
            recorder.step(loss=loss.item())
        optimizer.step()
        losses.append(loss.item())
    if recorder:
        recorder.__exit__(None, None, None)
    return losses, model


@pytest.mark.parametrize("name", [*CELLS, "counting"])
def test_recording_changes_nothing(name, tmp_path):
    """I30: losses, parameters, buffers and the random state are bit-identical with and without."""
    make = Counting if name == "counting" else CELLS[name][0]
    runs = []
    for path in (None, tmp_path):
        torch.manual_seed(1)
        losses, model = train(make(), path)
        runs.append((losses, model.state_dict(), torch.get_rng_state()))
    (plain, before, generator), (recorded, after, same) = runs
    assert plain == recorded
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(generator, same)
    run = gf.open_run(tmp_path)
    how = "automatic differentiation" if name == "counting" or CELLS[name][1] is AutodiffJacobian else "closed form"
    assert run.meta["jacobian"] == {"recurrent": how}
    assert len(run.frame("spectrum")) == 0
    frame = run.frame("lag")
    assert sorted(frame.iteration.unique()) == [0, 2, 3]
    has_joint = len(make().state_names) > 1
    assert ("log_joint_gradient_q50" in frame) == has_joint
    for column in ("state_gradient", "relative_gradient", "jacobian_frobenius"):
        assert bool(frame[f"log_{column}_q50"].notna().all())
    for absent in ("log_weight_gradient_q50", "weight_gradient_share_q50", "activation_derivative_q50"):
        assert absent not in frame
    gates = run.frame("gates")
    assert (
        (set(gates.gate) == {"f"})
        if "minGRU" in name
        else (len(gates) == 0 or name in ("tanh closed", "lstm closed", "lstm rows", "gru before"))
    )


def test_log_holds_the_gradients_of_every_example(tmp_path):
    """Of LRU the output shows both states, so the state gradient is that of both together."""
    layer, x = build("LRU"), torch.randn(T, 1, D, dtype=torch.float64)
    with gf.record(layer, tmp_path, reduction="sum") as recorder:
        layer(x)[0].square().sum().backward()
        recorder.step()
    seen = gf.trace(layer, x)
    seen.output.square().sum().backward()
    expected, frame = gf.state_gradients(seen)[0, 0], gf.open_run(tmp_path).frame("time")
    direct = torch.cat([expected.direct[key] for key in ("re", "im")], -1).norm(dim=-1).log()
    for column, values in (
        ("log_state_gradient", expected.log_norm["joint"]),
        ("log_joint_gradient", expected.log_norm["joint"]),
        ("log_direct_gradient", direct),
        ("log_jacobian_frobenius", seen[0, 0].jacobian.frobenius_norm().log()),
    ):
        assert frame[f"{column}_mean"].tolist() == pytest.approx(values[:, 0].tolist(), rel=1e-5)


class Masked(Tanh):
    """Some units are always zero."""

    def step(self, x_t, state):
        return {"h": super().step(x_t, state)["h"].masked_fill(torch.arange(H) < 2, 0)}


@pytest.mark.parametrize("kind", [Tanh, Masked])
@pytest.mark.parametrize("lengths", [None, [2, 6, 3, 6], [5, 1, 6, 4]])
def test_gradients_that_are_read_are_those_of_each_example(kind, lengths, tmp_path):
    torch.manual_seed(0)
    layer, x, weight = gf.Recurrent(kind()).double(), *torch.randn(2, T, B, max(D, H), dtype=torch.float64)
    given = x[..., :D] if lengths is None else pack_padded_sequence(x[..., :D], lengths, enforce_sorted=False)

    def loss_of(output):
        padded = output if lengths is None else pad_packed_sequence(output)[0]
        return (padded * weight[..., :H]).sum()

    with gf.record(layer, tmp_path, reduction="sum", examples="all") as recorder:
        loss_of(layer(given)[0]).backward()
        recorder.step()
    seen = gf.trace(layer, given)
    (gradient,) = torch.autograd.grad(loss_of(seen.output), seen.output.data if lengths else seen.output)
    expected = gf.state_gradients(seen, seen.output._replace(data=gradient) if lengths else gradient)
    norms = expected[0, 0].log_norm["h"].nanmean(1)
    assert gf.open_run(tmp_path).frame("time").log_state_gradient_mean.tolist() == pytest.approx(norms.tolist())
