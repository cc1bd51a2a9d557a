"""The loss at single positions, and gradients relative to the last step that is reached: against own loops."""

import math

import numpy as np
import oracles
import pytest
import torch
from test_own_cells import CELLS
from test_own_cells import build as build_own
from test_replay import B, D, H, T, build, each_cell, states_like
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf
from gradflow.flow.anchors import ANCHORS, anchored_gradients, anchors_of
from gradflow.flow.calls import plain_arithmetic
from gradflow.flow.metrics import summarise
from gradflow.recording.anchored import anchored_columns
from gradflow.recording.quantities import QUANTITIES

NAME = "log_anchored_gradient"
LENGTHS = [3, 7, 1, 6]
each_shape = pytest.mark.parametrize(
    ("layers", "bidirectional", "lengths"),
    [(1, False, None), (2, False, LENGTHS), (1, True, None), (3, True, LENGTHS)],
    ids=["plain", "stacked ragged", "bidirectional", "stacked bidirectional ragged"],
)


def pass_of(cell, layers, bidirectional, lengths, reads, dtype=torch.float64):
    """A forward and backward pass whose loss is Σ_s L_s, of the output at `reads` and of all final states."""
    layer = build(cell, layers, bidirectional, dtype)
    x, hx = torch.randn(T, B, D, dtype=dtype), states_like(layer, dtype)
    given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    seen = gf.trace(layer, given, hx)
    output = seen.call.time_major(seen.output)
    weight = torch.randn_like(output) * torch.tensor([float(t in reads) for t in range(T)]).view(T, 1, 1)
    of_h_n = torch.randn_like(seen.h_n)
    ((output * weight).sum() + (seen.h_n * of_h_n).sum()).backward()
    return seen, weight, of_h_n


def columns_of(seen):
    with plain_arithmetic(seen.h_n.device):
        return anchored_columns(seen, seen.call.gradients, [NAME])


def gradients_of(seen, anchors):
    with plain_arithmetic(seen.h_n.device):
        return list(anchored_gradients(seen, seen.call.gradients, anchors))


def norm_of_state(state):
    """ln of the norm of the adjoint of (h, c); autograd's gradient of c holds the path c_t -> h_t as well."""
    h, c = state["h"].grad, state["c"]
    zero = torch.zeros(H, dtype=torch.float64)
    h = zero if h is None else h
    if c is None:
        return float(h.norm().log())
    shown = (state["h"] / c.tanh() * (1 - c.tanh().square())).detach()
    of_c = zero if c.grad is None else c.grad - shown * h
    of_c = torch.where(of_c.abs() < 1e-13 * (zero if c.grad is None else c.grad).abs(), 0, of_c)  # rounding
    return float(torch.cat((h, of_c)).norm().log())


def by_a_pass_for_each(seen, weight, of_h_n, b, s, lengths):
    """ln‖∂L_s/∂s_t‖ of one example, by one backward pass of L_s through an own loop: (layer, direction) -> [length]."""
    layer, x = oracles.double(seen.call.layer), seen.call.time_major(seen.call.x)[:, b : b + 1].double()
    length, sides = T if lengths is None else lengths[b], 2 if layer.bidirectional else 1
    given = oracles.to_double(seen.call.hx)
    alone = tuple(h[:, b : b + 1] for h in given) if oracles.is_lstm(layer) else given[:, b : b + 1]
    states, (output,), h_n, _ = oracles.run(layer, x, [length], alone)
    loss = (output[s] * weight[s, b].double()).sum()
    for row in range(len(h_n)):
        if s == (0 if row % sides else length - 1):
            loss = loss + (h_n[row, 0] * of_h_n[row, b].double()).sum()
    loss.backward()
    return {place: [norm_of_state(state) for state in own[0]] for place, own in states.items()}


