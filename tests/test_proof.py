"""The proof of a record: its residuals against an own loop, and faults planted in each way of reading, found by it."""

import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from covering import each_pair
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import gradflow as gf
from gradflow.flow import proof, reading, replay, saved
from gradflow.flow.reading import read
from gradflow.flow.recursion import Block

LAYERS = [nn.RNN, nn.LSTM, nn.GRU, gf.LinearRNN, gf.GRU, gf.RNN, gf.LSTM]
T, B, D, H = 6, 5, 3, 4


def record(layer, folder, x=None, **options):
    """Two recorded iterations with a loss at every step and at the last state; the run."""
    torch.manual_seed(1)
    dtype = next(layer.parameters()).dtype
    x = torch.randn(T, B, D, dtype=dtype) if x is None else x
    with gf.record(layer, folder, every=1, spectrum_every=1, examples=2, **options) as recorder:
        for _ in range(2):
            layer.zero_grad()
            output, final = layer(x)
            final = final[-1] if isinstance(final, tuple) else final
            output = output.data if isinstance(output, PackedSequence) else output
            (output * torch.linspace(-1, 1, output.numel(), dtype=dtype).view_as(output) + 0.1).square().sum().backward(
                retain_graph=True
            )
            final.sin().sum().backward()
            recorder.step()
    return gf.open_run(folder)


def made(kind, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return kind(D, H, **options).to(dtype)


@each_pair(
    kind=LAYERS,
    dtype=[torch.float32, torch.float64],
    options={"one layer": {}, "all": {"num_layers": 2, "bidirectional": True, "dropout": 0.5}},
)
def test_a_right_record_is_proved_in_every_layer_and_direction(kind, dtype, options, tmp_path):
    run = record(made(kind, dtype, **options), tmp_path)
    rows = run.frame("proof")
    assert run.proof == "proved"
    assert len(rows) == 2 * (4 if options else 1)
    node = made(kind, dtype, **options)(torch.randn(T, B, D, dtype=dtype))[0].grad_fn
    fused = any("Mkldnn" in type(n).__name__ for n in (node, *(child for child, _ in node.next_functions)))
    assert (rows.steps_read == (0 if fused else 1)).all()
    assert rows[["forward_residual", "backward_residual"]].max().max() < run.meta["proof_tolerance"] / 50
    assert run.meta["proof_tolerance"] == (1e-4 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("layout", ["packed", "batch_first", "unbatched"])
def test_layouts_are_proved(kind, layout, tmp_path):
    layer, x = made(kind, bidirectional=True, batch_first=layout == "batch_first"), torch.randn(T, B, D).double()
    if layout == "packed":
        x = pack_padded_sequence(x, torch.tensor([6, 1, 4, 2, 3]), enforce_sorted=False)
    elif layout == "batch_first":
        x = x.transpose(0, 1)
    else:
        x = x[:, 0]
    assert record(layer, tmp_path, x).proof == "proved"


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, gf.GRU, gf.LSTM])
def test_a_reverse_direction_that_begins_in_the_padding_is_proved(kind, tmp_path, monkeypatch):
    """Its numbers at the positions that count are those of a call of each example on its own, padding included."""
    layer, lengths, x = made(kind, bidirectional=True), torch.tensor([6, 1, 4, 2, 3]), torch.randn(T, B, D).double()
    counts = (torch.arange(T).unsqueeze(1) < lengths).unsqueeze(-1)
    with gf.record(layer, tmp_path / "padded", examples="all", reduction="sum") as recorder:
        (layer(x)[0].sin() * counts).sum().backward()
        recorder.step(lengths=lengths)
    run = gf.open_run(tmp_path / "padded")
    assert run.proof == "proved"
    with gf.record(layer, tmp_path / "alone", examples="all", reduction="sum") as recorder:
        sum((layer(x[:, b])[0].sin() * counts[:, b]).sum() for b in range(B)).backward()
        recorder.step()
    each = gf.open_run(tmp_path / "alone").frame("time", columns=["log_state_gradient_mean"])
    each = each[each.time < lengths.numpy()[each.call]].groupby(["direction", "time"]).log_state_gradient_mean.mean()
    mean = run.frame("time").set_index(["direction", "time"]).log_state_gradient_mean
    assert mean.to_numpy() == pytest.approx(each.to_numpy(), rel=1e-5)
    _scale_epsilon(monkeypatch)
    with gf.record(layer, tmp_path / "wrong", examples="all") as recorder:
        (layer(x)[0].sin() * counts).sum().backward()
        recorder.step(lengths=lengths)
    assert gf.open_run(tmp_path / "wrong").proof == "failed"


