"""Clipping against its definition, and at the ends of the range of float32."""

import math

import pytest
import torch
from torch import nn

import gradflow as gf
from gradflow.remedies.clipping import CLIPPINGS, measure_grad_norm


def parameters(*gradients, dtype=torch.float32):
    made = [nn.Parameter(torch.zeros(len(g), dtype=dtype)) for g in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = torch.tensor(gradient, dtype=dtype)
    return made


def flat(made):
    return torch.cat([p.grad for p in made])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("threshold", [0.5, 1.0, 4.9, 5.1, 100.0])
def test_norm_clipping(threshold, dtype):
    """I22: direction kept, ‖g'‖ = c‖g‖/(‖g‖ + 1e-6) above the threshold, nothing below."""
    made = parameters([3.0, 0.0], [0.0, -4.0, 0.0], dtype=dtype)
    before = flat(made).clone()
    result = gf.clip_grad_norm_(made, threshold)
    expected = 5 * min(1.0, threshold / (5 + 1e-6))
    assert float(flat(made).norm()) == pytest.approx(expected, rel=1e-6)
    assert (result.norm_before, result.norm_after) == pytest.approx((5.0, expected))
    assert result.clipped == (threshold < 5)
    assert result.parameter_norms_before == pytest.approx((3.0, 4.0))
    assert result.parameter_norms_after == pytest.approx((3 * expected / 5, 4 * expected / 5))
    assert float(torch.cosine_similarity(flat(made), before, 0)) == pytest.approx(1, abs=1e-6)
    again = gf.clip_grad_norm_(made, threshold)
    assert again.norm_after == pytest.approx(result.norm_after, rel=3e-6)


def test_huge_finite_gradients_survive():
    """I32: in float32 torch's norm of these is inf and its clipping makes them zero; ours clips them."""
    made = parameters([1e25] * 64)
    result = gf.clip_grad_norm_(made, 1.0)
    assert result.norm_before == pytest.approx(8e25, rel=1e-6)
    assert not result.non_finite
    assert float(flat(made).norm()) == pytest.approx(1.0, rel=1e-6)
    wide = parameters([1e200, -1e200], dtype=torch.float64)
    assert gf.clip_grad_norm_(wide, 1.0).norm_before == pytest.approx(math.sqrt(2) * 1e200)


def test_tiny_gradients_have_a_norm():
    """I32: in float32 the squares of these underflow."""
    assert measure_grad_norm(parameters([1e-25] * 64)).norm_before == pytest.approx(8e-25, rel=1e-6)


@pytest.mark.parametrize("clip", CLIPPINGS.values(), ids=CLIPPINGS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_gradients_are_left_alone_and_flagged(clip, bad):
    made = parameters([1.0, bad], [7.0])
    result = clip(made, 0.5)
    assert result.non_finite
    assert not result.clipped
    assert not math.isfinite(result.norm_before)
    assert flat(made).tolist()[0] == 1.0
    assert flat(made).tolist()[2] == 7.0


def test_value_clipping_clamps():
    made = parameters([3.0, -0.2], [-5.0])
    result = gf.clip_grad_value_(made, 0.5)
    assert flat(made).tolist() == pytest.approx([0.5, -0.2, -0.5])
    assert result.clipped
    assert math.isnan(result.coefficient)
    assert result.norm_after == pytest.approx(math.sqrt(0.5**2 + 0.2**2 + 0.5**2))


def test_parameter_clipping_takes_each_norm():
    made = parameters([3.0, 4.0], [0.1])
    result = gf.clip_grad_parameter_norm_(made, 1.0)
    assert flat(made).tolist() == pytest.approx([0.6, 0.8, 0.1], rel=1e-5)
    assert result.parameter_norms_after == pytest.approx((1.0, 0.1), rel=1e-5)
    assert result.coefficient == pytest.approx(0.2, rel=1e-5)


def test_no_clipping_only_measures():
    made = parameters([3.0, 4.0])
    result = measure_grad_norm(made)
    assert (result.norm_before, result.norm_after, result.coefficient, result.clipped) == (5.0, 5.0, 1.0, False)
    assert flat(made).tolist() == [3.0, 4.0]


def test_parameters_without_gradient_are_passed_over():
    made = [nn.Parameter(torch.zeros(2)), *parameters([2.0])]
    assert gf.clip_grad_norm_(made, 1.0).parameter_norms_before == (2.0,)
    assert gf.clip_grad_norm_([nn.Parameter(torch.zeros(2))], 1.0).norm_before == 0


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_thresholds_must_be_positive(threshold):
    with pytest.raises(ValueError, match=r"max_norm: expected a positive number, got"):
        gf.clip_grad_norm_(parameters([1.0]), threshold)
    with pytest.raises(ValueError, match=r"clip_value: expected a positive number, got"):
        gf.clip_grad_value_(parameters([1.0]), threshold)


GIVEN = {
    "a model": (lambda model: model, r"got a module, Linear; pass model.parameters\(\)"),
    "a module list": (lambda model: nn.ModuleList([model]), r"got a module, ModuleList; pass model.parameters\(\)"),
    "named parameters": (lambda model: model.named_parameters(), r"got pairs of a name and a tensor; pass model.para"),
    "a list of named parameters": (
        lambda model: list(model.named_parameters()),
        r"got pairs .* instead of model.named_",
    ),
    "a dictionary": (lambda model: dict(model.named_parameters()), r"got names, such as 'weight'; pass the values"),
    "parameter groups": (
        lambda model: torch.optim.SGD(model.parameters()).param_groups,
        r"got parameter groups of an optimiser; pass \[p for group in groups for p in group\['params'\]\]",
    ),
    "lists of parameters": (lambda model: [list(model.parameters())], r"got a list; pass model.parameters\(\), or a"),
}


@pytest.mark.parametrize("clip", CLIPPINGS.values(), ids=CLIPPINGS)
@pytest.mark.parametrize(("given", "message"), GIVEN.values(), ids=GIVEN)
def test_what_is_no_tensor_is_refused_by_name(given, message, clip):
    with pytest.raises(TypeError, match=r"parameters: expected a tensor or an iterable of tensors, " + message):
        clip(given(nn.Linear(2, 2)), 1.0)


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("norm_type", [0.5, 1, 2, 3.5, "inf", math.inf])
@pytest.mark.parametrize("max_norm", [0.5, torch.tensor(2.0), 1e3])
def test_arguments_of_torch(max_norm, norm_type, foreach):
    """Gradients are those that torch leaves; the norms that are returned stay Euclidean."""
    ours, theirs = (parameters([3.0, 0.0, -1.0], [0.5, -4.0], dtype=torch.float64) for _ in range(2))
    total = nn.utils.clip_grad_norm_(theirs, max_norm, norm_type, foreach=foreach)
    result = gf.clip_grad_norm_(ours, max_norm, norm_type, foreach=foreach)
    torch.testing.assert_close(flat(ours), flat(theirs))
    assert result.norm_before == pytest.approx(math.sqrt(26.25))
    assert result.norm_after == pytest.approx(float(flat(theirs).norm()))
    assert result.coefficient == pytest.approx(min(1.0, float(max_norm) / (float(total) + 1e-6)))


@pytest.mark.parametrize("foreach", [None, True, False])
def test_arguments_of_torch_by_value(foreach):
    ours, theirs = (parameters([3.0, 0.0, -1.0], [0.5, -4.0]) for _ in range(2))
    nn.utils.clip_grad_value_(theirs, 0.7, foreach=foreach)
    gf.clip_grad_value_(ours, 0.7, foreach=foreach)
    assert torch.equal(flat(ours), flat(theirs))


@pytest.mark.parametrize("norm_type", [1, 3, math.inf])
def test_other_norms_over_the_whole_range(norm_type):
    huge = parameters([1e200, -1e200], dtype=torch.float64)
    gf.clip_grad_norm_(huge, 1.0, norm_type)
    expected = 2 ** -(1 / norm_type)
    assert flat(huge).tolist() == pytest.approx([expected, -expected])


@pytest.mark.parametrize("norm_type", [0, -1, math.nan, -math.inf])
def test_orders_must_be_positive(norm_type):
    with pytest.raises(ValueError, match=r"norm_type: expected a positive number, got"):
        gf.clip_grad_norm_(parameters([1.0]), 1.0, norm_type)


@pytest.mark.parametrize("norm_type", [2, math.inf])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_error_if_gradients_are_not_finite(bad, norm_type):
    made = parameters([1.0, bad])
    with pytest.raises(
        RuntimeError, match=r"expected finite gradients, got a total norm of order \w+ that is (nan|inf)"
    ):
        gf.clip_grad_norm_(made, 0.5, norm_type, error_if_nonfinite=True)
    assert flat(made)[0] == 1.0
    assert not gf.clip_grad_norm_(parameters([1.0]), 0.5, norm_type, error_if_nonfinite=True).non_finite


@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("clip", CLIPPINGS.values(), ids=CLIPPINGS)
def test_sparse_gradients_are_clipped_as_dense_ones(clip, foreach):
    """A word that comes twice in the batch has two entries in the gradient of its row, which add up."""
    tables = [nn.Embedding(5, 3, sparse=sparse) for sparse in (True, False)]
    others = [parameters([2.0, -0.5])[0] for _ in tables]
    results = []
    for table, other in zip(tables, others, strict=True):
        table(torch.tensor([1, 1, 2])).mul(torch.tensor([1.0, -0.6, 2.0])).sum().backward()
        options = {} if foreach is None or clip not in (gf.clip_grad_norm_, gf.clip_grad_value_) else {"foreach": False}
        results.append(clip([table.weight, other], 0.7, **options))
    sparse, dense = (table.weight.grad for table in tables)
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), dense)
    torch.testing.assert_close(*(other.grad for other in others))
    assert results[0].norm_before == pytest.approx(results[1].norm_before)
    assert results[0].parameter_norms_after == pytest.approx(results[1].parameter_norms_after)
    assert results[0].clipped == results[1].clipped


def test_complex_gradients_have_a_norm():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    weight.grad = torch.tensor([3.0 + 0j, 4j])
    assert gf.clip_grad_norm_(weight, 1.0).norm_before == pytest.approx(5)
    assert float(weight.grad.abs().norm()) == pytest.approx(1, rel=1e-5)
