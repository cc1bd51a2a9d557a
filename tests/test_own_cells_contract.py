"""What a cell of the user's own must keep to: check_cell finds what is wrong, and errors say what to do."""

import pytest
import torch
from test_own_cells import CELLS, LSTM, B, ClosedTanh, D, Fading, H, T, Tanh, build
from torch import nn

import gradflow as gf


def test_check_cell_passes():
    for name, (make, _) in CELLS.items():
        cell = build(name, torch.float32).cell
        before, state = {key: value.clone() for key, value in cell.state_dict().items()}, torch.get_rng_state()
        gf.testing.check_cell(cell, input_size=D)
        assert all(torch.equal(before[key], value) for key, value in cell.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
        assert make().state_names == cell.state_names


def wrong(base, **methods):
    """A cell with a mistake: of a class `Wrong` with some methods replaced."""
    torch.manual_seed(0)
    return type("Wrong", (base,), methods)()


def transposed(self, gates, state, previous):
    return gf.Coefficients(rows={"h": (1 - previous["h"] ** 2).unsqueeze(1)})


def no_trace(self, gates, state, previous):
    form = Fading.coefficients(self, gates, state, previous)
    return gf.Coefficients(form.rows, {pair: v for pair, v in form.diagonal.items() if pair != ("trace", "h")})


def half(self, gates, state, previous):
    return gf.Coefficients(diagonal={("h", "h"): torch.ones(H - 1)})


def mixing(self, x_t, state):
    return {"h": state["h"] - state["h"].mean(0)}


def in_place(self, x_t, state):
    state["h"].mul_(0.5)
    return {"h": state["h"] + 1}


def with_dropout(self, x_t, state):
    return {"h": nn.functional.dropout(state["h"])}


def narrow(self, x_t, state):
    return {"h": state["h"].float()}


@pytest.mark.parametrize(
    ("base", "methods", "words"),
    [
        (
            ClosedTanh,
            {"coefficients": transposed},
            r"closed form of ∂h/∂h is not the derivative.*against.*at index \(0,",
        ),
        (
            Fading,
            {"coefficients": no_trace},
            r"closed form of ∂trace/∂h is not the derivative of step: -?0 against 0\.1",
        ),
        (Tanh, {"coefficients": half}, r"Wrong.coefficients: .*a shape that ends in \(5,\), got \(4,\)"),
        (Tanh, {"coefficients": transposed}, r"rows multiply the cell's weight_hh .*and no weight_hh"),
        (Tanh, {"step": mixing}, r"take each example by itself, but alone example 0 gives another 'h'"),
        (Tanh, {"step": in_place}, r"step changed its input.*state 'h'"),
        (Tanh, {"step": with_dropout}, r"draws random numbers"),
        (Tanh, {"step": narrow}, r"expected state 'h' in float64.*torch.float32"),
        (Tanh, {"step": lambda self, x_t, state: {}}, r"expected a dict of the states \['h'\], got \[\]"),
        (Tanh, {"steps": lambda self, x: lambda t, s: self.step(x[0], s)}, r"steps gives another state 'h' than step"),
        (Tanh, {"output_names": ("c",)}, r"output_names to be a tuple out of the states \('h',\), got \('c',\)"),
    ],
)
def test_check_cell_says_what_is_wrong(base, methods, words):
    with pytest.raises(AssertionError, match=words):
        gf.testing.check_cell(wrong(base, **methods), input_size=D)


@pytest.mark.parametrize(
    ("base", "methods", "words"),
    [
        (LSTM, {"step": lambda self, x, s: {"h": s["h"]}}, r"Wrong.step: .*states \['h', 'c'\], got \['h'\]; return"),
        (
            Tanh,
            {"step": lambda self, x, s: s | {"c": s["h"]}},
            r"expected a dict of the states \['h'\], got \['h', 'c'\]",
        ),
        (Tanh, {"step": lambda self, x, s: s["h"]}, r"expected a dict of the states \['h'\], got Tensor"),
        (Tanh, {"step": lambda self, x, s: {"h": s["h"][:, :2]}}, r"state 'h' of shape \(4, 5\).*got \(4, 2\)"),
        (Tanh, {"step": lambda self, x, s: {"h": s["h"] * 1j}}, r"real numbers in state 'h'.*as two states"),
    ],
)
def test_step_that_returns_something_else(base, methods, words):
    with pytest.raises(ValueError, match=words):
        gf.Recurrent(wrong(base, **methods))(torch.zeros(T, B, D))


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match=r"cell: expected a gradflow.Cell, got Linear; make it a subclass"):
        gf.Recurrent(nn.Linear(2, 2))
    nameless = type("Nameless", (gf.Cell,), {})
    with pytest.raises(ValueError, match=r"Nameless.hidden_size.*got None; set self.hidden_size"):
        gf.Recurrent(nameless())
    with pytest.raises(
        ValueError, match=r'state_names to be a tuple of distinct names such as \("h", "c"\), got \'re\''
    ):
        gf.Recurrent(wrong(Tanh, state_names="re"))
    layer = gf.Recurrent(LSTM())
    with pytest.raises(ValueError, match=r"hx: expected a tensor \(1, 4, 5\) for each of the states \['h', 'c'\], got"):
        layer(torch.zeros(T, B, D), torch.zeros(1, B, H))
    with pytest.raises(ValueError, match=r"input: expected \[T, B, D\].*got shape \(3,\)"):
        layer(torch.zeros(3))
    with pytest.raises(TypeError, match=r"torch's weight_hh, got LSTM, a cell of your own"):
        gf.recurrent_spectrum(layer)
    with pytest.raises(TypeError, match=r"torch's weight_hh, got LSTM, a cell of your own"):
        gf.initialise_(layer, "orthogonal")
    with pytest.raises(KeyError, match=r"block: expected two of the states \('h', 'c'\), got 'x'"):
        gf.trace(layer, torch.zeros(T, B, D))[0, 0].jacobian.block("x", "h")
    with pytest.raises(TypeError, match=r"make a cell of your own with gradflow.Recurrent"):
        gf.trace(LSTM(), torch.zeros(T, B, D))


def test_dropout_inside_of_a_step_is_refused_by_name():
    seen = gf.trace(gf.Recurrent(wrong(Tanh, step=with_dropout)), torch.zeros(T, B, D))
    state = torch.get_rng_state()
    with pytest.raises(NotImplementedError, match=r"Wrong.step draws random numbers.*outside of the cell"):
        seen[0, 0]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_that_fails_in_float64_says_who_ran_it():
    def step(self, x_t, state):
        return {"h": state["h"] @ torch.eye(H)}

    seen = gf.trace(gf.Recurrent(wrong(Tanh, step=step)), torch.zeros(T, B, D))
    with pytest.raises(RuntimeError) as caught:
        seen[0, 0].jacobian.double().dense()
    assert "gradflow ran Wrong.step in torch.float64 on 24 examples" in caught.value.__notes__[0]
