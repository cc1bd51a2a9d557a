"""States, Jacobians and total gradients against the oracle, over shapes, layouts, read-outs, dropout and dtypes."""

import copy
import math
from dataclasses import dataclass, replace

import oracles
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_replay import LAYERS, TOLERANCE, each_cell
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf
from gradflow.flow.metrics import log_norm

some = settings(max_examples=10, deadline=None, derandomize=True, database=None)
many = settings(some, max_examples=60)
D, H = 3, 4


@dataclass(frozen=True)
class Case:
    """One way to call a layer and to read it out."""

    dtype: torch.dtype
    time: int
    batch: int
    num_layers: int
    bidirectional: bool
    layout: str
    bias: bool
    dropout: float
    given: bool
    read: tuple[str, ...]
    seed: int


@st.composite
def cases(draw):
    num_layers, bidirectional = draw(st.integers(1, 3)), draw(st.booleans())
    layouts = ["tensor", "batch_first", "unbatched", "packed", "packed sorted", "packed batch_first"]
    if num_layers == 1 or not bidirectional:
        layouts.append("lengths")
    layout = draw(st.sampled_from(layouts))
    reads = [("output",), ("h_n",), ("output", "h_n"), ("c_n",), ("output", "h_n", "c_n")]
    return Case(
        dtype=draw(st.sampled_from([torch.float64, torch.float32])),
        time=draw(st.sampled_from([1, 2, 7])),
        batch=1 if layout == "unbatched" else draw(st.sampled_from([3, 1])),
        num_layers=num_layers,
        bidirectional=bidirectional,
        layout=layout,
        bias=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.4])) if num_layers > 1 else 0.0,
        given=draw(st.booleans()),
        read=("output",) if layout == "lengths" else draw(st.sampled_from(reads)),
        seed=draw(st.integers(0, 99)),
    )


