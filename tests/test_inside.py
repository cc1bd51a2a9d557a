"""What torch's kernels did inside of subclasses and wrappers, and what `gf.trace` takes; each against a loop."""

import contextlib
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from silent_scripts import KINDS, B, Case, H, Net, T, h_n, loop, norms_of, plain, sequences, subclass
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import gradflow as gf

LENGTHS = torch.tensor([3, 6, 1, 4, 6])


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def case(request, tmp_path, caplog) -> Case:
    """Every cell of torch, in float64."""
    return Case(request.param, torch.float64, tmp_path, caplog)


# --- Forwards that change the layout ----------------------------------------------------------------------------------


def packs(run, x, hx):
    y, h = run(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), hx)
    return pad_packed_sequence(y)[0], h


def gives_states_batch_first(run, x, hx):
    y, h = run(x, hx)
    return y, tuple(part.transpose(0, 1) for part in h) if isinstance(h, tuple) else h.transpose(0, 1)


def keeps_its_output_to_itself(run, x, hx):
    """Nothing that is given back is what the kernel gave."""
    y, _ = run(x, hx)
    return 3 * y.mean(0, keepdim=True), None


def detaches_its_output(run, x, hx):
    """Only the last state goes on."""
    y, h = run(x, hx)
    return y.detach(), h


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one layer", "all"])
def test_a_subclass_that_packs_inside(case, options):
    case.prove(build=lambda kind: Net(subclass(kind, packs), **options))


def test_positions_past_the_end_of_what_was_packed_inside_do_not_count(tmp_path):
    net = Net(subclass(nn.LSTM, packs))
    with gf.record(net, tmp_path, every=1) as recorder:
        net(sequences().float()).sum().backward()
        recorder.step()
    assert gf.open_run(tmp_path).frame("time").sort_values("time").valid.tolist() == [5, 4, 4, 3, 2, 2]


@pytest.mark.parametrize("forward", [gives_states_batch_first, keeps_its_output_to_itself])
def test_a_subclass_that(case, forward):
    case.prove(build=lambda kind: Net(subclass(kind, forward)))


def test_a_subclass_whose_output_goes_nowhere(case):
    case.prove(build=lambda kind: Net(subclass(kind, detaches_its_output), read=h_n))


def test_a_forward_put_in_the_place_of_the_layers_own(case):
    def build(kind):
        net = Net(kind)
        own = net.encoder.forward
        net.encoder.forward = lambda x, hx=None: own(x.flip(0), hx)
        return net

    case.prove(build=build)


def test_a_hook_that_returns_the_output_alone(case):
    def build(kind):
        net = Net(kind, read=lambda y: y)
        net.encoder.register_forward_hook(lambda module, args, output: output[0])
        return net

    case.prove(build=build)


def test_random_numbers_drawn_before_the_kernel_leave_its_masks_known(case):
    """The masks between the layers are drawn anew from the state of the generator just before the kernel ran."""
    kind = subclass(case.kind, lambda run, x, hx: run(nn.functional.dropout(x, 0.5), hx))
    net = Net(kind, num_layers=2, dropout=0.5).double()
    with gf.record(net, case.path, every=1, spectrum_every=1) as recorder:
        for _ in plain(net, sequences()):
            recorder.step()
    assert gf.open_run(case.path).proof == "proved"


# --- Nothing is changed, nothing is left behind -----------------------------------------------------------------------


def trained(path=None):
    torch.manual_seed(0)
    net = Net(subclass(nn.LSTM, packs), num_layers=2, dropout=0.5)
    optimizer = torch.optim.Adam(net.parameters())

    def train(step):
        for _ in range(3):
            optimizer.zero_grad()
            for _ in plain(net, sequences().float()):
                step()
            optimizer.step()

    if path is None:
        train(lambda: None)
    else:
        with gf.record(net, path, every=1) as recorder:
            train(recorder.step)
    return net.state_dict()


def test_training_is_bit_for_bit_the_same(tmp_path):
    plainly, recorded = trained(), trained(tmp_path)
    assert all(torch.equal(plainly[name], recorded[name]) for name in plainly)