@each_shape
@each_cell
def test_every_anchor_is_a_backward_pass_of_its_own(cell, layers, bidirectional, lengths):
    """Of each pair of an example and a position: the whole state at every step that comes before, in each direction."""
    seen, weight, of_h_n = pass_of(cell, layers, bidirectional, lengths, reads={0, 2, 3, 5})
    anchors = anchors_of(seen, seen.call.gradients)
    expected = [
        by_a_pass_for_each(seen, weight, of_h_n, b, int(s), lengths)
        for b, s in zip(anchors.examples, anchors.positions, strict=True)
    ]
    columns, places = columns_of(seen), []
    for place, norms, counts in gradients_of(seen, anchors):
        places.append(place)
        lags = np.full((T, len(expected)), np.nan)
        for n, (b, s) in enumerate(zip(anchors.examples, anchors.positions.tolist(), strict=True)):
            length = T if lengths is None else lengths[b]
            before = range(s, length) if place[1] else range(s, -1, -1)
            end = s == (0 if place[1] else length - 1)
            is_read = place[0] < layers - 1 or s in {0, 2, 3, 5} or end
            assert counts[:, n].nonzero().squeeze(1).tolist() == (sorted(before) if is_read else [])
            for lag, t in enumerate(before if is_read else ()):
                assert float(norms[t, n]) == pytest.approx(expected[n][place][t], abs=1e-9)
                lags[lag, n] = expected[n][place][t] - expected[n][place][s]
        summary = summarise(lags, ~np.isnan(lags)) | {"valid": (~np.isnan(lags)).sum(1)}
        for key, value in summary.items():
            np.testing.assert_allclose(columns[place][f"{NAME}_{key}"], value, rtol=1e-5, atol=1e-6)
    assert places == [(i, d) for i in reversed(range(layers)) for d in range(1 + bidirectional)]


@pytest.mark.parametrize("name", CELLS)
def test_own_cells_have_them(name):
    """Of the state that is recorded of them: all its parts together."""
    layer = build_own(name)
    seen = gf.trace(layer, torch.randn(6, 2, 3, dtype=torch.float64))
    (seen.output * torch.randn_like(seen.output)).sum().backward()
    gradients, anchors = seen.call.gradients, anchors_of(seen, seen.call.gradients)
    ((_, norms, counts),) = gradients_of(seen, anchors)
    for n, (b, s) in enumerate(zip(anchors.examples, anchors.positions.tolist(), strict=True)):
        alone = torch.zeros_like(gradients["output"])
        alone[s, b] = gradients["output"][s, b]
        found = gf.state_gradients(seen, alone)[0, 0].log_norm
        expected = found.get("joint", next(iter(found.values())))
        assert torch.allclose(norms[: s + 1, n], expected[: s + 1, b], atol=1e-9)
        assert counts[:, n].sum() == s + 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_unlimited_range_in_every_layer(dtype, bidirectional):
    """W_hh = 0.01 I over 300 steps: ln 100 per lag, to e^-1377, whichever position the loss is read at."""
    layer = gf.LinearRNN(D, 2, bias=False, bidirectional=bidirectional).to(dtype)
    gf.initialise_(layer, "identity", gain=0.01)
    seen = gf.trace(layer, torch.randn(300, 2, D, dtype=dtype))
    seen.output.square().sum().backward()
    columns = columns_of(seen)
    factor = math.log(float(torch.tensor(0.01, dtype=dtype)))
    for own in columns.values():
        assert own[f"{NAME}_q50"] == pytest.approx(np.arange(300) * factor, rel=1e-6)
        assert own[f"{NAME}_zeros"].sum() == own[f"{NAME}_non_finite"].sum() == 0


@pytest.mark.parametrize(
    ("reads", "expected"),
    [(dict.fromkeys(range(16), 1.0), [8, 10, 12, 15]), ({3: 1.0, 9: 1.0}, [9]), ({9: 1.0}, None), ({}, None)],
)
def test_which_positions_are_anchors(reads, expected):
    """The last at which the loss reads an output and those evenly before; none where it reads only one."""
    seen = gf.trace(nn.GRU(D, H), torch.randn(16, 9, D))
    sum((seen.output[t, 1:].sum() * factor for t, factor in reads.items()), 0 * seen.output.sum()).backward()
    anchors = anchors_of(seen, seen.call.gradients)
    if expected is None:
        assert anchors is None
        return
    assert anchors.examples == [b for b in (1, 3, 5, 7) for _ in expected]  # the first is read nowhere
    assert anchors.positions.tolist() == expected * 4
    assert len(expected) <= ANCHORS


def test_one_final_state_of_each_direction_is_no_loss_at_many_positions():
    seen = gf.trace(nn.GRU(D, H, bidirectional=True), torch.randn(T, 2, D))
    seen.h_n.sum().backward()
    assert anchors_of(seen, seen.call.gradients) is None


def recorded(tmp_path, loss, layer=None, **options):
    torch.manual_seed(0)
    layer = nn.GRU(D, H) if layer is None else layer
    with gf.record(layer, tmp_path, reduction="sum", **options) as recorder:
        for _ in range(3):
            layer.zero_grad()
            loss(layer(torch.randn(T, B, D))[0]).backward()
            recorder.step()
    return gf.open_run(tmp_path)


