"""Scripts whose weights are not plain parameters that stay as they are from forward to step."""

from functools import partial

import pytest
import torch
from silent_scripts import Net, every_case, initial, loss_of, plain, script_of
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

import gradflow as gf

case = every_case

# --- Values changed behind autograd's back: no version counter moves --------------------------------------------------

WEIGHTS = ["weight_hh_l0", "weight_ih_l0"]


def halve_in_place(weight):
    weight.data.mul_(0.5)


def assign_half(weight):
    weight.data = weight.data * 0.5


@pytest.mark.parametrize("change", [halve_in_place, assign_half])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_changed_before_step(case, name, change):
    """As an update by hand does, or one that the script calls too early."""

    def script(net, x):
        loss_of(net, x).backward()
        change(net.encoder.get_parameter(name))
        yield

    case.judge(script)


@pytest.mark.parametrize("change", [halve_in_place, assign_half])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_changed_between_forward_and_backward(case, name, change):
    """Autograd saved the tensor and not its value: what is changed in place, the backward pass computes with."""

    def changed_by(change):
        def loss(net, x):
            loss = loss_of(net, x)
            change(net.encoder.get_parameter(name))
            return loss

        return script_of(loss)

    keeps_parameters = case.kind is nn.LSTM and case.dtype is torch.float32 and torch.backends.mkldnn.is_available()
    seen = halve_in_place if keeps_parameters else change  # oneDNN's node finds in them what was assigned
    case.judge(changed_by(change)[0], changed_by(seen)[1])


@pytest.mark.parametrize("when", ["before backward", "before step"])
def test_a_buffer_of_inputs_that_is_used_again(case, when):
    """The loader fills the same memory with the next batch."""

    def script(net, x):
        loss = loss_of(net, x)
        if when == "before step":
            loss.backward()
        x.numpy()[:] = 1
        if when == "before backward":
            loss.backward()
        yield

    case.judge(script)


def test_an_output_changed_before_step(case):
    def script(net, x):
        y, _ = net.encoder(x)
        net.head(y).square().sum().backward()
        y.data.mul_(2)
        yield

    case.judge(script)


def test_an_initial_state_that_is_reset_before_step(case):
    def loss(net, x):
        return net(x, initial(net, x)).square().sum()

    def script(net, x):
        hx = initial(net, x)
        net(x, hx).square().sum().backward()
        for h in hx if isinstance(hx, tuple) else (hx,):
            h.data.zero_()
        yield

    case.judge(script, script_of(loss)[1])


# --- Weights that are computed --------------------------------------------------------------------------------------

COMPUTED = "W_hh is computed, and is no parameter with a gradient of its own"


NORMALISATIONS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": partial(parametrizations.spectral_norm, n_power_iterations=200),  # converged: one more is nothing
    "orthogonal": parametrizations.orthogonal,
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": partial(nn.utils.spectral_norm, n_power_iterations=200),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("normalise", NORMALISATIONS.values(), ids=NORMALISATIONS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_normalised_weight(case, normalise, name):
    def build(kind):
        net = Net(kind)
        normalise(net.encoder, name)
        return net

    case.judge(build=build, unproved=COMPUTED if name == "weight_hh_l0" else "")


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_pruned_weight(case, name):
    def build(kind):
        net = Net(kind)
        prune.random_unstructured(net.encoder, name, 0.5)
        return net

    case.judge(build=build, unproved=COMPUTED if name == "weight_hh_l0" else "")


class DroppedWeights(Net):
    """Merity et al. 2018: a part of W_hh is dropped in every forward pass; here the same part, so that it is known."""

    def __init__(self, kind):
        super().__init__(kind)
        self.raw = self.encoder.weight_hh_l0
        del self.encoder.weight_hh_l0
        self.encoder.weight_hh_l0 = self.raw.detach()

    def forward(self, x):
        kept = torch.arange(self.raw.numel(), device=x.device).reshape(self.raw.shape) % 3 > 0
        self.encoder.weight_hh_l0 = 1.5 * self.raw * kept
        return super().forward(x)


def test_dropped_weights(case):
    case.prove(build=DroppedWeights)


# --- functional_call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", [True, False])
def test_a_functional_call_with_other_weights(case, leaf):
    """Leaves of their own, or computed from the parameters, as after an update that is itself in the graph."""

    def loss(net, x):
        others = {name: 1.5 * p for name, p in net.named_parameters()}
        if leaf:
            others = {name: p.detach().requires_grad_() for name, p in others.items()}
        return functional_call(net, others, (x,)).square().sum()

    case.prove(*script_of(loss))


