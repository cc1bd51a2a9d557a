"""Initialisations: each has the distribution and the structure that it promises, gate by gate, everywhere."""

import math

import pytest
import torch
from torch import nn

import gradflow as gf
from gradflow.remedies.initialisation import INITIALISATIONS

KINDS = {
    "rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "linear": gf.LinearRNN,
    "own": gf.RNN,
    "lstm_own": gf.LSTM,
    "gru_before": gf.GRU,
}
GATES = {"lstm": 4, "lstm_own": 4, "gru": 3, "gru_before": 3}
TAILS = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
each_kind = pytest.mark.parametrize("kind", KINDS)


def stack(kind, hidden=6, **options):
    return KINDS[kind](3, hidden, 2, bidirectional=True, **options)


def each(layer, name):
    """A parameter of every layer and direction."""
    return [getattr(layer, name + tail).detach() for tail in TAILS]


def blocks(layer, kind):
    """W_hh of every layer, direction and gate."""
    return [block for weight in each(layer, "weight_hh") for block in weight.chunk(GATES.get(kind, 1))]


@each_kind
def test_gate_by_gate(kind):
    """I9: orthogonal blocks have all singular values 1; every layer and direction is reached."""
    layer = stack(kind)
    gf.initialise_(layer, "orthogonal", gain=0.9)
    assert gf.recurrent_spectrum(layer).singular_value.to_numpy() == pytest.approx(0.9, abs=1e-6)
    gf.initialise_(layer, "identity", gain=1.1)
    spectrum = gf.recurrent_spectrum(layer)
    assert spectrum.eigenvalue_re.to_numpy() == pytest.approx(1.1)
    assert len(spectrum) == 2 * 2 * GATES.get(kind, 1) * 6


def test_gaussian_gain():
    torch.manual_seed(0)
    layer = gf.initialise_(nn.RNN(2, 256), "gaussian", gain=1.5)
    assert float(layer.weight_hh_l0.detach().std()) == pytest.approx(1.5 / 16, rel=0.02)
    assert gf.recurrent_spectrum(layer).singular_value.max() == pytest.approx(3.0, abs=0.15)


@each_kind
def test_identity_is_the_irnn_start(kind):
    """Le et al. 2015: W_hh the identity, biases 0; W_ih stays torch's."""
    layer = stack(kind)
    inputs = [weight.clone() for weight in each(layer, "weight_ih")]
    gf.initialise_(layer, "identity")
    assert all(torch.equal(block, torch.eye(6)) for block in blocks(layer, kind))
    assert all(not bias.any() for name in ("bias_ih", "bias_hh") for bias in each(layer, name))
    assert all(map(torch.equal, each(layer, "weight_ih"), inputs))
    gf.initialise_(stack(kind, bias=False), "identity")


@pytest.mark.parametrize("std", [None, 0.1])
@each_kind
def test_normal_draws_every_weight(kind, std):
    torch.manual_seed(0)
    layer = gf.initialise_(stack(kind, hidden=80), "normal", std=std)
    for weight in each(layer, "weight_ih") + each(layer, "weight_hh"):
        expected = std or 0.01
        assert float(weight.std()) == pytest.approx(expected, rel=0.2)
        assert float(weight.mean()) == pytest.approx(0, abs=5 * expected / weight.numel() ** 0.5)
        assert float((weight / expected).pow(4).mean()) == pytest.approx(3, rel=0.6)  # no uniform distribution: 1.8 / 9
    assert all(not bias.any() for name in ("bias_ih", "bias_hh") for bias in each(layer, name))


