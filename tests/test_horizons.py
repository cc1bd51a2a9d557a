"""Long products, Lyapunov exponents, lag-resolved gradients: against many digits, autograd and closed forms."""

import math

import mpmath
import oracles
import pytest
import torch
from covering import each_pair
from test_adjoint import gradients_of_last
from test_jacobian import linear, orthogonal
from test_replay import LAYERS, B, D, H, T, build, each_cell, each_dtype, states_like
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf
from gradflow.flow.horizons import _each_loss

LENGTHS = [3, 7, 1, 6]
EITHER = {"whole": None, "ragged": LENGTHS}
DTYPES = {"f64": torch.float64, "f32": torch.float32}
each_way = each_pair(cell=[*LAYERS], lengths=EITHER, direction=[0, 1])


def exact(matrices):
    """ln of the singular values of matrices[-1] … matrices[0], [n, S, S] float64, in 400 digits."""
    with mpmath.workdps(400):
        product = mpmath.eye(matrices.shape[-1])
        for matrix in matrices:
            product = mpmath.matrix(matrix.tolist()) * product
        values = mpmath.eigsy(product.T * product, eigvals_only=True)
        logs = sorted((float(mpmath.log(value) / 2) for value in values), reverse=True)
        return torch.tensor(logs, dtype=torch.float64)


def trace_of(cell, dtype=torch.float64, lengths=None, bidirectional=False, time=T, hidden=H, scale=2.0):
    torch.manual_seed(7)
    layer = LAYERS[cell](D, hidden, bidirectional=bidirectional).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(scale)
    x = torch.randn(time, B, D, dtype=dtype)
    given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    return gf.trace(layer, given)


@pytest.mark.parametrize("cell", [name for name in LAYERS if name != "rnn_relu"])
def test_long_products_in_multiple_precision(cell):
    """60 steps: σ_min is e^-90 and below, where a product in float64 has long lost it."""
    jacobian = trace_of(cell, time=60, hidden=3, scale=3.0)[0, 0].jacobian
    found = gf.jacobian_product(jacobian, -1, 59)
    for b in range(2):
        expected = exact(jacobian.dense()[:, b])
        assert torch.allclose(found[b], expected, atol=1e-9, rtol=1e-9)


def test_the_smallest_value_of_sixty_steps():
    """Its logarithm is about -138, while an SVD of the product finds the rounding of σ_1."""
    weight = orthogonal(4) @ torch.diag(torch.tensor([1.0, 0.8, 0.5, 0.1], dtype=torch.float64)) @ orthogonal(4).T
    found = gf.jacobian_product(linear(weight, 60, 1), -1, 59)[0]
    assert math.isclose(float(found[-1]), 60 * math.log(0.1), rel_tol=1e-12)
    assert float(torch.linalg.svdvals(torch.linalg.matrix_power(weight, 60))[-1].log()) > -60


@each_pair(cell=[*LAYERS], lengths=EITHER, dtype=DTYPES)
def test_product_is_autograds_in_both_directions(cell, lengths, dtype):
    """I3: singular values of the matrices of autograd multiplied over each example's own length, latest leftmost."""
    seen = trace_of(cell, dtype, lengths, bidirectional=True)
    full = lengths or [T] * B
    x, slow = seen.call.time_major(seen.call.x).double(), oracles.double(seen.call.layer)
    for direction, pairs in ((0, [(-1, T - 1), (0, 4), (2, 2)]), (1, [(-1, 0), (5, 1), (3, 3)])):
        step = seen[0, direction]
        for start, stop in pairs:
            found = gf.jacobian_product(step.jacobian, start, stop)
            entered = start if direction == 0 else (T if start < 0 else start)
            positions = range(entered + 1, stop + 1) if direction == 0 else range(entered - 1, stop - 1, -1)
            for b in range(B):
                product = torch.eye(found.shape[1], dtype=torch.float64)
                for t in (t for t in positions if t < full[b]):
                    c = step.previous["c"][t, b].double() if "c" in step.previous else None
                    entering = step.previous["h"][t, b].double()
                    product = oracles.step_jacobian(slow, 0, direction, x[t, b], entering, c) @ product
                values = torch.linalg.svdvals(product)
                tolerance = (1e-10 if dtype == torch.float64 else 1e-4) * float(values[0])
                assert torch.allclose(found[b].exp(), values, atol=tolerance, rtol=0)
                assert start != stop or bool((found == 0).all())