def test_two_who_watch_see_the_same_run(tmp_path):
    """Modes within modes: each hands the kernel on."""
    net = Net(subclass(nn.GRU, packs))
    with gf.record(net, tmp_path, every=1) as recorder, gf.watch_backward(net) as backward:
        net(sequences().float()).sum().backward()
        (trace,) = backward.take()
        recorder.step()
    assert trace[0, 0].lengths.tolist() == sorted(LENGTHS.tolist(), reverse=True)
    assert len(gf.open_run(tmp_path).frame("time")) == T


def test_a_layer_of_its_own_inside_a_subclass_is_told_apart(case):
    def nested(kind):
        class Nested(kind):
            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                self.before = kind(*args, **options)

            def forward(self, x, hx=None):
                return super().forward(self.before(x)[0], hx)

        return Nested

    case.prove(build=lambda kind: Net(nested(kind)))


class Counts(TorchFunctionMode):
    """A mode of the script's own."""

    seen = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen += 1
        return func(*args, **(kwargs or {}))


def test_modes_of_the_script_go_on(tmp_path):
    net = Net(subclass(nn.RNN, packs))
    with gf.record(net, tmp_path) as recorder, Counts() as mode:
        net(sequences().float()).sum().backward()
        recorder.step()
    assert mode.seen > 0
    assert len(gf.open_run(tmp_path).frame("time")) == T


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_forward_that_raises_leaves_no_mode_behind(tmp_path, error):
    def raises(run, x, hx):
        run(x, hx)
        raise error("on purpose")

    net = Net(subclass(nn.RNN, raises))
    with pytest.raises(error), gf.record(net, tmp_path):
        net(sequences().float())
    assert not _get_current_function_mode_stack()
    with pytest.raises(error):
        gf.trace(net.encoder, sequences().float())
    assert not _get_current_function_mode_stack()


def test_the_forward_of_torch_runs_without_a_mode(tmp_path):
    net = Net(nn.LSTM)
    seen = []
    net.encoder.register_forward_pre_hook(lambda *_: seen.append(_get_current_function_mode_stack()))
    with gf.record(net, tmp_path) as recorder:
        net(sequences().float()).sum().backward()
        recorder.step()
    assert seen == [[]]


# --- A cell of one's own that holds something of each example ---------------------------------------------------------


class Attentive(gf.Cell):
    """Looks at a memory [B, S, H], which is set before each pass, and at a vector [H] that all examples share."""

    def __init__(self):
        super().__init__()
        self.hidden_size = H
        self.cell = nn.GRUCell(2 * H, H)
        self.shared = torch.linspace(0.5, 1, H, dtype=torch.float64)
        self.memory = None

    def step(self, x_t, state):
        weights = torch.softmax(torch.einsum("bh,bsh->bs", self.shared * state["h"], self.memory), -1)
        context = torch.einsum("bs,bsh->bh", weights, self.memory)
        return {"h": self.cell(torch.cat((x_t, context), -1), state["h"])}


class Attends(nn.Module):
    """Two calls of the decoder, each with a memory of its own."""

    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.encoder, self.decoder = kind(H, H), gf.Recurrent(Attentive())

    def forward(self, x):
        self.memories, outputs = [self.encoder(part)[0].transpose(0, 1) for part in (x, x.flip(0))], []
        for memory in self.memories:
            self.decoder.cell.memory = memory
            outputs.append(self.decoder(x)[0])
        self.decoder.cell.memory = None
        return torch.stack(outputs)

    def stepped(self, x):
        """[T, B, H] of each call, each state a leaf of a loop."""
        seen = []
        for memory in self.memories:
            self.decoder.cell.memory, h, states = memory.detach(), x.new_zeros(x.shape[1], H), []
            for x_t in x:
                h = self.decoder.cell.step(x_t, {"h": h})["h"]
                h.retain_grad()
                states.append(h)
            seen.append(states)
        return seen