@each_kind
def test_sparse_rows_and_radius(kind):
    torch.manual_seed(0)
    layer = gf.initialise_(stack(kind, hidden=40), "sparse", gain=0.95, std=0.02)
    for block in blocks(layer, kind):
        assert (block != 0).sum(-1).tolist() == [15] * 40
        assert (block != 0).sum(0).unique().numel() > 1  # chosen row by row, at random
        assert float(torch.linalg.eigvals(block.double()).abs().max()) == pytest.approx(0.95, rel=1e-6)
    for weight in each(layer, "weight_ih"):
        assert float(weight.std()) == pytest.approx(0.02, rel=0.2)
    assert all(not bias.any() for name in ("bias_ih", "bias_hh") for bias in each(layer, name))


def test_sparse_of_few_units_has_all_and_connections_are_a_choice():
    assert (gf.initialise_(nn.RNN(2, 5), "sparse").weight_hh_l0 != 0).all()
    few = gf.initialise_(nn.RNN(2, 50), "sparse", connections=3).weight_hh_l0
    assert (few != 0).sum(-1).tolist() == [3] * 50


@pytest.mark.parametrize(("kind", "gate"), [("lstm", 1), ("gru", 1), ("gru_before", 1)])
def test_chrono_is_a_uniform_number_of_steps(kind, gate):
    """Tallec & Ollivier 2018, section 3: a gate σ(ln U) = U / (1 + U) forgets over 1 + U steps, U in [1, T_max - 1]."""
    torch.manual_seed(0)
    hidden, longest = 2000, 50
    layer = KINDS[kind](1, hidden)
    rows = slice(gate * hidden, (gate + 1) * hidden)
    before = {name: value.detach().clone() for name, value in layer.named_parameters()}
    gf.initialise_(layer, "chrono", time_scale=longest)
    bias = (layer.bias_ih_l0 + layer.bias_hh_l0).detach()
    steps = bias[rows].exp()
    assert float(steps.min()) >= 1
    assert float(steps.max()) <= longest - 1 + 1e-3
    places = torch.linspace(0, 1, hidden) * (longest - 2) + 1
    assert float((steps.sort().values - places).abs().max()) < 1.63 * (longest - 2) / hidden**0.5  # Kolmogorov, 1 %
    keeps = torch.sigmoid(bias[rows])
    assert torch.allclose(keeps, steps / (1 + steps), atol=1e-6)
    expected = 1 - math.log(longest / 2) / (longest - 2)
    assert expected == pytest.approx(0.933, abs=1e-3)
    assert float(keeps.mean()) == pytest.approx(expected, abs=4 * float(keeps.std()) / hidden**0.5)
    if kind == "lstm":
        assert torch.equal(bias[:hidden], -bias[rows])
        assert torch.allclose(torch.sigmoid(bias[:hidden]), 1 - keeps, atol=1e-6)
    for name, value in layer.named_parameters():
        drawn = slice(0 if kind == "lstm" else hidden, 2 * hidden) if "bias" in name else slice(0, 0)
        assert torch.equal(value[: drawn.start], before[name][: drawn.start])
        assert torch.equal(value[drawn.stop :], before[name][drawn.stop :])


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_chrono_draws_anew_for_every_layer_and_direction(kind):
    layer = gf.initialise_(stack(kind), "chrono", time_scale=30)
    keepers = [(a + b)[6:12] for a, b in zip(each(layer, "bias_ih"), each(layer, "bias_hh"), strict=True)]
    assert len({tuple(bias.tolist()) for bias in keepers}) == 4
    assert all(bool((bias >= 0).all()) for bias in keepers)


def test_remember_suits_each_cell():
    lstm = gf.initialise_(nn.LSTM(2, 3), "remember")
    assert (lstm.bias_ih_l0 + lstm.bias_hh_l0)[3:6].tolist() == [3.0] * 3
    for gru in (nn.GRU(2, 3), gf.GRU(2, 3)):
        gf.initialise_(gru, "remember")
        assert (gru.bias_ih_l0 + gru.bias_hh_l0)[3:6].tolist() == [3.0] * 3
    for plain in (nn.RNN(2, 3), gf.LinearRNN(2, 3)):
        gf.initialise_(plain, "remember", gain=0.9)
        assert gf.recurrent_spectrum(plain).singular_value.to_numpy() == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize("name", ["identity", "normal", "sparse", "orthogonal", "default"])