def test_residuals_are_those_of_their_definition(tmp_path, monkeypatch):
    """A gradient with one step doubled, against an own loop over steps in float64."""
    layer = made(nn.RNN)
    found = {}
    seen_by = proof.prove

    def keep(calls, added):
        calls = list(calls)
        seen = calls[0][1]
        seen.reading._kept = {n: {(0, 0): {"h": p[0, 0]["h"].clone()}} for n, p in seen.reading._kept.items()}
        for places in seen.reading._kept.values():
            places[0, 0]["h"][2] *= 2
        found["residual"] = seen_by(calls, added)[0].backward
        return seen_by(calls, added)

    monkeypatch.setattr("gradflow.recording.states.prove", keep)
    record(layer, tmp_path)
    torch.manual_seed(1)
    x = torch.randn(T, B, D, dtype=torch.float64)
    h, states = torch.zeros(B, H).double(), []
    for t in range(T):
        before = h
        h = torch.tanh(x[t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0)
        h.retain_grad()
        states.append((before, h))
    output = torch.stack([h for _, h in states])
    loss = (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output) + 0.1).square().sum()
    layer.zero_grad()
    (loss + output[-1].sin().sum()).backward()
    shares = [
        (torch.einsum("bi,bj->bij", (1 - h.detach() ** 2) * h.grad, before.detach()), 2 if t == 2 else 1)
        for t, (before, h) in enumerate(states)
    ]
    wrong = sum(factor * share.sum(0) for share, factor in shares)
    size = max(layer.weight_hh_l0.grad.norm(), sum((f * s).square().sum() for s, f in shares).sqrt())
    assert found["residual"] == pytest.approx(float((wrong - layer.weight_hh_l0.grad).norm() / size), rel=1e-9)


def _halve_a_step(monkeypatch):  # one that is dropped is zero, where the recursion takes over, and is right
    copy = reading._Into.copy
    monkeypatch.setattr(reading._Into, "copy", lambda self, t, g: copy(self, t, (g[0] / 2,) if t == 2 else g))


def _shift_the_steps(monkeypatch):
    copy = reading._Into.copy
    monkeypatch.setattr(reading._Into, "copy", lambda self, t, g: copy(self, max(t - 1, 0), g))


def _mix_the_examples(monkeypatch):
    copy = reading._Into.copy
    monkeypatch.setattr(reading._Into, "copy", lambda self, t, g: copy(self, t, (g[0].roll(1, 0),)))


def _forget_a_pass(monkeypatch):
    of = reading.Reading.of
    monkeypatch.setattr(reading.Reading, "of", lambda self, passes, examples: of(self, passes[:1], examples))


READING = [_halve_a_step, _shift_the_steps, _mix_the_examples, _forget_a_pass]


@pytest.mark.parametrize("plant", READING)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_fault_in_reading_is_found(plant, kind, tmp_path, monkeypatch, caplog):
    layer = made(kind)
    plant(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert record(layer, tmp_path).proof == "failed"
    assert "failed its backward proof at iteration 0: layer 0, direction 0, call 0 has a residual of" in caplog.text


def _enter_the_gates_late(monkeypatch):
    gates = saved._gates
    monkeypatch.setattr(saved, "_gates", lambda *args: {name: gate.roll(1, 0) for name, gate in gates(*args).items()})


SHOWS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)
"""Whether torch is known to show what its steps saved; one that does not, as 2.4, has them replayed."""
needs_saved = pytest.mark.skipif(not SHOWS, reason="this torch may not show what its steps saved")


def _mix_the_gates(monkeypatch):
    gates = saved._gates
    monkeypatch.setattr(saved, "_gates", lambda *args: {name: gate.roll(1, 1) for name, gate in gates(*args).items()})


def _mix_the_outputs_below(monkeypatch):
    factor = saved._left_factor
    monkeypatch.setattr(saved, "_left_factor", lambda *arguments: factor(*arguments).roll(1, 1))