@pytest.mark.parametrize("radius", [0.3, 1.0, 4.0])
def test_scaled_orthogonal_weights(radius):
    """I6, I18: n steps of W = sQ make n ln s exactly, far beyond the range of float64."""
    jacobian = linear(radius * orthogonal(6), 800, 1)
    expected = torch.full((1, 6), 800 * math.log(radius), dtype=torch.float64)
    assert torch.allclose(gf.jacobian_product(jacobian, -1, 799), expected, rtol=1e-12, atol=1e-9)
    assert torch.allclose(gf.lyapunov_exponents(jacobian), expected / 800, atol=1e-12)
    slope = gf.product_norms(jacobian).squeeze(1).diff()
    assert torch.allclose(slope, torch.full_like(slope, -math.log(radius)), atol=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 30, 300])
def test_crowded_singular_values(steps):
    """I5, I20: of a symmetric W they are |eigenvalue| ** n, whether they lie close together or far apart."""
    eigenvalues = torch.linspace(1.05, 0.6, 24, dtype=torch.float64)
    eigenvalues[::5] *= -1
    basis = orthogonal(24)
    found = gf.jacobian_product(linear(basis @ torch.diag(eigenvalues) @ basis.T, steps, 1), -1, steps - 1)
    assert torch.allclose(found[0], steps * eigenvalues.abs().log(), atol=1e-8)


def test_directions_in_the_wrong_order_and_zeros():
    """The largest direction comes last in W; and exact zeros are -inf, the others right."""
    weight = torch.diag(torch.tensor([0.0, 0.1, 10.0, 1.0], dtype=torch.float64))
    found = gf.jacobian_product(linear(weight, 50, 1), -1, 49)[0]
    expected = 50 * torch.tensor([10.0, 1.0, 0.1, 0.0], dtype=torch.float64).log()
    assert torch.equal(found == -torch.inf, expected == -torch.inf)
    assert torch.allclose(found[:3], expected[:3], rtol=1e-12, atol=1e-9)
    found = gf.jacobian_product(linear(orthogonal(4) @ weight @ orthogonal(4).T, 50, 1), -1, 49)[0]
    assert torch.equal(found == -torch.inf, expected == -torch.inf)
    assert torch.allclose(found[:3], expected[:3], rtol=1e-9, atol=1e-9)
    jacobian = linear(torch.zeros(3, 3, dtype=torch.float64), 4, 1)
    assert bool((gf.jacobian_product(jacobian, 0, 1) == -torch.inf).all())
    assert gf.product_norms(jacobian).squeeze(1).tolist() == [-math.inf] * 3 + [0.0]
    assert bool((gf.lyapunov_exponents(jacobian) == -torch.inf).all())


def test_units_that_are_off_take_a_zero_each():
    """ReLU: as many singular values of the product are zero as its rank lacks."""
    jacobian = trace_of("rnn_relu", time=12, scale=1.0)[0, 0].jacobian
    found = gf.jacobian_product(jacobian, -1, 11)
    for b in range(B):
        product = torch.eye(H, dtype=torch.float64)
        for matrix in jacobian.dense()[:, b]:
            product = matrix @ product
        values = torch.linalg.svdvals(product)
        large = values > 1e-13 * values[0]
        assert torch.allclose(found[b][large], values[large].log(), atol=1e-3)
        assert bool((found[b][~large] < values[0].log() - 25).all())


@each_way
def test_product_norms_are_those_of_every_product(cell, lengths, direction):
    jacobian = trace_of(cell, lengths=lengths, bidirectional=True)[0, direction].jacobian
    found, full = gf.product_norms(jacobian), lengths or [T] * B
    for t in range(T):
        expected = gf.jacobian_product(jacobian, t, 0 if direction else T - 1)[:, 0]
        for b in range(B):
            if t >= full[b]:
                assert math.isnan(found[t, b])
            else:
                assert torch.allclose(found[t, b], expected[b], atol=1e-6)