def test_a_gate_may_be_opened_as_well(name):
    lstm = gf.initialise_(nn.LSTM(2, 3), name, forget_bias=1.0)
    assert (lstm.bias_ih_l0 + lstm.bias_hh_l0)[3:6].tolist() == [1.0] * 3


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_bit_equal_given_a_seed(name):
    options = {"time_scale": 20} if name == "chrono" else {}
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(gf.initialise_(nn.LSTM(3, 20, 2, bidirectional=True), name, **options).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_mistakes_by_name():
    with pytest.raises(ValueError, match=r"forget_bias: expected a cell with a gate f, got gates \('h',\)"):
        gf.initialise_(nn.RNN(2, 3), forget_bias=1.0)
    with pytest.raises(ValueError, match=r"update_bias: expected a layer with biases, got bias=False"):
        gf.initialise_(nn.GRU(2, 3, bias=False), update_bias=1.0)
    with pytest.raises(ValueError, match=r"forget_bias: expected a layer with biases, got bias=False"):
        gf.initialise_(nn.LSTM(2, 3, bias=False), "remember")
    with pytest.raises(ValueError, match=r"name: expected one of default, gaussian, .* got 'xavier'"):
        gf.initialise_(nn.RNN(2, 3), "xavier")


def test_arguments_that_do_not_apply():
    for given, users in {
        "gain": "gaussian, orthogonal, identity, sparse, remember",
        "std": "normal, sparse",
        "connections": "sparse",
        "time_scale": "chrono",
    }.items():
        with pytest.raises(ValueError, match=rf"{given}: only {users} use it, got 7 with default; leave it out"):
            gf.initialise_(nn.LSTM(2, 3), **{given: 7})
    with pytest.raises(ValueError, match=r"std: expected a positive number, got 0"):
        gf.initialise_(nn.RNN(2, 3), "normal", std=0)
    with pytest.raises(ValueError, match=r"connections: expected 1 to 3, the units of this layer, got 4"):
        gf.initialise_(nn.RNN(2, 3), "sparse", connections=4)


def test_chrono_mistakes():
    before = nn.RNN(2, 3)
    with pytest.raises(ValueError, match=r"name: chrono needs a gate that keeps.* got RNN; use identity"):
        gf.initialise_(before, "chrono", time_scale=10)
    for wrong in (None, 1.5, math.inf, math.nan):
        with pytest.raises(
            ValueError, match=rf"time_scale: expected the longest memory.* got {wrong}; pass the length"
        ):
            gf.initialise_(nn.LSTM(2, 3), "chrono", time_scale=wrong)
    with pytest.raises(ValueError, match=r"name: chrono sets biases; expected a layer with biases"):
        gf.initialise_(nn.LSTM(2, 3, bias=False), "chrono", time_scale=10)
    with pytest.raises(ValueError, match=r"update_bias: expected None with chrono, which draws this bias, got 1.0"):
        gf.initialise_(nn.GRU(2, 3), "chrono", update_bias=1.0, time_scale=10)


@pytest.mark.parametrize("gain", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_gain_that_makes_no_weights_is_refused(gain):
    with pytest.raises(ValueError, match="gain: expected a positive number"):
        gf.initialise_(nn.RNN(2, 3), "orthogonal", gain)


def test_a_bias_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="forget_bias: expected a finite number, got nan"):
        gf.initialise_(nn.LSTM(2, 3), forget_bias=float("nan"))


def test_settings_know_which_start_uses_what():
    from gradflow.config import INIT_USES
    from gradflow.remedies.initialisation import INITIALISATIONS

    used = {name: {setting for setting, users in INIT_USES.items() if name in users} for name in INITIALISATIONS}
    assert used == {name: set(arguments) for name, arguments in INITIALISATIONS.items()}
