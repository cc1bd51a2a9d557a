"""Singular values and determinants of step Jacobians against dense decompositions of autograd's matrices."""

import oracles
import pytest
import torch
from covering import each_pair
from test_replay import LAYERS, B, D, H, T, build, close, each_cell, each_dtype, states_like
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf
from gradflow.jacobian import lanczos
from gradflow.jacobian.operator import Jacobian
from gradflow.jacobian.reset_before import ResetBeforeJacobian


def jacobian_of(cell, hidden, time=20, batch=10, dtype=torch.float64, gain=None):
    torch.manual_seed(3)
    layer = LAYERS[cell](D, hidden).to(dtype)
    if gain is not None:
        with torch.no_grad():
            layer.weight_hh_l0.normal_(0, gain / hidden**0.5)
    return gf.trace(layer, torch.randn(time, batch, D, dtype=dtype))[0, 0].jacobian


def linear(weight, time=40, batch=4):
    """The Jacobian of a linear RNN: `weight` [H, H] at every step."""
    layer = gf.LinearRNN(D, len(weight), dtype=weight.dtype)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(weight)
    return gf.trace(layer, torch.zeros(time, batch, D, dtype=weight.dtype))[0, 0].jacobian


def orthogonal(size, dtype=torch.float64):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)).Q


def dense_values(jacobian, count):
    return torch.linalg.svdvals(jacobian.dense().double())[..., :count]


@pytest.fixture
def no_dense(monkeypatch):
    """The whole matrices cannot be had."""

    def refuse(self):
        raise AssertionError("a dense Jacobian was formed")

    return lambda: monkeypatch.setattr(Jacobian, "dense", refuse)


@each_pair(cell=[*LAYERS], gain=[None, 2.0], dtype={"f64": torch.float64, "f32": torch.float32})
def test_spectral_norm(cell, dtype, gain, monkeypatch):
    """σ_1 to 1e-5 for every (t, b), nearly all of them without forming a matrix."""
    jacobian = jacobian_of(cell, 48, dtype=dtype, gain=gain)
    expected, formed, dense = dense_values(jacobian, 1)[..., 0], [0], Jacobian.dense

    def count(self):
        formed.append(self.shape[0])
        return dense(self)

    for kind in (Jacobian, ResetBeforeJacobian):
        monkeypatch.setattr(kind, "dense", count)
    found = jacobian.spectral_norm()
    assert found.dtype == torch.float64
    assert float((found / expected - 1).abs().max()) < 1e-5
    assert sum(formed) < 0.05 * found.numel()


@each_dtype
@pytest.mark.parametrize(("cell", "hidden", "count"), [("rnn", 128, 2), ("lstm", 96, 3), ("gru_before", 130, 2)])
def test_leading_singular_values(cell, hidden, count, dtype, no_dense):
    jacobian = jacobian_of(cell, hidden, 8, 5, dtype, gain=1.5)
    expected = dense_values(jacobian, count)
    no_dense()
    assert float((jacobian.leading_singular_values(count) / expected - 1).abs().max()) < 1e-5


