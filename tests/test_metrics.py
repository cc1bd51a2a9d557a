"""Norms over the whole range of a dtype, against those of numbers that were divided by the largest first."""

import pytest
import torch

from gradflow.flow.metrics import log_norm


def slowly(vectors):
    wide = vectors.double()
    largest = wide.abs().amax(-1, keepdim=True)
    usable = (largest > 0) & largest.isfinite()
    norm = (wide / torch.where(usable, largest, 1.0)).square().sum(-1).sqrt()
    return torch.where(usable.squeeze(-1), norm.log() + largest.squeeze(-1).log(), largest.squeeze(-1).log())


DECADES = {torch.float32: 37, torch.float64: 300}


@pytest.mark.parametrize("dtype", DECADES)
@pytest.mark.parametrize("flush", [False, True], ids=["denormal numbers", "none"])
def test_a_norm_has_its_digits_wherever_it_lies(dtype, flush):
    torch.manual_seed(0)
    most = DECADES[dtype]
    torch.set_flush_denormal(flush)
    try:
        for first in range(-most, most + 1, most // 3):
            for fall in (0, 8, 20, 45):
                powers = torch.linspace(first, first - fall, 12, dtype=torch.float64).clamp(-most, most)
                vectors = (torch.randn(12, 3, 17, dtype=torch.float64) * 10 ** powers[:, None, None]).to(dtype)
                vectors[:, :, ::4] *= 1e-3
                for block in (vectors, vectors.flip(0), vectors[:, ::2], vectors[:1]):
                    torch.testing.assert_close(log_norm(block), slowly(block), rtol=0, atol=1e-6)
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", DECADES)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e15])
@pytest.mark.parametrize("where", [0, 3, -1])
def test_zeros_and_what_is_not_finite_are_told_apart(dtype, scale, where):
    vectors = torch.rand(6, 2, 5, dtype=dtype) * scale
    expected = slowly(vectors)
    for value, result in ((0.0, -torch.inf), (torch.inf, torch.inf), (-torch.inf, torch.inf), (torch.nan, torch.nan)):
        block, due = vectors.clone(), expected.clone()
        block[where, 1] = value
        due[where, 1] = result
        torch.testing.assert_close(log_norm(block), due, rtol=0, atol=1e-6, equal_nan=True)
        block[where, 0, 2] = 0.0
        torch.testing.assert_close(log_norm(block)[where, 1], due[where, 1], equal_nan=True)
        assert log_norm(torch.full_like(vectors, value)).equal(torch.full_like(expected, result)) or value != value