@pytest.mark.parametrize("batch", [3, 4], ids=["apart", "as many examples as units"])
@pytest.mark.parametrize("every", [1, 10], ids=["due", "kept"])
def test_a_cell_that_attends_to_a_memory_is_recorded(tmp_path, batch, every):
    """Against a loop in float64; with 4 examples the memory and the shared vector have as many rows."""
    torch.manual_seed(0)
    net, x = Attends().double(), sequences(batch=batch)
    if batch == H:
        net.decoder.cell.register_buffer("shared", net.decoder.cell.__dict__.pop("shared"))
    names = ["log_state_gradient", "log_jacobian_spectral", "log_jacobian_frobenius"]
    with gf.record(net, tmp_path, every=every, reduction="sum", quantities=names, modules=["decoder"]) as recorder:
        for _ in range(2):
            net.zero_grad()
            net(x).square().sum().backward()
            recorder.step()
    steps = net.stepped(x)
    sum(torch.stack(states).square().sum() for states in steps).backward()
    frame = gf.open_run(tmp_path).frame("time").query("iteration == 1").sort_values(["call", "time"])
    assert gf.open_run(tmp_path).frame("proof").forward_residual.max() < 1e-9
    for call, states in enumerate(steps):
        expected = torch.stack([state.grad for state in states]).norm(dim=-1).log().mean(1)
        got = frame[frame.call == call].log_state_gradient_mean.to_numpy()
        np.testing.assert_allclose(got, expected, atol=1e-6)


class AttentiveTwice(Attentive):
    """A second state, which is made of the new first one and the memory."""

    state_names = ("h", "k")

    def step(self, x_t, state):
        h = super().step(x_t, state)["h"]
        return {"h": h, "k": 0.5 * state["k"] + h * self.memory.mean(1)}


class OfMemory(nn.Module):
    """One call, by the layer or in a loop of its own."""

    def __init__(self, cell, loops):
        super().__init__()
        self.cell, self.layer = (cell, None) if loops else (None, gf.Recurrent(cell))

    def forward(self, x, memory):
        own = self.cell or self.layer.cell
        own.memory, state = memory, {name: x.new_zeros(x.shape[1], H) for name in own.state_names}
        outputs = [] if self.layer is None else self.layer(x)[0]
        for x_t in x if self.layer is None else ():
            state = self.cell(x_t, state)
            outputs.append(state["h"])
        own.memory = None
        return torch.stack(list(outputs))


@pytest.mark.parametrize("kind", [Attentive, AttentiveTwice])
@pytest.mark.parametrize("examples", [2, "all"])
def test_a_cell_that_attends_to_a_memory_is_recorded_in_a_loop(tmp_path, kind, examples):
    """As by the layer, whose record is tested above."""
    frames = []
    for loops in (True, False):
        torch.manual_seed(0)
        net, x = OfMemory(kind(), loops).double(), sequences(batch=3)
        memory = torch.randn(3, 5, H, dtype=torch.float64)
        with gf.record(net, tmp_path / str(loops), reduction="sum", examples=examples, quantities=None) as recorder:
            net(x, memory).square().sum().backward()
            recorder.step()
        run = gf.open_run(tmp_path / str(loops))
        assert run.error is None
        assert run.frame("proof").forward_residual.max() < 1e-9
        frames.append(run.frame("time").select_dtypes("number"))
    pd.testing.assert_frame_equal(*frames, rtol=1e-5)


def test_the_jacobian_of_a_cell_that_attends_to_a_memory():
    """Each example by itself, in the order of the batch."""
    torch.manual_seed(0)
    layer, x = gf.Recurrent(Attentive()).double(), sequences(batch=3)
    layer.cell.memory = torch.randn(3, 5, H, dtype=torch.float64)
    step = gf.trace(layer, x)[0, 0]
    dense, (memory, h) = step.jacobian.dense(), (layer.cell.memory, step.states["h"])
    for t in range(1, T):
        for b in range(3):
            layer.cell.memory = memory[b : b + 1]
            jacobian = torch.autograd.functional.jacobian(
                lambda h, t=t, b=b: layer.cell.step(x[t, b : b + 1], {"h": h[None]})["h"][0], h[t - 1, b]
            )
            torch.testing.assert_close(dense[t, b], jacobian)
    torch.testing.assert_close(step.jacobian.spectral_norm(), torch.linalg.matrix_norm(dense, 2))
    torch.testing.assert_close(step.of([2]).jacobian.dense(), dense[:, 2:])
    torch.testing.assert_close(step.jacobian[3].dense(), dense[3])
    with pytest.raises(
        ValueError, match=r"Attentive: it holds memory of \(3,\) examples, .* leave the batch dimension whole"
    ):
        step.jacobian.cell.step(x[:, 0], {"h": h[:, 0]})


