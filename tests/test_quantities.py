"""The columns of the log, from a replayed layer: against plain numpy, row by row."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import gradflow as gf
from gradflow.flow.adjoint import descend
from gradflow.flow.metrics import QUANTILES, summarise
from gradflow.recording.gates import gate_columns
from gradflow.recording.measuring import by_lag, by_time, measure
from gradflow.recording.quantities import QUANTITIES, Quantity, quantities_of

T, B, D, H = 7, 9, 3, 5
LENGTHS = torch.tensor([3, 7, 1, 5, 7, 2, 7, 4, 6])


def traced(layer, lengths=None, **changes):
    torch.manual_seed(0)
    seen = gf.trace(layer, torch.randn(T, B, D), lengths=lengths)
    last = seen.output[-1] if lengths is None else seen.output[lengths - 1, torch.arange(B)]
    last.sum().backward()
    return seen


def columns_of(seen, names, reverse=False):
    """Columns of the tables `time` and `lag`."""
    for key, blocks in descend(seen, seen.call.gradients):
        groups = measure(seen[key], blocks, names, 0.0)
    in_time = by_time(groups)
    return in_time, by_lag(groups, reverse, in_time)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gate_columns(kind, lengths):
    """Means, quantiles, saturated shares and time scales over the units and examples within their length."""
    layer = kind(D, H)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(8)
    step = traced(layer, lengths)[0, 0]
    found = gate_columns(step)
    for row, (t, gate) in enumerate(zip(found["time"], found["gate"], strict=True)):
        within = slice(None) if lengths is None else lengths > int(t)
        numbers = step.gates[gate][int(t), within].double().numpy().ravel()
        assert found["mean"][row] == pytest.approx(numbers.mean(), rel=1e-5)
        assert found["q10"][row] == pytest.approx(np.quantile(numbers, 0.1), rel=1e-5)
        assert found["saturated_low"][row] == pytest.approx((numbers < np.float32(0.05)).mean())
        assert found["saturated_high"][row] == pytest.approx((numbers > np.float32(0.95)).mean())
        scale = -1 / np.log(np.quantile(numbers, 0.9)) if gate in "fz" else np.nan
        assert found["time_scale_q90"][row] == pytest.approx(scale, rel=1e-4, nan_ok=True)
    assert 0 < found["saturated_low"].max() < 1


def test_gates_that_are_not_numbers_count_in_no_share():
    layer = nn.LSTM(D, H)
    step = traced(layer)[0, 0]
    step.gates["i"][2, 4, 1] = torch.nan
    found = gate_columns(step)
    (row,) = np.flatnonzero((found["time"] == 2) & (found["gate"] == "i"))
    numbers = step.gates["i"][2].numpy().ravel()
    assert found["mean"][row] == pytest.approx(np.nanmean(numbers), rel=1e-5)
    assert found["saturated_high"][row] == (numbers > 0.95).sum() / numbers.size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (9, 5)], ids=str)
def test_gate_columns_of_any_numbers(size, ragged, dtype):
    """Against each row by itself: limits of the shares met exactly, NaN and inf, a few units only, and none."""
    batch, hidden = size
    rng = np.random.default_rng(batch)
    values = rng.choice([0.0, 1e-30, 0.05, 0.3, 0.7, 0.95, 1.0, np.nan, np.inf], (4, T, batch, hidden))
    values[:, ::2] = rng.random(values[:, ::2].shape)  # and positions where all is finite
    valid = torch.from_numpy(rng.random((T, batch)) < 0.6)
    valid[0], valid[1] = True, False
    gates = dict(zip("ifgo", torch.tensor(values, dtype=dtype), strict=True))
    layer = nn.LSTM(D, hidden, dtype=dtype)
    step = gf.trace(layer, torch.zeros(T, batch, D, dtype=dtype))[0, 0]
    found = gate_columns(replace(step, gates=gates, valid=valid if ragged else None))
    for row, (t, gate) in enumerate(zip(found["time"], found["gate"], strict=True)):
        own = gates[gate][int(t)]
        numbers = (own[valid[int(t)]] if ragged else own).numpy().ravel()
        finite, limits = np.sort(numbers[np.isfinite(numbers)].astype(float)), np.array([0.05, 0.95], numbers.dtype)
        low, high = (finite < limits[0]).sum(), (finite > limits[1]).sum()
        some, count = finite if finite.size else np.array([np.nan]), numbers.size or np.nan
        expected = {"mean": some.mean(), "q10": np.quantile(some, 0.1), "q90": np.quantile(some, 0.9)}
        expected |= {"saturated_low": low / count, "saturated_high": high / count}
        assert {name: found[name][row] for name in expected} == pytest.approx(expected, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("count", [1, 2, 32])
def test_summaries_of_rows_that_are_whole_and_of_rows_that_are_not(count):
    """Whole rows go a shorter way: it gives the numbers that they have beside one that is not whole."""
    rows = np.random.default_rng(0).standard_normal((5, count))
    together = summarise(np.concatenate((rows, np.full((1, count), np.nan))))
    for name, numbers in summarise(rows).items():
        assert numbers.tolist() == together[name][:5].tolist()
    for name, share in QUANTILES.items():
        np.testing.assert_allclose(together[name][:5], np.quantile(rows, share, axis=1), rtol=1e-12)


def test_summaries_of_rows_of_every_kind():
    """Row by row: exact zeros, what is not finite, both, and nothing else."""
    inf, nan = np.inf, np.nan
    rows = np.array(
        [[1, 3, 2], [-inf] * 3, [-inf, 4, 6], [inf] * 3, [inf, 1, nan], [nan] * 3, [-inf, inf, 5], [-inf, nan, -inf]]
    )
    found = summarise(rows)
    for place, row in enumerate(rows):
        finite = row[np.isfinite(row)]
        expected = {"mean": np.mean, **{name: partial(np.quantile, q=share) for name, share in QUANTILES.items()}}
        for name, take in expected.items():
            assert found[name][place] == pytest.approx(take(finite) if len(finite) else nan, nan_ok=True)
        assert found["zeros"][place] == (row == -inf).sum()
        assert found["non_finite"][place] == np.isnan(row).sum() + (row == inf).sum()


def test_positions_that_no_recorded_example_reaches():
    """NaN and counts of 0, without a warning."""
    seen = traced(nn.LSTM(D, H), torch.tensor([3, 2, 4, 1, 3, 2, 4, 4, 4]))
    gates, (in_time, in_lag) = gate_columns(seen[0, 0]), columns_of(seen, ["log_state_gradient"])
    beyond = gates["time"] >= 4
    assert np.isnan(gates["saturated_high"][beyond]).all()
    assert not np.isnan(gates["mean"][~beyond]).any()
    for columns in (in_time, in_lag):
        assert columns["valid"].tolist() == [9, 8, 6, 4, 0, 0, 0]
        assert np.isnan(columns["log_state_gradient_q50"][4:]).all()


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.GRU])
def test_largest_singular_value_of_four_examples(kind, lengths):
    """Positions ⌊iB/4⌋ of the recorded examples, aligned by time and by each example's own end."""
    seen = traced(kind(D, H), lengths)
    in_time, in_lag = columns_of(seen, ["log_state_gradient", "log_jacobian_spectral"])
    some = [0, 2, 4, 6]
    largest = np.log(np.linalg.svd(seen[0, 0].jacobian.dense()[:, some].nan_to_num(nan=1).numpy())[1][..., 0])
    ends = np.full(4, T) if lengths is None else lengths[some].numpy()
    assert in_time["valid"].tolist() == [B if lengths is None else int((lengths > t).sum()) for t in range(T)]
    for k in range(T):
        by_time_, by_lag_ = largest[k, ends > k], [largest[n - 1 - k, i] for i, n in enumerate(ends) if n > k]
        assert in_time["log_jacobian_spectral_mean"][k] == pytest.approx(by_time_.mean(), abs=2e-5)
        assert in_lag["log_jacobian_spectral_q50"][k] == pytest.approx(np.median(by_lag_), abs=2e-5)
        assert in_time["log_jacobian_spectral_non_finite"][k] == 0


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_norms_of_products_of_two_examples(lengths):
    """Opt-in: ln‖∂h_last/∂h_t‖ of the examples at positions 0 and ⌊B/2⌋, against the products of dense Jacobians."""
    seen = traced(nn.GRU(D, H), lengths)
    in_time, in_lag = columns_of(seen, ["log_product_spectral"])
    dense, some = seen[0, 0].jacobian.dense().double(), [0, B // 2]
    ends = [T, T] if lengths is None else lengths[some].tolist()
    norms = np.full((T, 2), np.nan)
    for i, (b, end) in enumerate(zip(some, ends, strict=True)):
        product = torch.eye(H, dtype=torch.float64)
        for t in reversed(range(end)):
            norms[t, i] = torch.linalg.matrix_norm(product, 2).log()
            product = product @ dense[t, b]
    for t in range(T):
        expected = norms[t][np.isfinite(norms[t])]
        mean = expected.mean() if len(expected) else np.nan
        assert in_time["log_product_spectral_mean"][t] == pytest.approx(mean, abs=2e-5, nan_ok=True)
    assert in_lag["log_product_spectral_q90"][0] == pytest.approx(0, abs=1e-6)


def test_cell_path_far_below_the_range_of_float32():
    """Forget gates of e-30 a step over 60 steps: the path is their product all the same."""
    layer = nn.LSTM(D, H)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.weight_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
        layer.bias_ih_l0[H : 2 * H] = -30.0
    seen = gf.trace(layer, torch.zeros(60, 2, D))
    seen.output[-1].sum().backward()
    in_time, _ = columns_of(seen, ["log_cell_path", "log_cell_gradient"])
    slope = np.diff(in_time["log_cell_path_mean"])
    assert slope == pytest.approx(np.full(59, 30.0), rel=1e-5)
    within = in_time["log_cell_gradient_mean"][:-1]  # at the last step nothing arrives at c but through h
    assert np.diff(within) == pytest.approx(np.full(58, 30.0), rel=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [3, 40, 2, 70]], ids=["full", "ragged"])