class Scene:
    """A layer called and read out as the case says, and the oracle's answer to the same."""

    def __init__(self, cell, case):
        torch.manual_seed(case.seed)
        options = {"bias": case.bias, "bidirectional": case.bidirectional, "dropout": case.dropout}
        self.case = case
        self.layer = LAYERS[cell](D, H, case.num_layers, batch_first="batch_first" in case.layout, **options)
        self.layer = self.layer.to(case.dtype)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.mul_(1.5)
        sides = 2 if case.bidirectional else 1
        self.x = torch.randn(case.time, case.batch, D, dtype=case.dtype)
        final = (case.num_layers * sides, case.batch, H)
        h, c = torch.randn(2, *final, dtype=case.dtype)
        self.hx = None if not case.given else (h, c) if self.lstm else h
        ragged = "packed" in case.layout or case.layout == "lengths"
        self.lengths = torch.randint(1, case.time + 1, (case.batch,)) if ragged else None
        if ragged and case.layout != "lengths":
            self.lengths[torch.randint(0, case.batch, ())] = case.time  # as long as its tensor
        if case.layout == "packed sorted":
            self.lengths = self.lengths.sort(descending=True).values
        read = case.read if self.lstm else [name.replace("c_n", "h_n") for name in case.read]
        shapes = {"output": (case.time, case.batch, sides * H), "h_n": final, "c_n": final}
        self.weights = {name: torch.randn(*shapes[name], dtype=case.dtype) for name in dict.fromkeys(read)}
        self.seen = self.call()
        self.found = gf.state_gradients(self.seen)
        self.ask_the_oracle()

    @property
    def lstm(self):
        return oracles.is_lstm(self.layer)

    def call(self):
        case, x, hx, options = self.case, self.x, self.hx, {}
        if case.layout == "unbatched":
            x = x[:, 0]
            hx = None if hx is None else tuple(h[:, 0] for h in hx) if self.lstm else hx[:, 0]
        elif self.layer.batch_first:
            x = x.transpose(0, 1)
        if case.layout == "lengths":
            options["lengths"] = self.lengths
        elif self.lengths is not None:
            sorting = case.layout != "packed sorted"
            first = self.layer.batch_first
            x = pack_padded_sequence(x, self.lengths, batch_first=first, enforce_sorted=not sorting)
        seen = gf.trace(self.layer, x, hx, **options)
        values = {"output": seen.call.time_major(seen.output)}
        values |= {
            name: seen.call.state_major(final)
            for name, final in (("h_n", seen.h_n), ("c_n", seen.c_n))
            if final is not None
        }
        sum((values[name] * weight).mul(self.counts(name)).sum() for name, weight in self.weights.items()).backward()
        return seen

    def counts(self, name):
        """1 where an output is within its example."""
        if name != "output" or self.lengths is None:
            return 1
        return (torch.arange(self.case.time).unsqueeze(1) < self.lengths).unsqueeze(-1)

    def ask_the_oracle(self):
        self.slow = copy.deepcopy(self.layer).double()
        self.slow.zero_grad()
        wide = {name: weight.double() for name, weight in self.weights.items()}
        hx = self.hx
        hx = None if hx is None else tuple(h.double() for h in hx) if self.lstm else hx.double()
        stops = self.lengths if "packed" in self.case.layout else None
        scales = [self.seen[index, 0].input_scale for index in range(self.layer.num_layers)]
        assert all((scale is not None) == (self.case.dropout > 0) for scale in scales[1:])
        self.states, outputs, h_n, c_n = oracles.run(self.slow, self.x.double(), stops, hx, scales)
        loss = sum((final * wide[name]).sum() for name, final in (("h_n", h_n), ("c_n", c_n)) if name in wide)
        if "output" in wide:
            ends = self.ends
            loss = loss + sum((out[: ends[b]] * wide["output"][: ends[b], b]).sum() for b, out in enumerate(outputs))
        loss.backward()

    @property
    def ends(self):
        return [self.case.time] * self.case.batch if self.lengths is None else self.lengths.tolist()

    def close(self, actual, expected):
        expected = expected.detach().double()
        scale = max(1.0, float(expected.abs().max()))
        assert actual.shape == expected.shape
        assert float((actual.detach().double() - expected).abs().max()) <= TOLERANCE[self.case.dtype] * scale

    def adjoint(self, key):
        """The oracle's gradient of each state; of c it is autograd's without the path c_t -> h_t of the same step."""
        adjoint = {"h": self.grid(key, "h", gradient=True)}
        if self.lstm:
            h, c = self.grid(key, "h"), self.grid(key, "c")
            through = torch.where(c == 0, 0, h / c.tanh()) * (1 - c.tanh() ** 2)
            adjoint["c"] = self.grid(key, "c", gradient=True) - through * adjoint["h"]
        return adjoint

    def grid(self, key, name, gradient=False):
        """The oracle's states of one layer and direction or their gradients, [T, B, H], 0 past the length."""
        values = torch.zeros(self.case.time, self.case.batch, H, dtype=torch.float64)
        for b, end in enumerate(self.ends):
            for t in range(end):
                state = self.states[key][b][t][name]
                values[t, b] = (0 if state.grad is None else state.grad) if gradient else state.detach()
        return values


def within(scene, values):
    """Values [T, B, ...] with 0 past each example's length."""
    if scene.lengths is None:
        return values
    mask = scene.counts("output").squeeze(-1)
    return values.masked_fill(~mask.view(*mask.shape, *[1] * (values.dim() - 2)), 0)


EVERYTHING = Case(torch.float64, 7, 3, 3, True, "packed", True, 0.4, True, ("output", "h_n", "c_n"), 1)


@each_cell
@some
@given(case=cases())
@example(case=EVERYTHING)
@example(case=replace(EVERYTHING, dtype=torch.float32, layout="batch_first", bias=False, num_layers=2))
@example(case=replace(EVERYTHING, dtype=torch.float32, layout="packed sorted", dropout=0.0))
@example(case=replace(EVERYTHING, layout="lengths", num_layers=1, dropout=0.0, read=("output",)))
@example(case=replace(EVERYTHING, layout="lengths", bidirectional=False, read=("output",)))
@example(case=replace(EVERYTHING, layout="unbatched", batch=1, given=False))
def test_everything_against_the_oracle(cell, case):
    """I1, I2, I4, I7, I13, I26 in every layer and direction."""
    check_everything(cell, case)