def test_a_cell_whose_tensors_are_partly_of_the_examples_is_refused_where_nothing_tells_them_apart():
    layer = gf.Recurrent(Attentive()).double()
    layer.cell.memory = torch.randn(H, 5, H, dtype=torch.float64)
    expected = r"Attentive: it holds shared, memory of 4 rows, .* register what the examples share as a buffer"
    with pytest.raises(NotImplementedError, match=expected):
        gf.trace(layer, sequences(batch=H))[0, 0]


# --- A batch that runs as many calls ----------------------------------------------------------------------------------

NAMES = [3, 6, 2, 4, 6, 2, 5, 2, 3]


class OneByOne(nn.Module):
    """Runs each example by itself, or all as one packed sequence; the last states and all outputs are read.

    Args:
        layout: of each example: "unbatched", "batched" or "packed"; "batch" for all at once.
    """

    def __init__(self, kind, layout, **options):
        super().__init__()
        self.encoder, self.layout = kind(H, H, **options), layout

    def forward(self, sequences):
        if self.layout == "batch":
            y, state = self.encoder(pack_sequence(sequences, enforce_sorted=False))
            return y.data.square().sum() + h_n((y, state)).sum()
        return sum(map(self.one, sequences))

    def one(self, x):
        y, state = self.encoder({"unbatched": x, "batched": x[:, None], "packed": pack_sequence([x])}[self.layout])
        return (y.data if self.layout == "packed" else y).square().sum() + h_n((y, state)).sum()


def log_of(path, net, lengths, loss=lambda net, examples: net(examples)):
    examples = [sequences()[:n, i % B] for i, n in enumerate(lengths)]
    with gf.record(net, path, every=1, spectrum_every=1, reduction="sum") as recorder:
        loss(net, examples).backward()
        recorder.step()
    return gf.open_run(path)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one layer", "all"])