def test_cell_path_begins_at_the_last_step_that_is_reached(lengths, reverse):
    """Over several blocks, with a forget gate that is exactly zero: there the path ends, and does not begin anew."""
    torch.manual_seed(0)
    layer, full = nn.LSTM(D, H, bidirectional=True).double(), lengths or [70] * 4
    x = torch.randn(70, 4, D, dtype=torch.float64)
    x[20, 1] = 1e9 * layer.weight_ih_l0[H : H + 1].detach()
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(full), enforce_sorted=False)
    seen = gf.trace(layer, x if lengths is None else packed)
    start = [1 if reverse else length - 2 for length in full]
    seen.call.time_major(seen.output)[start, torch.arange(4)].chunk(2, -1)[int(reverse)].sum().backward()
    found = gf.state_gradients(seen)[0, int(reverse)].value["c_total"].detach()
    f = seen[0, int(reverse)].gates["f"].detach()
    for (_, direction), blocks in descend(seen, seen.call.gradients):
        values = measure(seen[0, direction], blocks, ["log_cell_path"], 0.0)[0].values[0]
        if direction == int(reverse):
            path = values
    for b, length in enumerate(full):
        for t in range(70):
            after = f[start[b] : t, b] if reverse else f[t + 1 : start[b] + 1, b]
            expected = (after.prod(0) * found[start[b], b]).norm().log().item()
            is_after = t < start[b] if reverse else t > start[b]
            expected = np.nan if t >= length else -np.inf if is_after else expected
            assert path[t, b] == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_scales_with_the_loss_is_what_its_record_says(kind):
    """A loss of twice the size shifts the quantities that scale with it by ln 2, and moves no other."""
    layer = kind(D, H)
    names = [name for name in quantities_of(layer) if QUANTITIES[name].of_anchors is None]
    torch.manual_seed(0)
    x = torch.randn(T, B, D)
    values = []
    for factor in (1.0, 2.0):
        seen = gf.trace(layer, x)
        (factor * seen.output[-1].square().sum()).backward()
        values.append(columns_of(seen, names)[0])
    for name in names:
        shift = np.log(2) if QUANTITIES[name].scales else 0.0
        np.testing.assert_allclose(values[1][f"{name}_q50"], values[0][f"{name}_q50"] + shift, rtol=1e-5, atol=1e-5)