@pytest.mark.parametrize(("cell", "hidden"), [("rnn", 64), ("lstm", 32)])
def test_product_norms_of_larger_layers(cell, hidden):
    """Iterated, not decomposed; against products that are triangularised."""
    jacobian = trace_of(cell, time=70, hidden=hidden, scale=1.0)[0, 0].jacobian
    found = gf.product_norms(jacobian)
    for t in (0, 30, 60, 67):
        assert torch.allclose(found[t], gf.jacobian_product(jacobian, t, 69)[:, 0], atol=1e-5)


@each_cell
def test_norms_of_products_are_below_products_of_norms(cell):
    """I11."""
    jacobian = trace_of(cell)[0, 0].jacobian
    bounds = jacobian.singular_values()[..., 0].log().flip(0).cumsum(0).flip(0)
    assert bool((gf.product_norms(jacobian)[:-1] <= bounds[1:] + 1e-5).all())


@each_dtype
@each_cell
def test_a_gradient_and_a_change_keep_their_product(cell, dtype):
    """I15: with v_t = J_t v_{t-1} and a loss on the last state, ⟨δ_t, v_t⟩ is the same at every t."""
    layer = build(cell, dtype=dtype)
    seen, gradients = gradients_of_last(layer, torch.randn(T, B, D, dtype=dtype), 1.0)
    jacobian, value = seen[0, 0].jacobian, gradients[0, 0].value
    delta = torch.cat([value[name] for name in jacobian.state_names], -1)
    v = torch.randn(B, jacobian.shape[-1], dtype=dtype)
    products = []
    for t in range(T):
        v = jacobian[t].matvec(v)
        products.append((delta[t] * v).sum(-1))
    scale = float(products[-1].abs().max())
    assert (
        float((torch.stack(products) - products[-1]).abs().max()) < (1e-12 if dtype == torch.float64 else 1e-4) * scale
    )


@each_way
def test_lyapunov_exponents_sum_to_the_mean_log_determinant(cell, direction, lengths):
    """I17, at any T, over each example's own length."""
    jacobian = trace_of(cell, lengths=lengths, bidirectional=True)[0, direction].jacobian
    found = gf.lyapunov_exponents(jacobian)
    expected = jacobian.log_abs_det().nanmean(0)
    possible = expected.isfinite() & found.isfinite().all(-1)
    assert bool(possible.any()) or cell == "rnn_relu"
    assert torch.allclose(found.sum(-1)[possible], expected[possible], atol=1e-9)
    assert bool((found[expected == -torch.inf][:, -1] == -torch.inf).all())


@pytest.mark.parametrize("time", [100, 1000])
def test_lyapunov_exponents_of_a_linear_layer(time):
    """I19: they approach ln|eigenvalue| as 1/T."""
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 2
    found = gf.lyapunov_exponents(linear(weight, time, 1))[0]
    expected = torch.linalg.eigvals(weight).abs().log().sort(descending=True).values
    assert float((found - expected).abs().max()) <= 10 / time


