"""The usual way that benchmarks compare with is right: it says what gradflow says; and the questions have answers."""

import numpy as np
import pytest
import torch
from torch import nn

import gradflow as gf

T, B, D, H = 4, 3, 2, 5


@pytest.fixture(scope="module")
def usual(script):
    return script("benchmarks/usual_loop.py")


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


def test_what_is_opened_has_the_size_and_the_columns_that_it_says(script, tmp_path):
    opening = script("benchmarks/opening.py")
    opening.write(tmp_path, runs=5, iterations=25)
    answers = {name: question(tmp_path) for name, question in opening.QUESTIONS.items()}
    sweep = answers["open"]
    assert [len(run.scalars) for run in sweep.members] == [25] * 5
    assert len(answers["open, one column of scalars, group"]) == 5
    assert len(answers["open, one column of lag, group"]) == 5 * 4 * opening.STEPS
    recorded = answers["open, all columns of lag"][[f"{name}_q50" for name in opening.RECORDED]]
    assert np.isfinite(recorded).all(axis=None)