@needs_saved
@pytest.mark.parametrize(
    ("plant", "kinds", "identity"),
    [
        (_enter_the_gates_late, [nn.LSTM, nn.GRU, gf.GRU, gf.LSTM], "backward"),
        (_mix_the_gates, [nn.LSTM, nn.GRU, gf.GRU, gf.LSTM], "backward"),
        (_mix_the_outputs_below, LAYERS, "forward"),
    ],
)
def test_a_fault_in_what_was_saved_is_found(plant, kinds, identity, tmp_path, monkeypatch, caplog):
    plant(monkeypatch)
    for place, kind in enumerate(kinds):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert record(made(kind, num_layers=2), tmp_path / str(place)).proof == "failed", kind
        assert f"failed its {identity} proof at iteration 0" in caplog.text, kind


@pytest.mark.parametrize("kind", [nn.GRU, gf.GRU])
def test_a_gru_that_lets_hardly_anything_in_is_held_to_the_digits_that_it_has(kind, tmp_path, monkeypatch):
    for bias in (6.0, 9.0, 12.0, 15.0, 30.0):
        layer = made(kind, torch.float32)
        with torch.no_grad():
            layer.bias_ih_l0[H : 2 * H] = bias
        run = record(layer, tmp_path / str(bias))
        assert run.proof == ("proved" if bias < 30 else "unproved"), bias  # z is 1: no weight has a gradient
    gates = run.frame("gates")
    assert (gates.loc[gates["gate"] == "z", ["time_scale_q50", "time_scale_q90"]] == np.inf).all(axis=None)
    with torch.no_grad():
        layer.bias_ih_l0[H : 2 * H] = 9.0
    _mix_the_gates(monkeypatch)
    assert record(layer, tmp_path / "mixed").proof == ("failed" if SHOWS else "proved")


def _replay_only(monkeypatch):
    monkeypatch.setattr("gradflow.flow.watching.read", lambda call, examples: None)


def _enter_late(monkeypatch):
    entered = replay._with_previous

    def late(states, *rest):
        return entered(states, *rest)[0], entered(states.roll(1, 0), *rest)[1]

    monkeypatch.setattr(replay, "_with_previous", late)


def _lose_an_input(monkeypatch):
    forced = replay._teacher_forced

    def forget(cell, x, *rest, **options):
        x = x.clone()
        x[3] = 0
        return forced(cell, x, *rest, **options)

    monkeypatch.setattr(replay, "_teacher_forced", forget)


def _lose_a_gradient(monkeypatch):
    at_output = "gradflow.flow.adjoint._at_output"
    from gradflow.flow.adjoint import _at_output

    def forget(*arguments):
        return [None if part is None else part.index_fill(0, torch.tensor(3), 0) for part in _at_output(*arguments)]

    monkeypatch.setattr(at_output, forget)


def _lose_the_last_state(monkeypatch):
    from gradflow.flow import arriving

    ends = arriving.ends_within
    monkeypatch.setattr(arriving, "ends_within", lambda *arguments: tuple(part[:0] for part in ends(*arguments)))


def _scale_epsilon(monkeypatch):
    init = Block.__init__

    def scaled(self, *arguments, **named):
        init(self, *arguments, **named)
        object.__setattr__(self, "epsilon", self.epsilon * 1.001)

    monkeypatch.setattr(Block, "__init__", scaled)


REPLAY = [_enter_late, _lose_an_input, _lose_a_gradient, _lose_the_last_state, _scale_epsilon]