@pytest.mark.parametrize("count", [1, 4])
@each_cell
def test_few_or_small_matrices_are_decomposed(cell, count):
    """Where the iteration is slower, and where it cannot work, the answer is that of the matrix."""
    jacobian = jacobian_of(cell, 4, 3, 2)
    assert torch.allclose(jacobian.leading_singular_values(count), dense_values(jacobian, count), rtol=1e-12, atol=0)
    one = jacobian[1, 0].leading_singular_values(count)
    assert torch.allclose(one, dense_values(jacobian, count)[1, 0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("lengths", [[20, 3, 1, 20], [9, 20, 9, 9]])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_before"])
def test_ragged_and_reverse(cell, lengths):
    """The singular values of autograd's matrices at every valid step of both directions, NaN past the length."""
    torch.manual_seed(2)
    layer = LAYERS[cell](D, 128, bidirectional=True).double()
    x = torch.randn(20, 4, D, dtype=torch.float64)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    seen = gf.trace(layer, packed)
    for direction in (0, 1):
        step = seen[0, direction]
        assert step.jacobian.reverse == (direction == 1)
        found, determinant = step.jacobian.spectral_norm(), step.jacobian.log_abs_det()
        for b, length in enumerate(lengths):
            assert bool(found[length:, b].isnan().all())
            assert bool(determinant[length:, b].isnan().all())
            for t in {0, length // 2, length - 1}:
                c = step.previous["c"][t, b] if "c" in step.previous else None
                matrix = oracles.step_jacobian(layer, 0, direction, x[t, b], step.previous["h"][t, b], c)
                assert float((found[t, b] / torch.linalg.matrix_norm(matrix, 2) - 1).abs()) < 1e-5
                close(determinant[t, b], torch.linalg.slogdet(matrix).logabsdet, torch.float64)


@each_dtype
@each_cell
def test_log_abs_det(cell, dtype):
    layer = build(cell, dtype=dtype)
    step = gf.trace(layer, torch.randn(T, B, D, dtype=dtype), states_like(layer, dtype))[0, 0]
    found = step.jacobian.log_abs_det()
    for t in range(T):
        for b in range(B):
            c = step.previous["c"][t, b].double() if "c" in step.previous else None
            arguments = step.inputs[t, b].double(), step.previous["h"][t, b].double(), c
            expected = torch.linalg.slogdet(oracles.step_jacobian(oracles.double(layer), 0, 0, *arguments)).logabsdet
            if expected == -torch.inf:
                assert found[t, b] == -torch.inf
            else:
                close(found[t, b], expected, torch.float64 if dtype == torch.float64 else torch.float32)


def test_log_abs_det_of_singular_and_non_finite_matrices():
    weight = torch.eye(3, dtype=torch.float64)
    weight[1, 1] = 0
    assert bool((linear(weight).log_abs_det() == -torch.inf).all())
    weight[1, 1] = torch.nan
    assert bool(linear(weight).log_abs_det().isnan().all())


def test_orthogonal_weights(no_dense):
    """I8, I9: all singular values are 1; with tanh they are the derivatives d_t, sorted."""
    size = 128
    jacobian = linear(orthogonal(size))
    layer = nn.RNN(D, size).double()
    with torch.no_grad():
        layer.weight_hh_l0.copy_(orthogonal(size))
    step = gf.trace(layer, torch.randn(10, 4, D, dtype=torch.float64))[0, 0]
    derivatives = (1 - step.states["h"].square()).sort(-1, descending=True).values
    assert torch.allclose(step.jacobian.singular_values(), derivatives, atol=1e-12)
    assert torch.allclose(step.jacobian.spectral_norm(), derivatives[..., 0], rtol=1e-4)
    no_dense()
    assert torch.allclose(jacobian.leading_singular_values(2), torch.ones(()).double(), atol=1e-12)


def test_multiple_values_are_all_found(no_dense):
    """I20: a normal W of scaled rotations has every singular value |eigenvalue| twice."""
    radii = torch.linspace(0.2, 1.1, 64, dtype=torch.float64)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    basis = orthogonal(128)
    jacobian = linear(basis @ torch.kron(torch.diag(radii), turn) @ basis.T)
    no_dense()
    assert torch.allclose(jacobian.leading_singular_values(2), torch.tensor(1.1).double(), rtol=1e-5)


def test_a_value_far_above_the_others_is_found_once(no_dense):
    """Without full re-orthogonalisation it would come back as the second."""
    vector, radii = orthogonal(128)[0], torch.linspace(0.1, 1.0, 128, dtype=torch.float64)
    jacobian = linear(orthogonal(128) @ torch.diag(radii) @ orthogonal(128).T + 1e4 * torch.outer(vector, vector))
    expected = dense_values(jacobian[0, 0], 2)
    no_dense()
    assert torch.allclose(jacobian.leading_singular_values(2), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_zero_and_rank_deficient_matrices(count):
    size = 128
    assert bool((linear(torch.zeros(size, size)).leading_singular_values(count) == 0).all())
    layer = nn.RNN(D, size, nonlinearity="relu").double()
    with torch.no_grad():
        layer.bias_hh_l0[1:] = -100.0
        layer.bias_hh_l0[0] = 100.0
    jacobian = gf.trace(layer, torch.randn(10, 4, D, dtype=torch.float64))[0, 0].jacobian
    found = jacobian.leading_singular_values(count)
    assert torch.allclose(found[..., 0], layer.weight_hh_l0[0].norm().expand(10, 4), rtol=1e-5)
    assert bool((found[..., 1:] < 1e-15).all())


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-19, 1e-18, 1e-15, 1e15, 1e18, 1e25])
def test_range_of_float32(scale, flush):
    """Squares that leave the range of float32 spoil no value within it, denormals flushed as in training or not."""
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(5)) * scale
    expected = torch.linalg.svdvals(weight.double())[0]
    torch.set_flush_denormal(flush)
    try:
        found = linear(weight).spectral_norm()
    finally:
        torch.set_flush_denormal(False)
    assert torch.allclose(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("count", [1, 2])
@each_cell
def test_non_finite_matrices_are_nan_and_the_others_right(cell, count):
    torch.manual_seed(4)
    layer = LAYERS[cell](D, 128).double()
    x = torch.randn(6, 6, D, dtype=torch.float64)
    expected = gf.trace(layer, x)[0, 0].jacobian.leading_singular_values(count)
    x[3, 1] = torch.nan
    found = gf.trace(layer, x)[0, 0].jacobian.leading_singular_values(count)
    broken = torch.zeros(6, 6, dtype=torch.bool)
    broken[4:, 1] = True
    if cell not in ("linear",):
        broken[3, 1] = True
    if cell != "linear":
        assert bool(found[broken].isnan().all())
        assert torch.allclose(found[~broken], expected[~broken], rtol=1e-5)
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = torch.inf
    assert bool(gf.trace(layer, x)[0, 0].jacobian.leading_singular_values(count).isnan().any())


def test_the_global_generator_is_left_alone_and_the_answer_is_always_the_same():
    jacobian = jacobian_of("rnn", 48, dtype=torch.float32)
    before = torch.random.get_rng_state()
    first = jacobian.spectral_norm()
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, jacobian.spectral_norm())


def test_what_is_not_found_is_decomposed(monkeypatch):
    """A tolerance that cannot be met leaves every matrix to the dense decomposition."""
    monkeypatch.setattr(lanczos, "TOLERANCE", 1e-20)
    jacobian = jacobian_of("lstm", 24)
    assert torch.allclose(jacobian.spectral_norm(), dense_values(jacobian, 1)[..., 0], rtol=1e-13)


@each_cell
def test_products_broadcast_over_leading_dimensions(cell):
    """Vectors [N, B, S] meet a Jacobian with batch dimension [B]."""
    jacobian = jacobian_of(cell, H, 3, 2)[1]
    v = torch.randn(6, *jacobian.shape[:2], dtype=torch.float64)
    dense = jacobian.dense()
    assert torch.allclose(jacobian.matvec(v), torch.einsum("bij,nbj->nbi", dense, v), atol=1e-12)
    assert torch.allclose(jacobian.rmatvec(v), torch.einsum("bji,nbj->nbi", dense, v), atol=1e-12)


@each_cell
def test_values_agree_with_the_frobenius_norm_and_the_determinant(cell):
    """I10: Σσ² = ‖J‖_F² and Σ ln σ = ln|det J|."""
    jacobian = jacobian_of(cell, 6)
    values = jacobian.singular_values()
    assert torch.allclose(values.square().sum(-1).sqrt(), jacobian.frobenius_norm(), rtol=1e-10)
    if cell != "rnn_relu":
        assert torch.allclose(values.log().sum(-1), jacobian.log_abs_det(), atol=1e-8)


def test_signed_permutation_of_units_changes_no_singular_value():
    """I21, tanh being odd."""
    layer, other = build("rnn"), build("rnn")
    order = torch.randperm(H)
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    with torch.no_grad():
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0", "weight_hh_l0"):
            value = getattr(layer, name)[order]
            value = value * (sign if value.dim() == 1 else sign.unsqueeze(1))
            getattr(other, name).copy_(value[:, order] * sign if name == "weight_hh_l0" else value)
    x = torch.randn(T, B, D, dtype=torch.float64)
    values, others = (gf.trace(model, x)[0, 0].jacobian.singular_values() for model in (layer, other))
    assert torch.allclose(values, others, atol=1e-12)


@pytest.mark.parametrize("count", [0, 6, -1])
def test_errors_name_the_argument(count):
    with pytest.raises(ValueError, match=rf"count: expected 1 to 5 singular values of a 5 x 5 Jacobian, got {count}"):
        jacobian_of("rnn", 5).leading_singular_values(count)