@pytest.mark.parametrize("layout", ["unbatched", "batched", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_runs_as_many_calls_is_one(tmp_path, kind, layout, options):
    """The log is that of the same batch, packed."""
    nets = [OneByOne(kind, name, **options).double() for name in (layout, "batch")]
    nets[0].load_state_dict(nets[1].state_dict())
    one_by_one, at_once = (log_of(tmp_path / net.layout, net, NAMES) for net in nets)
    assert one_by_one.proof == "proved"
    for table in ("time", "lag", "gates"):
        pd.testing.assert_frame_equal(one_by_one.frame(table), at_once.frame(table), rtol=1e-5, atol=1e-6)


def test_a_model_that_is_called_for_each_example_runs_a_batch_too(tmp_path):
    def loss(net, examples):
        return sum(net([x]) for x in examples)

    run = log_of(tmp_path, OneByOne(nn.GRU, "unbatched").double(), NAMES, loss)
    frame = run.frame("time").sort_values("time")
    assert (run.proof, set(frame.call)) == ("proved", {0})
    assert frame.valid.tolist() == [sum(n > t for n in NAMES) for t in range(T)]


@pytest.mark.parametrize("lengths", [NAMES[:7], [4] * 9], ids=["few", "of one length, perhaps each fed by the last"])
def test_other_calls_stay_apart(tmp_path, lengths):
    run = log_of(tmp_path, OneByOne(nn.GRU, "unbatched").double(), lengths)
    assert set(run.frame("time").call) == set(range(len(lengths)))


def test_calls_that_carry_their_state_stay_apart(tmp_path):
    """Chunks of one sequence."""

    def loss(net, examples):
        total, state = 0, None
        for x in examples:
            y, state = net.encoder(x, state)
            total = total + y.square().sum()
        return total

    run = log_of(tmp_path, OneByOne(nn.GRU, "unbatched").double(), [2, *NAMES], loss)
    assert set(run.frame("time").valid) == {1}


# --- Refused by name -------------------------------------------------------------------------------------------------


def test_a_forward_that_never_runs_the_kernel_is_refused(tmp_path):
    net = Net(loop(nn.GRU)).double()
    with pytest.raises(NotImplementedError, match=r"encoder: expected the forward of this Loop to run torch's kernel.*"
                       r"it never does.*gradflow\.Cell in gradflow\.Recurrent"), gf.record(net, tmp_path):  # fmt: skip
        net(sequences())


def test_a_kernel_that_runs_otherwise_than_its_layer_says_is_refused(tmp_path):
    class Half(nn.GRU):
        def forward(self, x, hx=None):
            h = x.new_zeros(1, x.shape[1], H)
            return torch.gru(x, h, self._flat_weights[:2], False, 1, 0.0, self.training, False, False)

    net = Net(Half)
    with pytest.raises(NotImplementedError, match=r"encoder: expected .*Half to run its kernel as the layer says.*call "
                       r"super\(\)\.forward"), gf.record(net, tmp_path):  # fmt: skip
        net(sequences().float())


def test_a_model_without_known_layers_is_told_of_cells_and_of_steps_by_hand(tmp_path):
    with pytest.raises(ValueError, match=r"LSTMCell.*in a loop\) in Linear, found none; .*h = gradflow\.mark\("):
        gf.record(nn.Linear(2, 2), tmp_path)


def test_a_trace_of_several_runs_is_refused():
    layer = subclass(nn.RNN, lambda run, x, hx: run(run(x, hx)[0]))(H, H)
    expected = "expected the forward of this Changed to run torch's kernel once, it ran 2 times"
    with pytest.raises(NotImplementedError, match=expected):
        gf.trace(layer, sequences().float())


# --- Wrappers, and weights that are lent ------------------------------------------------------------------------------


class WeightDrop(nn.Module):
    """Merity et al. 2018: a part of W_hh is dropped in every forward pass, each time another.

    Args:
        layer: whose W_hh is kept as `weight_hh_l0_raw`.
        hooks: the layer is called as a module; as published, by its forward.
    """

    def __init__(self, layer, hooks=True):
        super().__init__()
        self.layer, self.hooks = layer, hooks
        self.weight_hh_l0_raw = nn.Parameter(layer.weight_hh_l0.detach())
        del layer._parameters["weight_hh_l0"]
        self.bidirectional = False

    def forward(self, *args):
        self.layer.weight_hh_l0 = nn.functional.dropout(self.weight_hh_l0_raw, 0.5, self.training)
        return self.layer(*args) if self.hooks else self.layer.forward(*args)


class Dropped(nn.Module):
    """Two calls with masks of their own; with `two`, another layer beside."""

    def __init__(self, kind, hooks=True, two=False):
        super().__init__()
        self.encoder = WeightDrop(kind(H, H), hooks)
        self.decoder = nn.RNN(H, H) if two else None

    def forward(self, x):
        torch.manual_seed(1)
        y = self.encoder(self.encoder(x)[0])[0]
        return y if self.decoder is None else self.decoder(y)[0]


def test_weights_dropped_by_a_wrapper(case):
    case.prove(build=Dropped)


def test_a_layer_called_by_its_forward_is_refused(tmp_path):
    net = Dropped(nn.LSTM, hooks=False)
    with gf.record(net, tmp_path) as recorder:
        net(sequences().float()).sum().backward()
        expected = (
            r"step: .*'encoder\.layer': gradients came to its parameters, .*called by \.forward.*call the module itself"
        )
        with pytest.raises(RuntimeError, match=expected):
            recorder.step()


def test_of_a_layer_called_by_its_forward_beside_others_a_warning_tells_once(tmp_path, caplog):
    net = Dropped(nn.GRU, hooks=False, two=True)
    with gf.record(net, tmp_path) as recorder:
        for _ in range(3):
            net(sequences().float()).sum().backward()
            recorder.step()
    (said,) = [record.getMessage() for record in caplog.records if "is not recorded" in record.getMessage()]
    assert said.startswith("'encoder.layer' is not recorded: gradients came to its parameters")


def test_layers_that_do_not_take_part_are_not_warned_of(tmp_path, caplog):
    net = nn.ModuleDict({"used": nn.GRU(H, H), "idle": nn.GRU(H, H)})
    net["tied"] = nn.GRU(H, H)
    net["tied"]._parameters.update(net["used"]._parameters)
    with gf.record(net, tmp_path) as recorder:
        net["used"](sequences().float())[0].sum().backward()
        recorder.step()
    assert not caplog.records


class LearnedStart(Net):
    """h_0 is a parameter that all examples share."""

    def __init__(self, kind):
        super().__init__(kind)
        self.h_0 = nn.Parameter(torch.full((1, 1, H), 0.5))

    def forward(self, x):
        h = self.h_0.expand(-1, x.shape[1], -1)
        return super().forward(x, (h, h) if isinstance(self.encoder, nn.LSTM) else h)


class Adapted(Net):
    """Two calls, the second with weights after a step of gradient descent, which are leaves of their own."""

    def forward(self, x):
        names, weights = zip(*self.encoder.named_parameters(), strict=True)
        y = self.encoder(x)[0]
        gradients = torch.autograd.grad(y.square().sum(), weights, retain_graph=True)
        updated = {
            name: (w - 0.1 * g).detach().requires_grad_() for name, w, g in zip(names, weights, gradients, strict=True)
        }
        return functional_call(self.encoder, updated, (x,))[0] + y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", [LearnedStart, Dropped, Adapted])
def test_the_last_iteration_is_recorded_whether_it_was_due_or_not(kind, build, tmp_path, caplog):
    """What the optimiser changes after it is kept: initial states, and the weights of each call."""
    frames = []
    for every in (1, 10):
        torch.manual_seed(0)
        net = build(kind).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        with gf.record(net, tmp_path / str(every), every=every) as recorder:
            for _ in range(2):
                optimizer.zero_grad()
                net(sequences()).square().sum().backward()
                recorder.step()
                optimizer.step()
        frame = gf.open_run(tmp_path / str(every)).frame("time")
        frames.append(frame[frame.iteration == 1].dropna(axis=1, how="all").reset_index(drop=True))
    assert not caplog.records
    assert set(frames[0]) <= set(frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[1][frames[0].columns])


def test_a_learned_start_is_proved(case):
    case.prove(build=LearnedStart)


def test_inside_of_torch_func_is_refused(tmp_path):
    """Its tensors exist only there."""
    net = Net(nn.GRU)
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    with gf.record(net, tmp_path) as recorder:
        torch.func.grad(lambda w: functional_call(net, w, (sequences().float(),)).square().sum())(weights)
        expected = r"step: .*'encoder': it ran inside of torch\.func.*use torch\.autograd\.grad or loss\.backward\(\)"
        with pytest.raises(RuntimeError, match=expected):
            recorder.step()


def test_inside_of_torch_func_beside_others_a_warning_tells(tmp_path, caplog):
    """An inner step by torch.func.grad, an outer one by backward: the outer call is recorded."""
    net = Net(nn.GRU)
    x = sequences().float()
    with gf.record(net, tmp_path, every=1) as recorder:
        weights = dict(net.named_parameters())
        gradients = torch.func.grad(lambda w: functional_call(net, w, (x,)).square().sum())(weights)
        functional_call(net, {n: w - 0.1 * gradients[n] for n, w in weights.items()}, (x,)).square().sum().backward()
        recorder.step()
    assert [record.getMessage()[:50] for record in caplog.records] == [
        "'encoder' is not recorded: it ran inside of torch."
    ]
    assert gf.open_run(tmp_path).proof == "proved"


def test_a_backward_pass_that_reaches_no_layer_is_told_so(tmp_path):
    net = Net(nn.GRU, read=lambda answer: answer[0].detach())
    with gf.record(net, tmp_path) as recorder:
        net(sequences().float()).sum().backward()
        with pytest.raises(RuntimeError, match=r"step: a backward pass ended in \.grad, but none of it came"):
            recorder.step()


# --- gf.trace ---------------------------------------------------------------------------------------------------------

COMPUTED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": partial(parametrizations.spectral_norm, n_power_iterations=200),
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": partial(nn.utils.spectral_norm, n_power_iterations=200),
    "pruned": partial(prune.random_unstructured, amount=0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("computed", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l0"])
def test_computed_weights_are_traced(kind, computed, name):
    def build(kind):
        torch.manual_seed(0)
        layer = kind(H, H).double()
        computed(layer, name)
        return layer

    check_trace(build, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_tied_within_a_stack_is_traced(kind):
    def build(kind):
        torch.manual_seed(0)
        layer = kind(H, H, num_layers=2).double()
        layer.weight_hh_l1 = layer.weight_hh_l0
        return layer

    check_trace(build, kind)


def test_states_in_a_list_are_traced():
    def build(kind):
        torch.manual_seed(0)
        return kind(H, H).double()

    check_trace(build, nn.LSTM, [torch.full((1, B, H), value, dtype=torch.float64) for value in (0.5, 0.25)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_subclass_is_traced(kind):
    """Against the loop of what it packs; the longest examples come first."""

    def build(kind):
        torch.manual_seed(0)
        return subclass(kind, packs)(H, H).double()

    order = torch.sort(LENGTHS, descending=True).indices
    check_trace(build, kind, order=order)


def check_trace(build, kind, hx=None, order=None):
    """Norms of the state gradients of Σ output² against those of a loop."""
    layer, twin = build(kind), build(loop(kind))
    twin.load_state_dict(layer.state_dict())
    trace = gf.trace(layer, sequences(), hx)
    given = trace.output.data if isinstance(trace.output, PackedSequence) else trace.output
    given.square().sum().backward()
    gradients = gf.state_gradients(trace)
    output, _ = twin(sequences(), None if hx is None else tuple(hx))
    (states,) = twin.calls
    for place, norms in norms_of(output.square().sum(), states).items():
        norms = norms if order is None else norms[:, order]
        torch.testing.assert_close(gradients[place].log_norm["h"], norms, equal_nan=True, rtol=1e-9, atol=1e-9)


def test_a_hook_that_has_a_traced_layer_give_something_else_is_refused():
    layer = nn.GRU(H, H)
    layer.register_forward_hook(lambda module, args, output: output[0])
    with pytest.raises(ValueError, match=re.escape("layer: expected a pair (output, final states), as torch's kernel")):
        gf.trace(layer, sequences().float())


def test_parametrized_layers_of_gradflows_own_are_refused():
    layer = parametrizations.weight_norm(gf.GRU(H, H), "weight_hh_l0")
    with pytest.raises(NotImplementedError, match="layer: weight_norm, spectral_norm, pruning"):
        gf.trace(layer, sequences().float())


def test_a_forward_that_the_user_interrupts(tmp_path):
    """Hooks are not told of KeyboardInterrupt; the layers that run after it are not taken for the one that was left."""

    class Interrupted(nn.LSTM):
        stops = False

        def forward(self, x, hx=None):
            found = super().forward(x, hx)
            if self.stops:
                raise KeyboardInterrupt
            return found

    model = nn.ModuleDict({"first": Interrupted(3, 4), "other": nn.LSTM(3, 4), "gru": nn.GRU(3, 4)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = gf.record(model, tmp_path, optimizer=optimizer, every=1, spectrum_every=1)
    x = torch.randn(5, 2, 3)
    for iteration in range(3):
        model["first"].stops = iteration == 1
        optimizer.zero_grad()
        with contextlib.suppress(KeyboardInterrupt):
            model["first"](x)[0].square().sum().backward()
        (model["other"](x)[0].square().sum() + model["gru"](x)[0].square().sum()).backward()
        optimizer.step()
    recorder.close()
    assert not torch.overrides._get_current_function_mode_stack()
    run = gf.open_run(tmp_path)
    assert run.proof != "failed"
    calls = run.table("proof").to_pandas().groupby(["iteration", "module"]).size()
    assert calls.loc[2].eq(1).all()
