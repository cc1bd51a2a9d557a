"""Gates and lower layers' outputs that the autograd graph has saved, against those that are computed anew."""

import pytest
import torch
from covering import each_pair
from test_proof import needs_saved
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradflow as gf
from gradflow.cells.layers import is_fused
from gradflow.flow.calls import LayerCall
from gradflow.flow.dropout import active_dropout
from gradflow.flow.reading import read
from gradflow.flow.replay import Trace

pytestmark = needs_saved

T, B, D, H = 6, 5, 3, 4
LENGTHS = torch.tensor([6, 1, 4, 2, 3])


def gru_after(*args, **options):
    return gf.GRU(*args, reset="after", **options)


KINDS = [nn.RNN, nn.LSTM, nn.GRU, gf.RNN, gf.LSTM, gf.GRU, gru_after]
STACKED = {"num_layers": 2, "bidirectional": True}


def called(kind, dtype, layout="plain", **options):
    """A layer's call on random input in some layout."""
    torch.manual_seed(0)
    layer = kind(D, H, batch_first=layout == "batch_first", **options).to(dtype)
    x = torch.randn(T, B, D, dtype=dtype)
    x = {
        "batch_first": lambda: x.transpose(0, 1),
        "unbatched": lambda: x[:, 0],
        "packed": lambda: pack_padded_sequence(x, LENGTHS, enforce_sorted=False),
    }.get(layout, lambda: x)()
    dropout = active_dropout(layer)
    output, finals = layer(x)
    return LayerCall(layer, x, None, output, finals if isinstance(finals, tuple) else (finals,), dropout=dropout)


def saved_of(call, examples=None):
    reading = read(call, examples)
    return None if reading is None else reading.saved


@each_pair(
    kind=KINDS,
    dtype=[torch.float32, torch.float64],
    layout=["plain", "batch_first", "unbatched", "packed"],
    options={"one layer": {}, "stacked": STACKED, "three without bias": {"num_layers": 3, "bias": False}},
    examples={"all": None, "some": [0, 2, 3]},
)
def test_what_was_saved_is_what_is_computed_anew(kind, dtype, layout, options, examples):
    examples = [0] if layout == "unbatched" and examples else examples
    call = called(kind, dtype, layout, **options)
    saved = saved_of(call, examples)
    if saved is None or (layout == "packed" and is_fused(call.layer)):
        assert layout == "packed" or (kind is nn.LSTM and dtype == torch.float32)  # in no graph
        assert saved is None or (saved.gates, saved.outputs) == ({}, {})
        return
    taken, anew = Trace(call, examples, None, saved), Trace(call, examples)
    assert set(saved.gates) == (set() if kind in (nn.RNN, gf.RNN) else set(anew.keys()))
    assert set(saved.outputs) == set(range(options.get("num_layers", 1) - 1))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-14}
    for place in anew.keys():  # noqa: SIM118
        a, b = taken[place], anew[place]
        valid = torch.ones(a.like.shape[:2], dtype=torch.bool) if a.valid is None else a.valid
        for found, expected in ((a.gates, b.gates), (a.states, b.states), (a.previous, b.previous)):
            for name, part in expected.items():
                torch.testing.assert_close(found[name][valid], part[valid], **tolerance)
                assert found[name].isfinite().all()
        norms = (step.jacobian.frobenius_norm()[valid] for step in (a, b))
        torch.testing.assert_close(*norms, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_h_in_the_candidate_needs_no_product(kind):
    saved = saved_of(called(kind, torch.float64))
    assert all(("hn" in gates) == (kind in (nn.GRU, gru_after)) for gates in saved.gates.values())


@pytest.mark.parametrize("kind", KINDS)
def test_copies_hold_neither_graph_nor_its_memory(kind):
    call = called(kind, torch.float64, **STACKED)
    saved = saved_of(call)
    parts = [part for gates in saved.gates.values() for part in gates.values()] + list(saved.outputs.values())
    assert parts
    assert not any(part.requires_grad for part in parts)
    before = [part.clone() for part in parts]
    call.output.data.detach().zero_()
    assert all(map(torch.equal, parts, before))


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_that_dropout_changed_are_not_taken(kind):
    assert not saved_of(called(kind, torch.float64, num_layers=2, dropout=0.5)).outputs


def test_outputs_of_which_nothing_is_saved_are_not_taken():
    call = called(nn.GRU, torch.float64, num_layers=2)
    call.layer.weight_ih_l1.requires_grad_(False)
    output, h_n = call.layer(call.x)
    assert not saved_of(LayerCall(call.layer, call.x, None, output, (h_n,))).outputs


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_unpacked_from_hooks(kind):
    """In a checkpoint it would run the layer again."""
    unpacked = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpacked.append):
        saved = saved_of(called(kind, torch.float64, **STACKED))
    assert (saved.gates, saved.outputs, unpacked) == ({}, {}, [])
