"""The recorder where the replay must know more of the forward pass: dropout between layers, half precision."""

import numpy as np
import pytest
import torch
from test_recorder import B, D, Model, T, fresh, train
from torch import nn

import gradflow as gf


@pytest.mark.parametrize("kind", [nn.LSTM, gf.LSTM, gf.GRU])
def test_log_holds_the_masks_of_its_own_iteration(kind, tmp_path):
    """Recorded two iterations later, after more masks were drawn: the numbers are those of that forward pass."""
    model, inputs, expected = fresh(kind, num_layers=2, dropout=0.5), torch.randn(3, T, B, D), []
    for x in inputs:  # the same masks as in the recorded pass below
        torch.manual_seed(len(expected))
        seen = gf.trace(model.recurrent, x)
        model.read_out(seen.output[-1]).sum().backward()
        expected.append(gf.state_gradients(seen)[0, 0].log_norm["h"].flip(0).mean(1).numpy())
    with gf.record(model, tmp_path, every=100, examples=B, reduction="sum") as recorder:
        for number, x in enumerate(inputs):
            torch.manual_seed(number)
            model(x).sum().backward()
            recorder.step()
            torch.rand(7)
    lag = gf.open_run(tmp_path).frame("lag").query("layer == 0")
    for iteration in (0, 2):
        found = lag.query(f"iteration == {iteration}").log_state_gradient_mean.to_numpy()
        assert found == pytest.approx(expected[iteration], abs=1e-5)
    assert np.abs(expected[0] - expected[2]).max() > 1e-2


def test_evaluation_mode_has_no_masks(tmp_path):
    model = fresh(nn.GRU, num_layers=2, dropout=0.5)
    with gf.record(model, tmp_path, examples=B, reduction="sum") as recorder:
        model.train()
        model(torch.ones(T, B, D))  # its gradients never come; its masks must not stay
        model.eval()
        model(torch.ones(T, B, D)).sum().backward()
        recorder.step()
    spread = gf.open_run(tmp_path).frame("lag")
    assert (spread.log_state_gradient_q90 - spread.log_state_gradient_q10).abs().max() < 1e-5  # examples are all alike


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN, gf.LSTM, gf.GRU])
@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
def test_half_precision_rows_are_finite(kind, precision, tmp_path):
    model = fresh(kind, num_layers=2, dropout=0.2)
    if precision == "autocast":
        with gf.record(model, tmp_path, every=1, spectrum_every=1) as recorder:
            for _ in range(2):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = model(torch.randn(T, B, D)).float().square().mean()
                    loss.backward()
                    recorder.step(loss.item())
    else:
        train(Half(model.recurrent), tmp_path, iterations=2, every=1, spectrum_every=1)
    run = gf.open_run(tmp_path)
    time = run.frame("time")
    assert (time.filter(like="_non_finite") == 0).all().all()
    assert np.isfinite(time[["log_state_gradient_q50", "log_jacobian_frobenius_q50"]]).all().all()
    assert np.isfinite(run.frame("spectrum").singular_value).all()


class Half(Model):
    """A model in bfloat16 that takes and gives float32."""

    def __init__(self, layer):
        super().__init__(layer)
        self.to(torch.bfloat16)

    def forward(self, x):
        return super().forward(x.bfloat16()).float()