def test_recorded_as_often_as_spectra_where_a_loss_stands_at_every_step(tmp_path):
    run = recorded(tmp_path, lambda output: output.square().sum(), every=1, spectrum_every=2)
    frame = run.frame("lag")
    assert frame.loc[frame[f"{NAME}_valid"] > 0, "iteration"].unique().tolist() == [0, 2]
    assert frame[f"{NAME}_valid"].iloc[:T].tolist() == [16, 16, 16, 16, 12, 8, 4]
    assert not [name for name in run.columns["time"] if name.startswith(NAME)]
    assert f"{NAME}_q50" in run.dataset("lag")


def test_alone_if_it_alone_is_asked_for(tmp_path):
    run = recorded(tmp_path, lambda output: output.square().sum(), quantities=[NAME])
    assert run.frame("lag")[f"{NAME}_q50"].notna().any()
    assert len(run.frame("time")) == 0


def test_not_recorded_where_the_loss_reads_one_position(tmp_path):
    frame = recorded(tmp_path, lambda output: output[-1].sum()).frame("lag")
    assert frame[f"{NAME}_q50"].isna().all()
    assert not (frame[f"{NAME}_valid"] > 0).any()


def test_what_is_not_finite_is_counted():
    layer = nn.GRU(D, H)
    x = torch.randn(T, B, D)
    x[2, 0] = torch.nan
    seen = gf.trace(layer, x)
    seen.output.square().sum().backward()
    columns = columns_of(seen)[0, 0]
    assert columns[f"{NAME}_non_finite"][0] == 4  # every anchor of that example comes after it
    assert columns[f"{NAME}_q50"][0] == 0


@pytest.mark.parametrize("lengths", [None, [3, 7, 2, 6]], ids=["full", "ragged"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_relative_to_the_last_step_that_is_reached(kind, reverse, lengths, tmp_path):
    """A loss that leaves the last states out: zeros at their lags, and relative to the first step that it reads."""
    torch.manual_seed(0)
    layer, full = kind(D, H, bidirectional=True).double(), lengths or [T] * B
    x = torch.randn(T, B, D, dtype=torch.float64)
    reads = [1 if reverse else length - 2 for length in full]
    given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    seen = gf.trace(layer, given)
    read = seen.call.time_major(seen.output)[reads, torch.arange(B)].chunk(2, -1)[int(reverse)]
    read.sum().backward()
    states, outputs, _, _ = oracles.run(layer, x, lengths)
    sum(outputs[b][reads[b]].chunk(2)[int(reverse)].sum() for b in range(B)).backward()
    norms = np.full((T, B), np.nan)
    for b in range(B):
        for t in range(full[b]):
            lag = t if reverse else full[b] - 1 - t
            norms[lag, b] = norm_of_state(states[0, int(reverse)][b][t])
    assert (norms[0] == -np.inf).all()
    expected = summarise(norms - norms[1], ~np.isnan(norms))
    with gf.record(layer, tmp_path, examples="all", reduction="sum") as recorder:
        output, _ = layer(given)
        seen.call.time_major(output)[reads, torch.arange(B)].chunk(2, -1)[int(reverse)].sum().backward()
        recorder.step()
    frame = gf.open_run(tmp_path).frame("lag")
    own = frame[frame.direction == int(reverse)]
    for statistic in ("q10", "q50", "q90", "zeros", "non_finite"):
        found = own[f"log_relative_gradient_{statistic}"].to_numpy(dtype=float)
        np.testing.assert_allclose(found, expected[statistic], rtol=1e-5, atol=1e-6)
    other = frame[frame.direction != int(reverse)]  # reached nowhere: zero, and not what is no number
    assert (other["log_relative_gradient_zeros"] == other["valid"]).all()


def test_a_gradient_that_is_no_number_is_not_passed_over():
    relative = QUANTITIES[NAME].of_anchors
    norms = torch.tensor([[1.0, -torch.inf], [3.0, -torch.inf], [torch.nan, 2.0], [-torch.inf, 5.0]])
    assert relative(norms, None, False)[:, 0].isnan().all()
    assert relative(norms, None, False)[:, 1].tolist() == [-math.inf, -math.inf, -3.0, 0.0]
    assert relative(norms, None, True)[:, 0].tolist()[:2] == [0.0, 2.0]
    assert relative(norms, None, True)[:, 1].tolist() == [-math.inf, -math.inf, 0.0, 3.0]