def test_lyapunov_exponents_of_ragged_examples_and_after_a_burn_in():
    layer, lengths = build("lstm"), torch.tensor(LENGTHS)
    x = torch.randn(T, B, D, dtype=torch.float64)
    together = gf.trace(layer, x, lengths=lengths)[0, 0].jacobian
    for b, length in enumerate(LENGTHS):
        alone = gf.trace(layer, x[:length, b : b + 1])[0, 0].jacobian
        assert torch.allclose(gf.lyapunov_exponents(together)[b], gf.lyapunov_exponents(alone)[0], atol=1e-12)
    late = gf.lyapunov_exponents(together, burn_in=3)
    assert late.isnan().all(-1).tolist() == [True, False, True, False]
    weight = torch.diag(torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert torch.allclose(gf.lyapunov_exponents(linear(weight), burn_in=10), weight.diagonal().log(), atol=1e-14)


@each_cell
def test_a_few_lyapunov_exponents_are_those_of_the_leading_directions(cell):
    """R of the first columns is the corner of the whole R, so each of them is one of all, and the largest in time."""
    jacobian = trace_of(cell, time=120)[0, 0].jacobian
    everything = gf.lyapunov_exponents(jacobian, burn_in=60)
    for count in (1, 2):
        few = gf.lyapunov_exponents(jacobian, burn_in=60, count=count)
        assert few.shape == (B, count)
        assert bool(torch.isclose(few.unsqueeze(-1), everything.unsqueeze(1), atol=1e-9).any(-1).all())
        if cell != "rnn_relu":  # whose directions may all have died out
            assert torch.allclose(few, everything[:, :count], atol=0.05)
    assert torch.equal(gf.lyapunov_exponents(jacobian, 60, count=jacobian.shape[-1]), everything)


@pytest.mark.parametrize(
    ("gain", "expected", "tolerance"), [(0.5, -0.6931, 0.09), (2.0, 0.1547, 0.03), (3.0, 0.3103, 0.04)]
)
def test_chaotic_map(gain, expected, tolerance):
    """The autonomous h ← tanh(W h), a trace with zero input: λ_1 of mean-field theory (Sompolinsky et al. 1988)."""
    size = 120
    torch.manual_seed(0)
    layer = nn.RNN(1, size, bias=False).double()
    with torch.no_grad():
        layer.weight_hh_l0.normal_(0, gain / size**0.5)
    jacobian = gf.trace(layer, torch.zeros(300, 1, 1).double(), torch.randn(1, 1, size).double())[0, 0].jacobian
    assert abs(float(gf.lyapunov_exponents(jacobian, burn_in=100)[0, 0]) - expected) < tolerance


@each_cell
def test_non_finite_jacobians_are_nan_and_other_examples_right(cell):
    layer = build(cell)
    x, hx = torch.randn(T, B, D, dtype=torch.float64), states_like(layer)
    good = gf.trace(layer, x, hx)[0, 0].jacobian
    x[3, 1] = torch.nan
    bad = gf.trace(layer, x, hx)[0, 0].jacobian
    if cell == "linear":
        bad.coefficients.rows["h"][3, 1] = torch.nan
    others = [0, 2, 3]
    for question in (
        lambda J: gf.jacobian_product(J, -1, T - 1),
        gf.lyapunov_exponents,
        lambda J: gf.product_norms(J).T,
    ):
        found = question(bad)
        assert torch.allclose(found[others], question(good)[others], atol=1e-8)
        assert bool(found[1, :3].isnan().all())
    assert bool(gf.jacobian_product(bad, -1, 2)[1].isfinite().any())


def autograd_by_lag(seen, lengths, weight, direction):
    """∂L_s/∂h_t of every pair, by a backward pass for each loss, [T, T, B, H] with NaN where there is none."""
    layer, x = oracles.double(seen.call.layer), seen.call.time_major(seen.call.x).double()
    full = lengths or [T] * B
    found = torch.full((T, T, B, layer.hidden_size), torch.nan, dtype=torch.float64)
    for s in range(T):
        states, outputs, _, _ = oracles.run(layer, x, lengths, oracles.to_double(seen.call.hx))
        sum((outputs[b][s] * weight[s, b].double()).sum() for b in range(B) if s < full[b]).backward()
        for b in range(B):
            for t in range(full[b]):
                after = t < s if direction else t > s
                gradient = states[layer.num_layers - 1, direction][b][t]["h"].grad
                if s < full[b] and not after:
                    found[s, t, b] = torch.zeros(()) if gradient is None else gradient
    return found


@pytest.mark.parametrize(
    ("layers", "bidirectional", "lengths", "dtype"),
    [(1, False, None, torch.float32), (2, False, LENGTHS, torch.float64), (2, True, LENGTHS, torch.float32)],
)
@each_cell
def test_lag_resolved_gradients(cell, layers, bidirectional, lengths, dtype):
    """Every ∂L_s/∂h_t is that of a backward pass from L_s alone, and they sum to the total gradient."""
    layer = build(cell, layers, bidirectional, dtype)
    x, hx = torch.randn(T, B, D, dtype=dtype), states_like(layer, dtype)
    given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    seen = gf.trace(layer, given, hx)
    output = seen.call.time_major(seen.output)
    weight = torch.randn_like(output)
    (output * weight).sum().backward()
    for direction in range(2 if bidirectional else 1):
        found = gf.lag_resolved_gradients(seen, direction=direction)
        expected = autograd_by_lag(seen, lengths, weight, direction).norm(dim=-1).log()
        assert torch.equal(found.isnan(), expected.isnan())
        present = expected > -30
        assert torch.allclose(found[present], expected[present], atol=1e-8 if dtype == torch.float64 else 1e-2)
        key = layers - 1, direction
        gradients, jacobian = gf.state_gradients(seen)[key], seen[key].jacobian
        direct = torch.cat(list(gradients.direct.values()), -1).double()
        for t, _, vectors, exponents in _each_loss(jacobian, direct):
            total = jacobian.split((vectors * torch.exp2(exponents).unsqueeze(-1)).sum(0))["h"]
            valid = slice(None) if seen[key].valid is None else seen[key].valid[t]
            value = gradients.value["h"][t].double()
            assert torch.allclose(total[valid], value[valid], atol=1e-10 if dtype == torch.float64 else 1e-4)


def test_lag_resolved_gradients_have_unlimited_range():
    """W = 0.01 I over 300 steps: ln 100 per lag, to e^-1377; a loss that is not there is -inf."""
    layer = gf.LinearRNN(D, 2, bias=False).double()
    gf.initialise_(layer, "identity", gain=0.01)
    seen = gf.trace(layer, torch.zeros(300, 1, D, dtype=torch.float64))
    gradient = torch.ones(300, 1, 2, dtype=torch.float64)
    gradient[7] = 0
    found = gf.lag_resolved_gradients(seen, gradient)[..., 0]
    time = torch.arange(300, dtype=torch.float64)
    lag = time.unsqueeze(1) - time
    expected = (math.log(2) / 2 - lag * math.log(100)).masked_fill(lag < 0, torch.nan)
    expected[7, :8] = -torch.inf
    assert torch.allclose(found, expected, rtol=1e-12, equal_nan=True)


def test_errors_name_the_argument():
    jacobian = trace_of("rnn", bidirectional=True)[0, 1].jacobian
    with pytest.raises(ValueError, match=r"start: expected a position from -1 to 6 of 7 steps, got 7"):
        gf.jacobian_product(jacobian, 7, 0)
    with pytest.raises(ValueError, match=r"stop: expected a position from 0 to 6 of 7 steps, got -1"):
        gf.jacobian_product(jacobian, 3, -1)
    with pytest.raises(ValueError, match=r"stop: .* after start=2 in the reverse direction, got 4; swap the two"):
        gf.jacobian_product(jacobian, 2, 4)
    with pytest.raises(ValueError, match=r"burn_in: expected 0 to 6 of 7 steps, got 7; pass a longer sequence"):
        gf.lyapunov_exponents(jacobian, burn_in=7)
    for count in (0, 1.0, True):
        with pytest.raises(ValueError, match=f"count: expected a whole number of at least 1, got {count}"):
            gf.lyapunov_exponents(jacobian, count=count)
    with pytest.raises(ValueError, match=r"count: expected 1 to 5 exponents of a 5 x 5 Jacobian, got 6"):
        gf.lyapunov_exponents(jacobian, count=6)
    with pytest.raises(ValueError, match=r"call loss.backward\(\) first"):
        gf.lag_resolved_gradients(trace_of("rnn"))
    with pytest.raises(ValueError, match=r"direction: expected a whole number from 0 to 0"):
        gf.lag_resolved_gradients(trace_of("rnn"), direction=1)


def test_what_is_no_jacobian_is_named():
    step = trace_of("rnn")[0, 0]
    for call in (gf.product_norms, gf.lyapunov_exponents, lambda J: gf.jacobian_product(J, 0, 1)):
        with pytest.raises(TypeError, match=r"J: expected a Jacobian, got Unrolled; pass trace"):
            call(step)
    with pytest.raises(ValueError, match=r"burn_in: expected a whole number"):
        gf.lyapunov_exponents(step.jacobian, burn_in=1.5)
    with pytest.raises(ValueError, match=r"vector: expected .* the states h side by side, got"):
        step.jacobian.matvec(torch.zeros(*step.jacobian.shape[:2], 1))
