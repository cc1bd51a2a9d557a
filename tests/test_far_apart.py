"""Gradients near the end of the range of their dtype from the start, or far apart, against float64 autograd."""

import math

import pytest
import torch
from torch import nn

import gradflow as gf
from tests.oracles import double, run

T, B, D, H = 16, 2, 2, 3


def agrees(layer, output_gradient, c_n_gradient=None):
    """Compare the norms of all layers with those of a loop in float64 that gets the same gradients."""
    x = torch.randn(T, B, D)
    found = gf.state_gradients(gf.trace(layer, x), output_gradient, c_n_gradient=c_n_gradient)
    states, outputs, _, c_n = run(double(layer), x.double())
    loss = sum((outputs[b] * output_gradient[:, b].double()).sum() for b in range(B))
    if c_n_gradient is not None:
        loss = loss + (c_n * c_n_gradient.double()).sum()
    loss.backward()
    for (index, side), seen in states.items():
        slow = torch.stack([torch.stack([step["h"].grad for step in steps]) for steps in seen], 1)
        log_norm = found[index, side].log_norm
        torch.testing.assert_close(log_norm["h"], slow.norm(dim=-1).log(), atol=1e-3, rtol=0)
        if c_n_gradient is not None:
            expected = c_n_gradient[index].double().norm(dim=-1).log()
            torch.testing.assert_close(log_norm["c"][-1], expected, atol=1e-3, rtol=0)


def made(kind, gain=1.0, **options):
    torch.manual_seed(0)
    layer = kind(D, H, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(gain)
    return layer


def at_last(size, where=slice(-1, None)):
    gradient = torch.zeros(T, B, H)
    gradient[where] = (torch.randn(B, H, dtype=torch.float64) * size).float()
    return gradient


@pytest.mark.parametrize("size", [1e-30, 1e-40])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN])
def test_small_from_the_start(kind, size):
    """What arrives under the range of float32 keeps the digits that it has, however far it goes back."""
    agrees(made(kind, gain=0.2), at_last(size))


def test_the_first_that_arrives_keeps_its_digits():
    """Of a block in which much larger gradients arrive at earlier times."""
    gradient = at_last(1e-20)
    gradient[T // 2 + 1 : T - 2] = at_last(1e30)[-1]
    agrees(made(nn.RNN, gain=0.2, num_layers=2), gradient)


@pytest.mark.parametrize("sizes", [(1e10, 1e-36), (1e-36, 1e10), (1e20, 1e-5)])
def test_states_far_apart(sizes):
    """What arrives at c and at h is each as exact, and so in the layer below, where h is on a scale of its own."""
    of_output, of_c = sizes
    for layers in (1, 2):
        c_n = torch.randn(layers, B, H) * of_c
        agrees(made(nn.LSTM, num_layers=layers), at_last(of_output), c_n)


def test_lower_cells_beside_gradients_of_many_sizes():
    """The power of two of what a layer above hands down is that of h alone."""
    gradient = torch.zeros(T, B, H)
    gradient[:] = torch.randn(T, B, H) * 10.0 ** torch.linspace(-40, 32, T).view(-1, 1, 1)
    agrees(made(nn.LSTM, num_layers=2), gradient, torch.randn(2, B, H) * 1e-12)
    agrees(made(nn.LSTM, num_layers=2), gradient.flip(0), torch.randn(2, B, H) * 1e-12)


def test_a_step_out_of_the_range_between_two_blocks(tmp_path):
    """Gradients that were read are in range, and one step further back they are not."""
    layer, x = made(nn.RNN), torch.randn(64, B, D)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(torch.eye(H) * 1e-20)
    with gf.record(layer, tmp_path / "run", every=1, examples="all", reduction="sum") as recorder:
        output, _ = layer(x)
        (output[32] * 1e-25).sum().backward()
        recorder.step()
    derivative = 1 - output.detach().double().square()
    expected = (derivative[32] * 1e-25 * 1e-20).norm(dim=-1).log().mean()
    frame = gf.open_run(tmp_path / "run").frame("time", columns=["log_state_gradient_mean"]).set_index("time")
    assert frame["log_state_gradient_mean"][31] == pytest.approx(float(expected), abs=1e-3)
    assert math.isfinite(frame["log_state_gradient_mean"][0])


class Loop(nn.Module):
    """Of a cell with the weights of a layer."""

    def __init__(self, kind, layer):
        super().__init__()
        self.cell = kind(D, H)
        self.cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})

    def forward(self, x):
        state, shown = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            shown.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(shown)


@pytest.mark.parametrize("size", [1e-30, 1e-40])
@pytest.mark.parametrize(("kind", "cell"), [(nn.LSTM, nn.LSTMCell), (nn.GRU, nn.GRUCell)])
def test_loops_over_cells_out_of_the_range(kind, cell, size, tmp_path):
    """Rounding below the range is not taken for gradients that arrive directly at each step."""
    layer, x = made(kind, gain=0.3), torch.randn(60, B, D)
    gradient = torch.zeros(60, B, H)
    gradient[-1] = torch.randn(B, H) * size
    expected = gf.state_gradients(gf.trace(layer, x), gradient)[0, 0].log_norm["h"].mean(1).numpy()
    loop = Loop(cell, layer)
    with gf.record(loop, tmp_path / "run", every=1, examples="all", reduction="sum") as recorder:
        loop(x).backward(gradient)
        recorder.step()
    frame = gf.open_run(tmp_path / "run").frame("time")
    assert frame["log_state_gradient_mean"].to_numpy() == pytest.approx(expected, abs=1e-3)
    assert frame["log_direct_gradient_zeros"].sum() == 59 * B


def test_a_loop_whose_loss_reads_the_cell_state_out_of_the_range(tmp_path):
    """What arrives at the last c alone goes back as far as what arrives at h."""
    layer, x, of_c = made(nn.LSTM, gain=0.3), torch.randn(60, B, D), torch.full((1, B, H), 1e-30)
    expected = gf.state_gradients(gf.trace(layer, x), c_n_gradient=of_c)[0, 0].log_norm["c"].mean(1).numpy()
    loop = Loop(nn.LSTMCell, layer)
    with gf.record(loop, tmp_path / "run", every=1, examples="all", reduction="sum") as recorder:
        state = None
        for x_t in x:
            state = loop.cell(x_t, state)
        state[1].backward(of_c[0])
        recorder.step()
    frame = gf.open_run(tmp_path / "run").frame("time")
    assert frame["log_cell_gradient_mean"].to_numpy() == pytest.approx(expected, abs=1e-3)
