"""The range of the gradients in the lower layers of a stack."""

import math

import pytest
import torch

import gradflow as gf


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_lower_layer_beyond_the_range_of_float64(dtype):
    """Two linear layers with W_hh = a I: δ_t below is (T - t) a^(T-1-t) W_ihᵀ δ_{T-1} above, at 1e-2000 as at 1."""
    torch.manual_seed(0)
    time, layer = 2000, gf.LinearRNN(3, 5, num_layers=2, dtype=dtype)
    gf.initialise_(layer, "identity", gain=0.1)
    weight = torch.randn(2, 5, dtype=dtype)
    seen = gf.trace(layer, torch.randn(time, 2, 3, dtype=dtype))
    (seen.output[-1] * weight).sum().backward()
    found = gf.state_gradients(seen)
    log_factor = math.log(float(torch.tensor(0.1, dtype=dtype)))
    lag = torch.arange(time - 1, -1, -1, dtype=torch.float64).unsqueeze(1)
    above = lag * log_factor + weight.double().norm(dim=-1).log()
    arriving = (weight.double() @ layer.weight_ih_l1.detach().double()).norm(dim=-1)
    below = lag * log_factor + (lag + 1).log() + arriving.log()
    tolerance = 1e-8 if dtype == torch.float64 else 1e-2
    assert torch.allclose(found[1, 0].log_norm["h"], above, atol=tolerance, rtol=0)
    assert torch.allclose(found[0, 0].log_norm["h"], below, atol=tolerance, rtol=0)
    assert bool(found[0, 0].log_weight_share[1:].isfinite().all())
    assert bool((found[0, 0].value["h"][0] == 0).all())
