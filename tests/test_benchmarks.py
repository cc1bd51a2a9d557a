"""The usual way that benchmarks compare with is right: it says what gradflow says."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

import gradflow as gf

T, B, D, H = 4, 3, 2, 5


@pytest.fixture(scope="module")
def usual():
    path = Path(__file__).parents[1] / "benchmarks" / "usual_loop.py"
    spec = importlib.util.spec_from_file_location("usual_loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_the_usual_loop_agrees(usual, kind):
    torch.manual_seed(0)
    layer = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](D, H).double()
    x, factors = torch.randn(T, B, D).double(), torch.randn(T, B, H).double()
    cell = usual.usual_cell(kind, layer)
    output, states = usual.usual_iteration(cell, x)
    (output * factors).sum().backward()
    trace = gf.trace(layer, x)
    torch.testing.assert_close(output, trace.output)
    (trace.output * factors).sum().backward()
    gradients, norms = gf.state_gradients(trace)[0, 0], usual.state_gradient_norms(states)
    torch.testing.assert_close(norms["h"].log(), gradients.log_norm["h"])
    if kind == "lstm":
        torch.testing.assert_close(norms["c"].log(), gradients.value["c_total"].norm(dim=-1).log())
    jacobians = usual.dense_jacobians(cell, x, states)
    torch.testing.assert_close(jacobians, trace[0, 0].jacobian.dense())
    torch.testing.assert_close(usual.spectral_norms(jacobians), trace[0, 0].jacobian.singular_values()[..., 0])
