"""Scripts with hooks of their own on the layer, its tensors and its weights."""

from functools import partial

import pytest
import torch
from silent_scripts import Net, every_case, h_n, loss_of, plain, script_of

case = every_case

# --- Hooks on the layer ---------------------------------------------------------------------------------------------


def doubled(module, args, output):
    return 2 * output[0], output[1]


def residual(module, args, output):
    return output[0] + args[0], output[1]


def shortened(module, args, output):
    return output[0][1:], output[1]


@pytest.mark.parametrize("hook", [doubled, residual, shortened])
@pytest.mark.parametrize("when", ["before", "after", "first"])
def test_a_forward_hook_that_replaces_the_output(case, hook, when):
    """Registered before the recorder's, after it, or after it but to run first."""

    def script(net, x):
        register(net)
        yield from plain(net, x)

    def losses(net, x):
        register(net)
        yield loss_of(net, x)

    def register(net):
        if when != "before":
            net.encoder.register_forward_hook(hook, prepend=when == "first")

    def build(kind):
        net = Net(kind)
        if when == "before":
            net.encoder.register_forward_hook(hook)
        return net

    judged = case.judge(script, losses, build=build)
    assert judged == "right" or when == "first"  # what comes in between is not seen


@pytest.mark.parametrize("hook", [lambda module, args: 2 * args[0], lambda module, args: (args[0][1:],)])
def test_a_forward_pre_hook_that_changes_the_input(case, hook):
    def build(kind):
        net = Net(kind)
        net.encoder.register_forward_pre_hook(hook)
        return net

    case.prove(build=build)


def test_a_backward_hook_of_the_module_that_changes_the_gradient(case):
    def loss(net, x):
        return loss_of(net, x.requires_grad_())

    def build(kind):
        net = Net(kind)
        net.encoder.register_full_backward_pre_hook(lambda module, gradients: (2 * gradients[0], *gradients[1:]))
        return net

    case.judge(*script_of(loss), build=build)


# --- Hooks on tensors -----------------------------------------------------------------------------------------------

CHANGES = {"scale": lambda g: 2 * g, "clamp": lambda g: g.clamp(-0.05, 0.05), "zero": torch.zeros_like}


def hooked(change, value):
    value.register_hook(change)
    return value


def hooked_output(change, answer):
    return hooked(change, answer[0])


def hooked_slice(change, answer):
    return torch.cat((answer[0][:-1], hooked(change, answer[0][-1:])))


def hooked_last_state(change, answer):
    return answer[0] + hooked(change, h_n(answer))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("place", [hooked_output, hooked_slice, hooked_last_state])
def test_a_tensor_hook_that_changes_the_gradient(case, place, change):
    nothing = "all gradients are zero" if place is hooked_output and change is torch.zeros_like else ""
    case.judge(build=lambda kind: Net(kind, read=partial(place, change)), unproved=nothing)


def test_a_tensor_hook_registered_before_those_of_the_recorder(case):
    def hook(module, args, output):
        output[0].register_hook(CHANGES["scale"])

    def build(kind):
        net = Net(kind)
        net.encoder.register_forward_hook(
            lambda module, args, output: output[0].register_hook(lambda g: 2 * g) and None
        )
        return net

    case.judge(build=build)


@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l0"])
def test_a_hook_on_a_weight_that_changes_its_gradient(case, name):
    """The states' gradients are right; of W_hh's own the hook has made something else."""

    def build(kind):
        net = Net(kind)
        net.encoder.get_parameter(name).register_hook(lambda g: g / 2)
        return net

    case.judge(build=build, unproved="a hook changed the gradient of W_hh" if name == "weight_hh_l0" else "")