@pytest.mark.slow
@each_cell
@many
@given(case=cases())
def test_many_cases_against_the_oracle(cell, case):
    check_everything(cell, case)


def check_everything(cell, case):
    scene = Scene(cell, case)
    assert set(scene.found) == set(scene.states)
    for key in scene.states:
        check_gradients(scene, key)
        check_weight_shares(scene, key)
        check_jacobian(scene, key)


def check_gradients(scene, key):
    """I2, I13b: at every state autograd's total gradient."""
    step, found = scene.seen[key], scene.found[key]
    for name in step.cell.state_names:
        scene.close(within(scene, step.states[name]), scene.grid(key, name))
    if scene.lstm:
        scene.close(found.value["c_total"], scene.grid(key, "c", gradient=True))
    for name, gradient in scene.adjoint(key).items():
        scene.close(found.value[name], gradient)
        norm = gradient.norm(dim=-1)
        scene.close(within(scene, found.log_norm[name].exp()), norm)
    if scene.lengths is not None:
        past = ~scene.counts("output").squeeze(-1)
        assert all(bool(value[past].eq(0).all()) for value in found.value.values())
        assert all(bool(norm[past].isnan().all()) for norm in (*found.log_norm.values(), found.log_weight_share))


def check_weight_shares(scene, key):
    """I4: sums over time and examples are the gradients of the parameters."""
    step, found = scene.seen[key], scene.found[key]
    tail = f"_l{key[0]}" + ("_reverse" if key[1] else "")
    if scene.case.batch == 1:
        scene.close(within(scene, found.log_weight_share.exp())[:, 0], found.weight_share.flatten(1).norm(dim=1))
    if scene.case.layout == "lengths" and key[1]:
        return  # a reverse direction comes from the padding, whose shares are masked
    scene.close(found.weight_share.sum(0), getattr(scene.slow, "weight_hh" + tail).grad)
    u = {name: found.value[name] for name in step.cell.state_names}
    rows = step.cell.input_rows(step.gates, step.jacobian.rows)
    of_input, of_state = (step.jacobian.gate_gradients(u, part).flatten(-2) for part in (rows, None))
    scene.close(torch.einsum("tbi,tbj->ij", of_input, step.inputs), getattr(scene.slow, "weight_ih" + tail).grad)
    if scene.case.bias:
        scene.close(of_input.sum((0, 1)), getattr(scene.slow, "bias_ih" + tail).grad)
        scene.close(of_state.sum((0, 1)), getattr(scene.slow, "bias_hh" + tail).grad)


def check_jacobian(scene, key):
    """I1, I7, I13, and the recursion of I2 itself, at one step of one example; all others against the dense matrix."""
    step, found, lengths = scene.seen[key], scene.found[key], scene.ends
    jacobian = step.jacobian
    dense = jacobian.dense()
    b = scene.case.seed % scene.case.batch
    t = scene.case.seed % lengths[b]
    c = step.previous["c"][t, b].double() if scene.lstm else None
    h, x_t = step.previous["h"][t, b].double(), step.inputs[t, b].double()
    expected = oracles.step_jacobian(scene.slow, *key, x_t, h, c)
    scene.close(dense[t, b], expected)
    before = t + 1 if key[1] else t - 1
    if 0 <= before < lengths[b]:
        names = step.cell.state_names
        leaving, arriving, direct = (
            torch.cat([part[name][place, b] for name in names])
            for part, place in ((found.value, t), (found.value, before), (found.direct, before))
        )
        scene.close(arriving.double(), expected.T @ leaving.double() + direct.double())
    if scene.lengths is not None:
        assert bool(dense[~scene.counts("output").squeeze(-1)].isnan().all())
    inside, v = within(scene, dense), torch.randn(*jacobian.shape[:3], dtype=scene.case.dtype)
    scene.close(jacobian.matvec(v), torch.einsum("tbij,tbj->tbi", inside.double(), v.double()))
    scene.close(jacobian.rmatvec(v), torch.einsum("tbij,tbi->tbj", inside.double(), v.double()))
    scene.close(within(scene, jacobian.frobenius_norm()), inside.double().flatten(2).norm(dim=-1))
    squares = within(scene, jacobian.singular_values()).square().sum(-1).sqrt()
    scene.close(squares, inside.double().flatten(2).norm(dim=-1))
    if scene.lstm:
        assert torch.equal(within(scene, jacobian.block("c", "c")), within(scene, step.gates["f"].diag_embed()))


