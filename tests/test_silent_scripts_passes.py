"""Scripts whose passes are not one forward, one backward and a step: only what ends in `.grad` counts."""

from functools import partial

import pytest
import torch
from silent_scripts import every_case, loss_of, plain

case = every_case


@pytest.fixture
def twice_differentiable(monkeypatch):
    """oneDNN's LSTM has no second derivative."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


def halves(net, x):
    """Two losses over one forward pass."""
    answer = net(x)
    return answer[..., 0].square().sum(), answer[..., 1].sin().sum()


# --- Diagnostics that leave nothing in `.grad` ----------------------------------------------------------------------


@pytest.mark.parametrize("of", ["weight_hh_l0", "weight_ih_l0", "input"])
def test_autograd_grad_before_backward(case, of):
    def script(net, x):
        loss = loss_of(net, x.requires_grad_(of == "input"))
        torch.autograd.grad(loss, x if of == "input" else net.encoder.get_parameter(of), retain_graph=True)
        loss.backward()
        yield

    case.judge(script)


def test_autograd_grad_after_backward(case):
    def script(net, x):
        loss = loss_of(net, x)
        loss.backward(retain_graph=True)
        torch.autograd.grad(loss, net.encoder.weight_hh_l0)
        yield

    case.judge(script)


def test_autograd_grad_of_another_loss(case):
    def script(net, x):
        first, second = halves(net, x)
        torch.autograd.grad(second, net.encoder.weight_hh_l0, retain_graph=True)
        first.backward()
        yield

    def losses(net, x):
        yield halves(net, x)[0]

    case.judge(script, losses)


def test_backward_with_other_inputs(case):
    """It passes through the layer, and leaves its gradients in x alone."""

    def script(net, x):
        loss = loss_of(net, x.requires_grad_())
        loss.backward(inputs=[x], retain_graph=True)
        loss.backward()
        yield

    case.judge(script)


def jacobian(net, x):
    torch.autograd.functional.jacobian(lambda x: net(x)[-1, 0], x)


def jacobian_of_the_layer(net, x):
    torch.autograd.functional.jacobian(lambda x: net.encoder(x)[0][-1, 0], x)


def jacobian_of_few_steps(net, x):
    torch.autograd.functional.jacobian(lambda x: net(x)[-1, 0], x[:2])


def gradient_of_the_input(net, x):
    x = x.detach().requires_grad_()
    torch.autograd.grad(loss_of(net, 2 * x), x)


DIAGNOSTICS = [jacobian, jacobian_of_the_layer, jacobian_of_few_steps, gradient_of_the_input]


@pytest.mark.parametrize("diagnose", DIAGNOSTICS)
@pytest.mark.parametrize("when", ["before forward", "before backward", "before step"])
def test_a_pass_of_its_own(case, diagnose, when):
    """A diagnostic with its own forward pass, at three places of the script."""

    def script(net, x):
        if when == "before forward":
            diagnose(net, x)
        loss = loss_of(net, x)
        if when == "before backward":
            diagnose(net, x)
        loss.backward()
        if when == "before step":
            diagnose(net, x)
        yield

    case.judge(script)


@pytest.mark.usefixtures("twice_differentiable")
@pytest.mark.parametrize("when", ["before backward", "before step"])
def test_a_hessian_vector_product_with_a_pass_of_its_own(case, when):
    def script(net, x):
        loss = loss_of(net, x)
        if when == "before step":
            loss.backward()
        torch.autograd.functional.hvp(partial(loss_of, net), 2 * x, torch.ones_like(x))
        if when == "before backward":
            loss.backward()
        yield

    case.judge(script)


def squared_gradient(net, loss, of):
    """‖dL/dx‖² or a Hessian-vector product to be, in the graph."""
    return torch.autograd.grad(loss, of, create_graph=True)[0].square().sum()


@pytest.mark.usefixtures("twice_differentiable")
@pytest.mark.parametrize("of", ["weight_hh_l0", "input"])
def test_second_derivatives_that_do_not_end_in_grad(case, of):
    """Of the very graph that is trained."""

    def script(net, x):
        target = x.requires_grad_() if of == "input" else net.encoder.get_parameter(of)
        loss = loss_of(net, x)
        torch.autograd.grad(squared_gradient(net, loss, target), net.encoder.weight_hh_l0, retain_graph=True)
        loss.backward()
        yield

    case.judge(script)


# --- Second derivatives that do -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("twice_differentiable")
@pytest.mark.parametrize("of", ["weight_hh_l0", "input"])
@pytest.mark.parametrize("apart", [False, True])
def test_second_derivatives_that_end_in_grad(case, of, apart):
    """A gradient penalty, in one backward pass with the loss or in one of its own; W_hh acts in the derivative too."""

    def parts(net, x):
        target = x.requires_grad_() if of == "input" else net.encoder.get_parameter(of)
        loss = loss_of(net, x)
        return loss, squared_gradient(net, loss, target)

    def script(net, x):
        loss, penalty = parts(net, x)
        if apart:
            loss.backward(retain_graph=True)
            penalty.backward()
        else:
            (loss + penalty).backward()
        yield

    def losses(net, x):
        yield sum(parts(net, x))

    case.judge(script, losses, unproved="W_hh's gradient has terms beside those of the steps")


# --- Several backward passes ----------------------------------------------------------------------------------------


def test_backward_and_step_for_each_loss_of_one_graph(case):
    """Each loss has an optimiser of its own, for the read-out; every `.grad` is set to zero between."""

    def script(net, x):
        for loss in halves(net, x):
            net.zero_grad()
            loss.backward(retain_graph=True)
            yield

    def losses(net, x):
        yield from halves(net, x)

    case.judge(script, losses)


def test_backward_and_step_for_each_loss_without_zero_grad(case):
    """`.grad` is a sum over both, of which the second step added the second."""

    def script(net, x):
        for loss in halves(net, x):
            loss.backward(retain_graph=True)
            yield

    def losses(net, x):
        yield from halves(net, x)

    case.judge(script, losses)


def test_several_backward_passes_of_one_graph_add_up(case):
    def script(net, x):
        for loss in halves(net, x):
            loss.backward(retain_graph=True)
        yield

    def losses(net, x):
        yield sum(halves(net, x))

    case.judge(script, losses)


def test_zero_grad_between_two_backward_passes_of_one_graph(case):
    """What the first left is gone before the step."""

    def script(net, x):
        first, second = halves(net, x)
        first.backward(retain_graph=True)
        net.zero_grad()
        second.backward()
        yield

    def losses(net, x):
        yield halves(net, x)[1]

    case.judge(script, losses)


def test_micro_batches_of_which_the_last_is_recorded(case):
    def script(net, x):
        for part in x.split(2, 1):
            loss_of(net, part).backward()
        yield

    def losses(net, x):
        yield loss_of(net, x[:, 4:])

    case.prove(script, losses)


def test_gradients_that_were_there_before(case):
    """The proof is of what the pass added."""

    def script(net, x):
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        yield from plain(net, x)

    case.prove(script)


def test_gradients_that_are_assigned(case):
    """Not accumulated by autograd, but computed by `autograd.grad` and put there."""

    def script(net, x):
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(loss_of(net, x), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        yield

    case.judge(script, unproved="autograd accumulated nothing in W_hh's gradient")