def test_a_functional_call_with_its_own_weights(case):
    """Another way to write a call of the model."""

    def loss(net, x):
        return functional_call(net, dict(net.named_parameters()), (x,)).square().sum()

    case.prove(*script_of(loss))


def test_meta_learning_of_first_order(case):
    """Finn et al. 2017: the loss after an inner update; its own gradient is taken by `autograd.grad`."""

    def loss(net, x):
        names, parameters = zip(*net.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss_of(net, x[:, :2]), parameters)
        updated = {name: p - 0.1 * g for name, p, g in zip(names, parameters, gradients, strict=True)}
        return functional_call(net, updated, (x[:, 2:],)).square().sum()

    case.prove(*script_of(loss))


# --- Weights that are shared, frozen, or have gradients from elsewhere ------------------------------------------------


class TwoLayers(Net):
    """Encoder and decoder with one W_hh."""

    def __init__(self, kind):
        super().__init__(kind)
        self.decoder = kind(4, 4)
        self.decoder.weight_hh_l0 = self.encoder.weight_hh_l0

    def forward(self, x):
        return self.head(self.decoder(self.encoder(x)[0])[0])


def test_a_weight_tied_in_two_layers(case):
    case.judge(build=TwoLayers, unproved="W_hh's gradient is the sum over both layers")


def test_a_weight_tied_in_two_layers_of_which_one_is_frozen_out(case):
    """The encoder's states get no gradient; the decoder's is all there is."""

    class Cut(TwoLayers):
        def forward(self, x):
            return self.head(self.decoder(self.encoder(x)[0].detach())[0])

    case.judge(build=Cut, unproved="W_hh is tied")


@pytest.mark.parametrize("place", [("encoder", "weight_ih_l0"), ("head", "weight")])
def test_a_recurrent_weight_that_is_another_one_as_well(place, tmp_path):
    """Its gradient is a sum of which the recurrence is a part: not proved, and no false alarm."""
    torch.manual_seed(0)
    net = Net(nn.RNN)
    net.head = nn.Linear(4, 4)
    owner, name = place
    setattr(net.get_submodule(owner), name, net.encoder.weight_hh_l0)
    net.note = nn.ParameterList([net.encoder.weight_hh_l0])
    for sound in (False, True):
        with gf.record(net, tmp_path / str(sound)) as recorder:
            net(torch.randn(5, 3, 4)).square().sum().backward()
            recorder.step()
        assert gf.open_run(tmp_path / str(sound)).proof == ("proved" if sound else "unproved")
        setattr(net.get_submodule(owner), name, nn.Parameter(torch.randn(4, 4)))  # now something holds it, and no more


def test_a_weight_tied_within_a_stack(case):
    def build(kind):
        net = Net(kind, num_layers=2)
        net.encoder.weight_hh_l1 = net.encoder.weight_hh_l0
        return net

    case.judge(build=build, unproved="W_hh's gradient is the sum over both layers of the stack")


def test_one_layer_under_two_names(case):
    """Two calls of one layer: provable, as any two calls are."""

    class Twice(Net):
        def __init__(self, kind):
            super().__init__(kind)
            self.decoder = self.encoder

        def forward(self, x):
            return self.head(self.decoder(self.encoder(x)[0])[0])

    case.prove(build=Twice)


def test_a_frozen_weight(case):
    def build(kind):
        net = Net(kind)
        net.encoder.weight_hh_l0.requires_grad_(False)
        return net

    case.judge(build=build, unproved="a frozen W_hh has no gradient")


def test_a_frozen_layer_whose_input_is_trained(case):
    def build(kind):
        net = Net(kind)
        net.encoder.requires_grad_(False)
        return net

    def loss(net, x):
        return loss_of(net, x.requires_grad_())

    case.judge(*script_of(loss), build=build, unproved="a frozen W_hh has no gradient")


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_that_is_penalised(case, name):
    """The states' gradients are right; the penalty adds to the weight's."""

    def loss(net, x):
        return loss_of(net, x) + net.encoder.get_parameter(name).square().sum()

    case.judge(*script_of(loss), unproved="the penalty adds to W_hh's gradient" if name == "weight_hh_l0" else "")


def test_a_gradient_changed_before_step(case):
    """Noise or a centralised gradient: `.grad` is no longer what the pass added, the states' gradients still are."""

    def script(net, x):
        yield from scaled(net, plain(net, x))

    def scaled(net, steps):
        for _ in steps:
            net.encoder.weight_hh_l0.grad.mul_(0.5)
            yield

    case.judge(script)