@each_cell
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
def test_gradient_and_tangent_keep_their_product(cell, dtype):
    """I15: v_t = J_t v_{t-1} and a loss of the last states leave <δ_t, v_t> the same at every step, δ autograd's."""
    scene = Scene(cell, replace(EVERYTHING, dtype=dtype, num_layers=1, dropout=0.0, read=("h_n", "c_n")))
    for key in scene.found:
        jacobian, adjoint = scene.seen[key].jacobian, torch.cat(list(scene.adjoint(key).values()), -1)
        for b, end in enumerate(scene.ends):
            delta = adjoint[:end, b]
            v, products = torch.randn(delta.shape[-1], dtype=torch.float64), []
            for t in reversed(range(end)) if key[1] else range(end):
                v = jacobian[t].dense()[b].double() @ v
                products.append(delta[t] @ v)
            scene.close(torch.stack(products), products[-1].expand(end))


@each_cell
def test_central_difference(cell):
    """I16: dL/dh_3 by moving h_3, and what follows, by 1e-5 to both sides."""
    scene = Scene(cell, replace(EVERYTHING, layout="tensor", bidirectional=False, num_layers=1, dropout=0.0))
    x, weights, step = scene.x, scene.weights, scene.seen[0, 0]
    names, at = step.cell.state_names, 3

    def loss(states):
        with torch.no_grad():
            output, finals = scene.layer(x[at + 1 :], states if scene.lstm else states[0])
        finals = dict(zip(("h_n", "c_n"), finals if scene.lstm else (finals,), strict=False))
        value = (output * weights["output"][at + 1 :]).sum() + (states[0][0] * weights["output"][at]).sum()
        return float(value + sum((final * weights[name]).sum() for name, final in finals.items()))

    there = torch.stack([step.states[name][at] for name in names])
    for place in range(0, there.numel(), 3):
        shift = torch.zeros(there.numel(), dtype=torch.float64)
        shift[place] = 1e-5
        up, down = (tuple((there + sign * shift.view_as(there)).unsqueeze(1)) for sign in (1, -1))
        slope = (loss(up) - loss(down)) / 2e-5
        exact = torch.stack([scene.found[0, 0].value[name][at] for name in names]).flatten()[place]
        assert slope == pytest.approx(float(exact), rel=1e-6, abs=1e-6)


@each_cell
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
def test_names_of_units_do_not_matter(cell, dtype):
    """I21: hidden units in another order, for odd φ with other signs, keep every ‖δ_t‖ and every σ(J_t)."""
    scene = Scene(
        cell, replace(EVERYTHING, dtype=dtype, layout="tensor", num_layers=1, bidirectional=False, dropout=0.0)
    )
    order = torch.randperm(H)
    sign = torch.randint(0, 2, (H,)) * 2 - 1 if cell in ("linear", "rnn") else torch.ones(H, dtype=torch.int64)

    def moved(values):  # [..., H]
        return (values * sign)[..., order]

    other = copy.deepcopy(scene.layer)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            blocks = parameter.unflatten(0, (-1, H))
            if name.startswith("weight_hh"):
                blocks = moved(blocks)
            parameter.copy_(moved(blocks.movedim(1, -1)).movedim(-1, 1).flatten(0, 1))
    hx = tuple(map(moved, scene.hx)) if scene.lstm else moved(scene.hx)
    seen = gf.trace(other, scene.x, hx)
    found = gf.state_gradients(
        seen, *(None if name not in scene.weights else moved(scene.weights[name]) for name in ("output", "h_n", "c_n"))
    )[0, 0]
    for name, norm in scene.found[0, 0].log_norm.items():
        scene.close(found.log_norm[name], norm)
    scene.close(seen[0, 0].jacobian.singular_values(), scene.seen[0, 0].jacobian.singular_values())