@pytest.mark.parametrize("plant", REPLAY)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_fault_in_the_replay_is_found(plant, kind, tmp_path, monkeypatch, caplog):
    layer = made(kind)
    _replay_only(monkeypatch)
    plant(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert record(layer, tmp_path).proof == "failed"
    assert "so its numbers are not those of the training; usual causes:" in caplog.text


@pytest.mark.parametrize("kind", LAYERS)
def test_the_replay_without_a_fault_is_proved(kind, tmp_path, monkeypatch):
    _replay_only(monkeypatch)
    assert record(made(kind, num_layers=2, bidirectional=True), tmp_path).proof == "proved"


def test_which_kernels_are_read():
    def way(kind, dtype, packed):
        layer, x = made(kind, dtype), torch.randn(T, B, D, dtype=dtype)
        x = pack_padded_sequence(x, torch.tensor([6, 5, 4, 3, 2])) if packed else x
        output, finals = layer(x)
        call = replay.LayerCall(layer, x, None, output, finals if isinstance(finals, tuple) else (finals,))
        return read(call, None) is not None

    for kind in LAYERS:
        assert way(kind, torch.float64, packed=False), kind
        assert way(kind, torch.float32, packed=True), kind
    assert way(nn.GRU, torch.float32, packed=False)
    assert not way(nn.RNN, torch.bfloat16, packed=False)


def test_frozen_weights_are_not_proved(tmp_path):
    layer = made(nn.RNN)
    layer.weight_hh_l0.requires_grad_(False)
    run = record(layer, tmp_path)
    assert run.proof == "unproved"
    assert run.frame("proof").backward_residual.isna().all()
    assert (run.frame("proof").forward_residual < 1e-9).all()


def test_divergence_is_no_failed_proof(tmp_path):
    layer = made(nn.RNN, torch.float32)
    x = torch.full((T, B, D), torch.nan)
    assert record(layer, tmp_path, x).proof == "unproved"


def test_a_probe_is_proved(tmp_path):
    layer, x = made(nn.GRU), torch.randn(T, B, D).double()
    probe = torch.randn(T, B, D).double(), None
    run = record(layer, tmp_path, x, probe=probe, criterion=lambda answer, y: answer[0].square().sum())
    assert run.proof == "proved"
    assert len(run.frame("proof")) == 2


def test_proofs_come_with_the_spectra_at_the_next_recording(tmp_path):
    layer, x = made(nn.RNN), torch.randn(T, B, D).double()
    with gf.record(layer, tmp_path, every=4, spectrum_every=6) as recorder:
        for _ in range(20):
            layer(x)[0].sum().backward()
            recorder.step()
    run = gf.open_run(tmp_path)
    assert run.frame("proof").iteration.tolist() == [0, 8, 12, 19]
    assert run.frame("proof").backward_residual.notna().tolist() == [True, True, True, False]
    spectral = run.frame("time").dropna(subset=["log_jacobian_spectral_mean"])
    assert spectral.iteration.unique().tolist() == [0, 8, 12, 19]


def test_a_gradient_below_the_range_of_its_dtype_is_found_by_the_recursion(tmp_path):
    layer, scale = made(nn.RNN, torch.float32), 1e-38
    x = torch.randn(T, B, D)
    with gf.record(layer, tmp_path, reduction="sum") as recorder:
        (layer(x)[0][-1].sum(-1) * torch.tensor([1.0, 1, 1, 1, scale])).sum().backward()
        recorder.step()
    plain = made(nn.RNN, torch.float64)
    states, h = [], torch.zeros(B, H).double()
    for t in range(T):
        h = torch.tanh(
            x[t].double() @ plain.weight_ih_l0.T + plain.bias_ih_l0 + h @ plain.weight_hh_l0.T + plain.bias_hh_l0
        )
        h.retain_grad()
        states.append(h)
    h[-1].sum().backward()
    expected = [float(state.grad[-1].norm().log()) + float(torch.tensor(scale).double().log()) for state in states]
    with gf.record(layer, tmp_path / "one", reduction="sum") as recorder:
        (layer(x[:, -1:])[0][-1].sum() * scale).backward()
        recorder.step()
    found = gf.open_run(tmp_path / "one").frame("time").log_state_gradient_mean
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", [nn.GRU, gf.LSTM])
def test_nothing_of_a_graph_is_kept(kind, tmp_path):
    """A recorded call's graph goes with the script's last reference to it, without the garbage collector."""
    layer, gone = made(kind), []

    class Last(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark = type("Mark", (), {})()
            gone.append(weakref.ref(ctx.mark))
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    gc.disable()
    try:
        with gf.record(layer, tmp_path, every=1) as recorder:
            for _ in range(3):
                layer(Last.apply(torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)))[0].sum().backward()
                recorder.step()
        assert [mark() for mark in gone] == [None] * 3
    finally:
        gc.enable()


def test_a_gradient_whose_memory_was_clipped_is_refused(tmp_path):
    layer, x = made(nn.GRU), torch.randn(T, B, D).double()
    with gf.record(layer, tmp_path) as recorder:
        layer(x)[0].square().sum().backward()
        seen = next(iter(recorder._watcher._since.reached.values()))
        next(iter(seen.passes.values()))["output"].mul_(0.1)
        with pytest.raises(RuntimeError, match="the gradient that arrived at the output of '' was changed in place"):
            recorder.step()


def test_a_script_that_sets_grad_itself_is_not_proved(tmp_path):
    layer, x = made(nn.RNN), torch.randn(T, B, D).double()
    with gf.record(layer, tmp_path) as recorder:
        gradients = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            parameter.grad = gradient
        recorder.step()
    assert gf.open_run(tmp_path).proof == "unproved"
