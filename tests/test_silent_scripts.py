"""Layers left alone, whose records must be right and proved, and subclasses that do something else in forward."""

from functools import partial

import pytest
import torch
from silent_scripts import KINDS, RELATIVE, Case, Net, every_case, h_n, initial, loss_of, script_of, sequences, subclass
from torch import nn
from torch.nn.functional import layer_norm
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

import gradflow as gf

case = every_case
OPTIONS = {
    "stacked": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "stacked, bidirectional": {"num_layers": 2, "bidirectional": True},
    "without biases": {"bias": False},
}

# --- Scripts that change nothing -----------------------------------------------------------------------------------


def test_wrong_numbers_without_a_word_are_found(case):
    """A test of the judge: the twin minimises something else."""
    with pytest.raises(AssertionError, match="in silence"):
        case.judge(losses=lambda net, x: [1.001 * loss_of(net, x)])


@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize("kind", [*KINDS, gf.RNN, gf.LinearRNN, gf.GRU])
def test_a_plain_script_is_proved(kind, dtype, tmp_path, caplog):
    Case(kind, dtype, tmp_path, caplog).prove()


@pytest.mark.parametrize("kind", [nn.RNN, gf.RNN])
def test_rectified_units_are_proved(kind, tmp_path, caplog):
    Case(kind, torch.float64, tmp_path, caplog).prove(build=lambda kind: Net(kind, nonlinearity="relu"))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_layer_and_direction_is_proved(case, options):
    case.prove(build=lambda kind: Net(kind, **options))


@pytest.mark.parametrize("kind", [gf.RNN, gf.LinearRNN, gf.GRU])
def test_every_layer_and_direction_of_our_own_is_proved(kind, tmp_path, caplog):
    Case(kind, torch.float64, tmp_path, caplog).prove(build=lambda kind: Net(kind, num_layers=2, bidirectional=True))


def test_batch_first_is_proved(case):
    case.prove(build=lambda kind: Net(kind, batch_first=True), x=sequences().transpose(0, 1))


def test_an_unbatched_sequence_is_proved(case):
    case.prove(x=sequences()[:, 0])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one layer", "all"])
def test_packed_sequences_are_proved(case, options):
    x = pack_sequence([sequences()[:n, b] for b, n in enumerate([3, 6, 1, 4, 6])], enforce_sorted=False)
    build = partial(Net, read=lambda answer: pad_packed_sequence(answer[0])[0], **options)
    case.prove(build=build, x=x)


def test_an_initial_state_that_is_given_is_proved(case):
    def loss(net, x):
        return net(x, initial(net, x)).square().sum()

    case.prove(*script_of(loss))


def test_two_calls_in_one_pass_are_proved(case):
    """The second is fed by the first: W_hh's gradient is the sum over both."""

    def loss(net, x):
        return net(net.encoder(x)[0]).square().sum()

    case.prove(*script_of(loss))


def test_only_the_last_state_is_read_and_it_is_proved(case):
    case.prove(build=lambda kind: Net(kind, read=h_n))


# --- Subclasses: `run` is the forward of the layer itself -----------------------------------------------------------


def drops_first_outputs(run, x, hx):
    y, h = run(x, hx)
    return y[2:], h


def drops_last_outputs(run, x, hx):
    y, h = run(x, hx)
    return y[:-2], h


def drops_first_inputs(run, x, hx):
    return run(x[2:], hx)


def drops_every_second_input(run, x, hx):
    return run(x[::2], hx)


def drops_examples(run, x, hx):
    return run(x[:, :2], hx)


def drops_last_state(run, x, hx):
    return run(x, hx)[0], None


def drops_output_but_the_last(run, x, hx):
    y, h = run(x, hx)
    return y[-1:], h


def transposes_in_and_out(run, x, hx):
    y, h = run(x.transpose(0, 1), hx)
    return y.transpose(0, 1), h


def transposes_out(run, x, hx):
    y, h = run(x, hx)
    return y.transpose(0, 1), h


def reverses(run, x, hx):
    y, h = run(x.flip(0), hx)
    return y.flip(0), h


def adds_its_input(run, x, hx):
    y, h = run(x, hx)
    return y + x, h


def normalises_its_output(run, x, hx):
    y, h = run(x, hx)
    return layer_norm(y, y.shape[-1:]), h


def normalises_its_input(run, x, hx):
    return run(layer_norm(x, x.shape[-1:]), hx)


def scales_its_output(run, x, hx):
    y, h = run(x, hx)
    return 2 * y, h


def clamps_its_output(run, x, hx):
    y, h = run(x, hx)
    return y.clamp(-0.1, 0.1), h


def changes_its_output_in_place(run, x, hx):
    y, h = run(x, hx)
    return y.clone().mul_(2), h


def feeds_its_output_to_itself(run, x, hx):
    return run(run(x, hx)[0])


def runs_in_both_directions(run, x, hx):
    y, h = run(x, hx)
    return y + run(x.flip(0), hx)[0].flip(0), h


def warms_up(run, x, hx):
    return run(x, run(x, hx)[1])


def warms_up_without_gradients(run, x, hx):
    with torch.no_grad():
        _, h = run(x, hx)
    return run(x, h)


def runs_the_batch_in_halves(run, x, hx):
    (y, h), (z, _) = run(x[:, :2]), run(x[:, 2:])
    return torch.cat((y, z), 1), h


SUBCLASSES = [
    drops_first_outputs, drops_last_outputs, drops_first_inputs, drops_every_second_input, drops_examples,
    drops_last_state, drops_output_but_the_last, transposes_in_and_out, transposes_out, reverses, adds_its_input,
    normalises_its_output, normalises_its_input, scales_its_output, clamps_its_output, changes_its_output_in_place,
    feeds_its_output_to_itself, runs_in_both_directions, warms_up, warms_up_without_gradients, runs_the_batch_in_halves,
]  # fmt: skip


@pytest.mark.parametrize("forward", SUBCLASSES)
def test_a_subclass_that(case, forward):
    """What the kernel did inside of its forward is recorded, whatever it does around that."""
    case.prove(build=lambda kind: Net(subclass(kind, forward)), joined=forward is warms_up)


@pytest.mark.parametrize("forward", [transposes_in_and_out, transposes_out])
def test_a_subclass_that_transposes_a_square(case, forward):
    """As many steps as examples: no shape tells."""
    case.prove(build=lambda kind: Net(subclass(kind, forward)), x=sequences(5, 5))


@pytest.mark.parametrize("batch", [2, 5])
def test_a_subclass_that_gives_its_output_alone(case, batch):
    """Not a pair: with two examples or steps it could be unpacked like one."""
    build = partial(Net, read=lambda y: y)
    case.prove(build=lambda kind: build(subclass(kind, lambda run, x, hx: run(x, hx)[0])), x=sequences(2, batch))


def test_a_subclass_that_ignores_its_initial_state(case):
    def loss(net, x):
        return net(x, initial(net, x)).square().sum()

    script, losses = script_of(loss)
    case.prove(script, losses, build=lambda kind: Net(subclass(kind, lambda run, x, hx: run(x))))


def test_a_subclass_that_steps_and_changes_the_state_between(case):
    """The layer steps by itself, T = 1, and forgets a tenth of what it knows before each step."""

    def leaks(run, x, hx):
        outputs = []
        for x_t in x.split(1):
            y, hx = run(x_t, hx)
            hx = tuple(0.9 * h for h in hx) if isinstance(hx, tuple) else 0.9 * hx
            outputs.append(y)
        return torch.cat(outputs), hx

    case.prove(build=lambda kind: Net(subclass(kind, leaks)), joined=True)