@each_cell
def test_truncated_back_propagation_stops_at_the_cut(cell):
    """I25: before a detached state the gradient is exactly zero; a cut at the very start changes nothing."""
    layer, x, weight = LAYERS[cell](D, H).double(), torch.randn(20, 4, D).double(), torch.randn(4, H).double()
    whole = gf.trace(layer, x)
    (whole.output[-1] * weight).sum().backward()
    expected = gf.state_gradients(whole)[0, 0]
    for cut in (12, 0):
        first = gf.trace(layer, x[:cut]) if cut else None
        states = (
            None
            if first is None
            else (first.h_n.detach(), first.c_n.detach())
            if oracles.is_lstm(layer)
            else first.h_n.detach()
        )
        second = gf.trace(layer, x[cut:], states)
        zero = 0 if first is None else (first.output * 0).sum()
        ((second.output[-1] * weight).sum() + zero).backward()
        after = gf.state_gradients(second)[0, 0]
        assert torch.allclose(after.value["h"], expected.value["h"][cut:], atol=1e-12, rtol=0)
        if first is not None:
            before = gf.state_gradients(first)[0, 0]
            assert bool((before.value["h"] == 0).all())
            assert bool((before.log_norm["h"] == -torch.inf).all())


@each_cell
def test_directions_do_not_meet_and_mirror_each_other(cell):
    """I27: a loss of one direction leaves the other exactly zero; reversed time and swapped cells swap the two."""
    torch.manual_seed(2)
    layer, x = LAYERS[cell](D, H, bidirectional=True).double(), torch.randn(20, 4, D).double()
    weight = torch.randn(20, 4, 2 * H).double()
    weight[..., H:] = 0
    found = gf.state_gradients(gf.trace(layer, x), weight)
    assert bool((found[0, 1].value["h"] == 0).all())
    assert bool((found[0, 1].log_norm["h"] == -torch.inf).all())
    assert bool(found[0, 0].log_norm["h"].isfinite().all())
    swapped = copy.deepcopy(layer)
    other = {
        name: name.removesuffix("_reverse") if name.endswith("_reverse") else name + "_reverse"
        for name in layer.state_dict()
    }
    swapped.load_state_dict({other[name]: value for name, value in layer.state_dict().items()})
    mirrored = gf.state_gradients(gf.trace(swapped, x.flip(0)), weight.roll(H, -1).flip(0))
    for key in found[0, 0].log_norm:
        assert torch.allclose(mirrored[0, 1].log_norm[key].flip(0), found[0, 0].log_norm[key], atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
def test_norms_over_the_whole_range_of_a_dtype(dtype):
    """I32: no square leaves the range; zero, infinity and NaN are themselves."""
    sizes = [1e-25, 1e25, 1e-38, 1e38] + ([1e-300, 1e300] if dtype == torch.float64 else [])
    for size in sizes:
        found = log_norm(torch.full((2, 64), size, dtype=dtype))
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx([math.log(8) + math.log(size)] * 2, abs=1e-6)
    odd = torch.tensor([[0, 0], [1, math.inf], [1, math.nan]], dtype=dtype)
    assert log_norm(odd).tolist() == pytest.approx([-math.inf, math.inf, math.nan], nan_ok=True)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["f64", "f32"])
@pytest.mark.parametrize("apart", [0, 9, 30])
def test_norms_of_vectors_of_many_sizes_at_once(dtype, apart):
    """What one scale is guessed from does not decide what the others are: each has its own norm, digit by digit."""
    exponents = range(-320, 309, 3) if dtype == torch.float64 else range(-46, 39)
    for exponent in exponents:
        sizes = [10.0**e if -324 < e < 309 else 0.0 for e in (exponent, exponent - apart, exponent + apart, exponent)]
        vectors = torch.tensor([[[0.3 * size, -0.4 * size], [0, 0]] for size in sizes], dtype=dtype)
        vectors[1, 1, 0] = math.nan
        expected = [[_log_of_length(*vector) for vector in step] for step in vectors.tolist()]
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(log_norm(vectors), expected, rtol=1e-6, atol=1e-6, equal_nan=True)


def _log_of_length(x: float, y: float) -> float:
    largest = max(abs(x), abs(y))
    if largest in (0, math.inf):
        return math.inf if largest else -math.inf
    return math.log(math.hypot(x / largest, y / largest)) + math.log(largest)