def test_a_record_says_how_it_is_computed():
    with pytest.raises(ValueError, match=r"size: expected of_block, of_few or both, or of_anchors.*got none"):
        Quantity(name="size", unit="1", long_name="size", scales=False)
    both = {"of_few": QUANTITIES["log_jacobian_spectral"].of_few}
    both["of_anchors"] = QUANTITIES["log_anchored_gradient"].of_anchors
    with pytest.raises(ValueError, match=r"size: expected of_anchors alone, got of_block or of_few too; make it two"):
        Quantity(name="size", unit="1", long_name="size", scales=False, **both)


def test_a_new_quantity_is_one_record(tmp_path, monkeypatch):
    """Whatever its name: it is scaled as the record says, and the log has its unit and long name."""
    for name, scales in (("log_gate_norm", True), ("size_gradient", False)):
        take = QUANTITIES["log_state_gradient"].of_block
        record = Quantity(name=name, unit="nats", long_name=f"what {name} means", scales=scales, of_block=take)
        monkeypatch.setitem(QUANTITIES, name, record)
    torch.manual_seed(0)
    layer = nn.LSTM(D, H)
    with gf.record(layer, tmp_path) as recorder:
        layer(torch.randn(T, B, D))[0][-1].sum().backward()
        recorder.step(targets=8)
    run = gf.open_run(tmp_path)
    rows = run.frame("time")
    np.testing.assert_array_equal(rows["log_gate_norm_q50"], rows["log_state_gradient_q50"])
    np.testing.assert_allclose(rows["size_gradient_q50"], rows["log_state_gradient_q50"] - np.log(8), rtol=1e-5)
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["columns"]["time"]["log_gate_norm_q50"] == {
        "unit": "nats",
        "long_name": "what log_gate_norm means: median over examples",
    }
