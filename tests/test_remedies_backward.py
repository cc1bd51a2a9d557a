"""What `watch_backward` sees of a training loop: against autograd's own gradients, and without a trace in training."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from test_replay import B, D, H, T, build, each_cell
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import gradflow as gf


def taken(layer, x, weight):
    with gf.watch_backward(layer) as backward:
        (layer(x)[0] * weight).sum().backward()
        return backward.take()


@each_cell
def test_traces_are_those_of_the_layer(cell):
    layer, x = build(cell, 2, bidirectional=True), torch.randn(T, B, D, dtype=torch.float64)
    weight = torch.randn(T, B, 2 * H, dtype=torch.float64)
    (found,) = taken(layer, x, weight)
    expected = gf.trace(layer, x)
    (expected.output * weight).sum().backward()
    mine, theirs = gf.state_gradients(found), gf.state_gradients(expected)
    for key in expected.keys():  # noqa: SIM118
        assert torch.equal(found[key].states["h"], expected[key].states["h"])
        assert torch.equal(mine[key].value["h"], theirs[key].value["h"])
    assert not found.call.trained_below


def test_chunks_of_truncated_backpropagation_come_in_order():
    layer, x = build("lstm"), torch.randn(3, T, B, D, dtype=torch.float64)
    with gf.watch_backward(layer) as backward:
        state, loss = None, 0
        for chunk in x:
            output, state = layer(chunk, state)
            loss = loss + output.square().sum()
            state = tuple(part.detach() for part in state)
        with torch.no_grad():
            layer(x[0])
        layer(x[1])  # an evaluation that no gradient reaches
        loss.backward()
        traces = backward.take()
        assert backward.take() == []
    assert all(torch.equal(trace.call.x, chunk) for trace, chunk in zip(traces, x, strict=True))
    shares = [gf.state_gradients(trace)[0, 0].weight_share.sum(0) for trace in traces]
    assert torch.allclose(sum(shares), layer.weight_hh_l0.grad, atol=1e-12)
    assert not any(trace.call.trained_below for trace in traces)


def test_all_backward_passes_of_a_step_count():
    """Accumulated gradients: the shares of all micro-batches are .grad."""
    layer, x = build("gru"), torch.randn(3, T, B, D, dtype=torch.float64)
    with gf.watch_backward(layer) as backward:
        for micro in x:
            layer(micro)[0].square().sum().backward()
        traces = backward.take()
    shares = [gf.state_gradients(trace)[0, 0].weight_share.sum(0) for trace in traces]
    assert torch.allclose(sum(shares), layer.weight_hh_l0.grad, atol=1e-12)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, D)
        self.below, self.above = nn.GRU(D, H), nn.LSTM(H, H)

    def forward(self, tokens):
        return self.above(self.below(self.embedding(tokens))[0])[0]


def test_every_layer_of_a_model():
    model = Two()
    with gf.watch_backward(model) as backward:
        model(torch.randint(0, 5, (T, B))).sum().backward()
        traces = backward.take()
    assert [trace.call.layer for trace in traces] == [model.below, model.above]
    assert all(trace.call.trained_below for trace in traces)


def test_reentrant_checkpoints_and_others():
    """A reentrant checkpoint runs the layer with its graph inside backward only, the other kind once more."""
    for reentrant in (True, False):
        layer = build("rnn")
        x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
        with gf.watch_backward(layer) as backward:
            checkpoint(layer, x, use_reentrant=reentrant)[0].square().sum().backward()
            traces = backward.take()
        share = gf.state_gradients(traces[0])[0, 0].weight_share.sum(0)
        assert len(traces) == 1
        assert torch.allclose(share, layer.weight_hh_l0.grad, atol=1e-12)


@pytest.mark.parametrize("first", ["recorder", "watch"])
def test_beside_the_recorder_in_either_order(tmp_path, first):
    """Both see the same, training is that without them, and the log is that of the recorder alone."""

    def train(path=None, watched=False):
        torch.manual_seed(0)
        model, x = nn.LSTM(D, H, 2, dropout=0.3), torch.randn(4, T, B, D)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        managers = [gf.record(model, path, every=1)] if path else []
        managers += [gf.watch_backward(model)] if watched else []
        managers = managers if first == "recorder" else managers[::-1]
        entered = [manager.__enter__() for manager in managers]
        for batch in x:
            optimizer.zero_grad()
            model(batch)[0].square().sum().backward()
            for one in entered:
                if hasattr(one, "take"):
                    (trace,) = one.take()
                    share = gf.state_gradients(trace)[1, 0].weight_share.sum(0)
                    assert torch.allclose(share.float(), model.weight_hh_l1.grad, atol=1e-4, rtol=1e-4)
                else:
                    one.step()
            optimizer.step()
        for manager in reversed(managers):
            manager.__exit__(None, None, None)
        return model.state_dict()

    plain, both, alone = train(), train(tmp_path / "both", watched=True), train(tmp_path / "alone")
    for name in plain:
        assert torch.equal(plain[name], both[name])
        assert torch.equal(plain[name], alone[name])
    logs = [gf.open_run(tmp_path / path).frame("time") for path in ("both", "alone")]
    assert logs[0].equals(logs[1])


def test_no_graph_is_held_and_hooks_go():
    layer, leaf = nn.RNN(D, H), torch.randn(T, B, D, requires_grad=True)
    with gf.watch_backward(layer) as backward:
        for with_backward in (True, False):
            x = leaf * 1  # held by whoever holds the graph
            output = layer(x)[0]
            held = weakref.ref(x)
            if with_backward:
                output.sum().backward(retain_graph=True)
            del x, output
            gc.collect()
            assert held() is None
            assert len(backward.take()) == with_backward
        output, _ = layer(leaf)
        output.sum().backward()
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks
    assert backward.take() == []


def test_a_watched_model_can_be_copied():
    layer = nn.RNN(D, H)
    with gf.watch_backward(layer) as backward:
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            other(torch.randn(T, B, D))[0].sum().backward()
        assert backward.take() == []


def test_packed_sequences():
    layer, lengths = build("rnn"), torch.tensor([3, 7, 1, 5])
    x = pack_padded_sequence(torch.randn(T, B, D, dtype=torch.float64), lengths, enforce_sorted=False)
    with gf.watch_backward(layer) as backward:
        layer(x)[1].sum().backward()
        (trace,) = backward.take()
    assert torch.equal(trace[0, 0].lengths, lengths)
    share = gf.state_gradients(trace)[0, 0].weight_share.sum(0)
    assert torch.allclose(share, layer.weight_hh_l0.grad, atol=1e-12)


def test_mistakes_by_name():
    with pytest.raises(ValueError, match=r"model: expected a recurrent layer .* in Linear, found none"):
        gf.watch_backward(nn.Linear(2, 2))
    layer, x = nn.RNN(D, H), torch.randn(T, B, D)
    with gf.watch_backward(layer) as backward:
        layer(x)[0].sum().backward()
        torch.optim.SGD(layer.parameters(), lr=0.1).step()
        with pytest.raises(RuntimeError, match=r"take: the weights of the RNN changed since its forward pass; call"):
            backward.take()
        output, _ = layer(x)
        output.sum().backward()
        output.detach().relu_()
        with pytest.raises(RuntimeError, match=r"take: the input, initial state or output of the RNN was changed in"):
            backward.take()
