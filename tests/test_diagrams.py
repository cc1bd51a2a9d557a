"""Diagrams: their texts and numbers are the table's, nothing overlaps; the tables of the two that theory computes."""

import logging
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from exact_tables import table
from figure_checks import check_nothing_overlaps, drawn, words
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from synthetic_runs import Planted, config_of, write_run
from torch import nn

import gradflow as gf
from gradflow import analysis, figures
from gradflow.config import CellConfig, Config, DataConfig, TrainConfig
from gradflow.data import one_hot
from gradflow.figures.catalogue import Labels, short, texts
from gradflow.figures.diagram import Node, arrow, canvas, mixed
from gradflow.figures.room import rooms
from gradflow.figures.theme import LANGUAGES
from gradflow.figures.unrolled_graph.plot import PLACES
from gradflow.theory import additive, chain, unrolled
from gradflow.theory.networks import generator, seeded
from gradflow.training.loop import train

EXACT = ("unrolled_graph", "chain_rule", "residual_analogy")
CELLS = ("lstm", "gru", "gru_before")


def exact(name: str, **options) -> Figure:
    return figures.EXACT[name].plot(table(name), claims=figures.EXACT[name].check(table(name)), **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short real runs of every gated cell, and of one without gates."""
    folder = tmp_path_factory.mktemp("trained")
    data = DataConfig(train_size=60, test_size=20, names_per_sequence=3)
    for cell in (*CELLS, "rnn"):
        config = Config(
            data=data, cell=CellConfig(name=cell, hidden_size=8), train=TrainConfig(iterations=3, batch_size=20)
        )
        train(config, folder / cell)
    return folder


@pytest.fixture
def run_of(tmp_path: Path):
    def write(name: str = "run", planted: Planted = Planted(), **config):  # noqa: B008
        return gf.open_run(write_run(tmp_path / name, config_of(**config), planted))

    return write


def cell_figure(run, **options) -> Figure:
    data = analysis.gate_means(run)
    return figures.plot_cell_diagram(data, claims=analysis.gate_means_claims(data), **options)


# --- what they are drawn with ----------------------------------------------------------------------------------------

sides, places = st.floats(0.1, 5), st.floats(-20, 20)


@given(x=places, y=places, width=sides, height=sides, angle=st.floats(0, 6.28), round=st.booleans())
def test_arrows_end_at_the_edge_of_what_they_point_at(x, y, width, height, angle, round):
    node = Node(x, y, width, height, round)
    at_x, at_y = node.toward((x + 50 * np.cos(angle), y + 50 * np.sin(angle)))
    across, up = (at_x - x) / (width / 2), (at_y - y) / (height / 2)
    assert (np.hypot(across, up) if round else max(abs(across), abs(up))) == pytest.approx(1, abs=1e-6)
    assert np.cos(angle) * (at_y - y) == pytest.approx(np.sin(angle) * (at_x - x), abs=1e-6)
    assert np.cos(angle) * (at_x - x) + np.sin(angle) * (at_y - y) > 0


def test_an_arrow_goes_from_edge_to_edge_by_its_corners():
    with figures.style():
        axes = canvas(Figure(), 10, 10)
        arrow(axes, Node(1, 1, 1, 1), (5, 1), Node(5, 5, 2, 2, round=True), width=1.0)
    (line,), (head,) = axes.lines, axes.findobj(mpl.patches.Polygon)
    assert line.get_xydata()[:2].tolist() == [[1.5, 1], [5, 1]]
    assert head.get_xy()[1].tolist() == [5, 4]
    assert head.get_xy()[:, 1].min() < line.get_xydata()[-1][1] < 4, "the line ends within the point"


def test_colours_are_mixed_with_white():
    assert (mixed("#d55e00", 1.0), mixed("#d55e00", 0.0)) == ("#d55e00", "#ffffff")


# --- nothing overlaps ------------------------------------------------------------------------------------------------

each_context = pytest.mark.parametrize("context", ["paper", pytest.param("slide", marks=pytest.mark.slow)])


@each_context
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", EXACT)
def test_nothing_overlaps_in_what_is_exact(name, lang, context):
    check_nothing_overlaps(exact(name, lang=lang, context=context))


@each_context
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("cell", CELLS)
def test_nothing_overlaps_in_a_cell(cell, lang, context, trained):
    check_nothing_overlaps(cell_figure(gf.open_run(trained / cell), lang=lang, context=context))


def test_what_overlaps_is_found():
    with figures.style():
        figure = Figure()
        axes = canvas(figure, 10, 10)
        axes.text(5, 5, "here")
        check_nothing_overlaps(figure)
        arrow(axes, (0, 5.1), (10, 5.1))
        with pytest.raises(AssertionError, match="'here' has a line through it"):
            check_nothing_overlaps(figure)
        axes.text(5, 5.1, "and here")
        with pytest.raises(AssertionError, match="'and here' lies on 'here'"):
            check_nothing_overlaps(figure)
        axes.texts[0].set_position((14, 5))
        with pytest.raises(AssertionError, match="'here' is cut off"):
            check_nothing_overlaps(figure)


# --- unrolled_graph --------------------------------------------------------------------------------------------------


def test_the_unrolled_graph_shows_the_numbers_of_its_table():
    figure = exact("unrolled_graph", context="paper")
    gradient = table("unrolled_graph").query("quantity == 'gradient'").sort_values("time")["measured"].to_numpy()
    (axes,) = figure.axes
    for step, x in PLACES.items():
        column = [text.get_text() for text in axes.texts if text.get_position()[0] == x]
        assert short(np.exp(gradient[step])) in column
        assert f"$h_{{{'T' if step == -1 else step + 1 if step >= 0 else f'T{step + 1}'}}}$" in column
    for text in (
        "×0.57 / step",
        "$W_{hh}$",
        "$W_{hx}$",
        "$W_{yh}$",
        "$L$",
        "diag",
        "Each step back leaves 0.57",
        "$T = 20$",
        "/ 19 steps",
    ):
        assert text in words(figure)


def test_the_path_of_the_gradient_gets_finer_and_paler():
    figure = exact("unrolled_graph")
    back = [line for line in figure.axes[0].lines if np.all(np.diff(line.get_xdata()) < 0)]
    places = [float(line.get_xdata()[0]) for line in back]
    ordered = [back[i] for i in np.argsort(places)]
    widths = [line.get_linewidth() for line in ordered]
    greens = [mpl.colors.to_rgb(line.get_color())[1] for line in ordered]
    assert len(back) == 5
    assert np.all(np.diff(widths) > 0)
    assert np.all(np.diff(greens) < 0), "vermillion mixed with ever less white"


def test_gradients_of_the_unrolled_graph_are_those_of_autograd():
    size, steps, examples = unrolled.SIZE, unrolled.STEPS, unrolled.EXAMPLES
    layer = seeded(lambda: nn.RNN(unrolled.SYMBOLS, size, dtype=torch.float64), 5, 1)
    source = generator(5, 1)
    x, direct = unrolled.symbols(source), unrolled.read_out(source)
    h, states = torch.zeros(examples, size, dtype=torch.float64), []
    for t in range(steps):
        a = x[t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
        h = torch.tanh(a)
        h.retain_grad()
        states.append(h)
    (h * direct).sum().backward()
    norms = torch.stack([state.grad.norm(dim=-1).log() for state in states[::-1]])
    np.testing.assert_allclose(unrolled.rnn_gradients(5, 1), norms - norms[0], atol=1e-12)


def test_a_layer_as_torch_starts_it_leaves_the_source_of_random_numbers_alone():
    torch.manual_seed(3)
    wanted = nn.RNN(2, 3).weight_hh_l0, torch.rand(1)
    torch.manual_seed(3)
    seeded(lambda: nn.RNN(4, 5), 0, 1)
    assert torch.equal(nn.RNN(2, 3).weight_hh_l0, wanted[0])
    assert torch.equal(torch.rand(1), wanted[1])


# --- chain_rule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_chain_rule_is_derived_line_by_line(lang):
    steps = [words(step) for step in built_of("chain_rule", table("chain_rule"), lang)]
    appears = [r"h_t = \tanh(a_t)", "h_{t-1}}", r"\prod_{t=2}^{11}", "= 0.0029"]
    assert [[text in step for step in steps] for text in appears] == [
        [number >= first for number in range(4)] for first in range(4)
    ]
    assert [r"\partial L_t/" in step for step in steps] == [False, False, True, False], "a remark on one line"


def test_the_chain_rule_shows_the_numbers_of_its_table():
    data, said = table("chain_rule"), [text.get_text() for text in exact("chain_rule").axes[0].texts]
    values = data.set_index("quantity")["measured"]
    for quantity in ("tanh", "weights", "factor"):
        assert values[quantity].size == chain.STEPS
        assert all(short(value) in said for value in values[quantity])
    assert all(f"{value:.3f}" in said for value in values["derivative"])
    assert all(f"{value:.2f}".replace("-", "−") in said for value in values["weight"])
    assert said.count("0") == chain.SHOWN**2 - chain.SHOWN


def test_factors_of_the_chain_are_what_autograd_finds():
    """Of every step the Jacobian is autograd's own; so is the gradient at the first state."""
    layer = seeded(lambda: nn.RNN(unrolled.SYMBOLS, unrolled.SIZE, dtype=torch.float64), 3, 0)
    source = generator(3, 0)
    x, delta = unrolled.symbols(source)[: chain.STEPS + 1, :1], unrolled.read_out(source)[:1]
    h, found = torch.zeros(1, unrolled.SIZE, dtype=torch.float64), {}
    states = [h]
    for symbol in x:
        states.append(layer(symbol[None], states[-1][None])[0][0])
    (whole,) = torch.autograd.grad(states[-1], states[1], delta, retain_graph=True)
    last = delta
    for time in range(chain.STEPS + 1, 1, -1):
        (before,) = torch.autograd.grad(states[time], states[time - 1], last, retain_graph=True)
        found[time], last = float(before.norm() / last.norm()), before
    data = chain.chain_of_jacobians(3).query("quantity in ('factor', 'product')").set_index(["quantity", "time"])
    for time, factor in found.items():
        assert data.loc[("factor", time), "measured"] == pytest.approx(factor, rel=1e-12)
    assert data.loc["product", "measured"].tolist() == pytest.approx([float(whole.norm() / delta.norm())], rel=1e-12)


# --- residual_analogy ------------------------------------------------------------------------------------------------


def test_the_analogy_shows_the_numbers_of_its_table():
    data = table("residual_analogy")
    far = np.exp(data.loc[(data["lag"] == data["lag"].max()) & (data["path"] == "whole"), "measured"])
    said = words(exact("residual_analogy", context="paper")).split("\n")
    for text in ("×1", "×0.73", "×0.95", "×0.57 / step", *map(short, far)):
        assert text in said
    assert "all paths" in said
    assert any("through $F$ or the gates" in line for line in said)


@pytest.mark.parametrize("bias", [1.0, 3.0])
def test_the_straight_path_is_what_autograd_finds_with_the_gates_held_fixed(bias):
    """A detached h leaves c_{t-1} -> c_t alone; the whole gradient is autograd's on c, less o tanh' times that on h."""
    layer = seeded(lambda: nn.LSTM(additive.SYMBOLS, additive.SIZE, dtype=torch.float64), 2, 0)
    gf.initialise_(layer, forget_bias=bias)
    source = generator(2, 0)
    x, direct = unrolled.symbols(source), unrolled.read_out(source)
    measured = additive._lstm(bias, 2, 0)
    for path in ("straight", "whole"):
        h = c = torch.zeros(additive.EXAMPLES, additive.SIZE, dtype=torch.float64)
        steps = []
        for t in range(additive.STEPS):
            seen = h.detach() if path == "straight" else h
            a = x[t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + seen @ layer.weight_hh_l0.T + layer.bias_hh_l0
            i, f, g, o = a.chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            steps.append((c, h, torch.sigmoid(o) * (1 - torch.tanh(c) ** 2)))
            c.retain_grad()
            h.retain_grad()
        (h * direct).sum().backward()
        adjoint = [
            c.grad - (0 if t == additive.STEPS - 1 else shown * (0 if h.grad is None else h.grad))
            for t, (c, h, shown) in enumerate(steps)
        ]
        norms = torch.stack([value.norm(dim=-1).log() for value in adjoint[::-1]]).detach()
        np.testing.assert_allclose(measured[path], norms - norms[0], atol=1e-12)


def test_the_residual_network_is_what_autograd_finds():
    source = generator(2, 0)
    weight = (2 * torch.rand(additive.STEPS, 64, 64, generator=source, dtype=torch.float64) - 1) / 8
    x, direct = torch.randn(1, 16, 64, generator=source, dtype=torch.float64)[0], unrolled.read_out(source)
    layers = []
    for W in weight:
        x = x.detach() + torch.tanh(x.detach()) @ W.T if not layers else x + torch.tanh(x) @ W.T
        x.requires_grad_()
        x.retain_grad()
        layers.append(x)
    (x * direct).sum().backward()
    norms = torch.stack([x.grad.norm(dim=-1).log() for x in layers[::-1]])
    measured = additive._residual(2, 0)
    np.testing.assert_allclose(measured["whole"], norms - norms[0], atol=1e-12)
    assert not measured["straight"].any()


# --- figures that are built up ---------------------------------------------------------------------------------------


def built_of(name: str, data, lang: str) -> list[Figure]:
    """The steps of a figure, small; what is said and drawn only grows, stays where it is, and overlaps in none."""
    room = rooms()[name]
    claims, steps = room.check(data), []
    for step in range(1, room.steps + 1):
        steps.append(room.plot(data, claims=claims, lang=lang, context="paper", step=step))
        check_nothing_overlaps(steps[-1])
        assert Labels(lang).headline(claims[0], step)[:8] in words(steps[-1]).replace("\n", " " * (lang == "en"))
    for before, after in pairwise(steps):
        assert before.axes[0].get_position().bounds == pytest.approx(after.axes[0].get_position().bounds)
        assert len(drawn(before)) < len(drawn(after)) or len(before.findobj()) < len(after.findobj())
    whole = room.plot(data, claims=claims, lang=lang, context="paper")
    assert [text.text for text in drawn(steps[-1])] == [text.text for text in drawn(whole)]
    assert all(f"build.{claims[0]['build']}_{step}" in texts(lang) for step in range(1, room.steps))
    return steps


@pytest.mark.parametrize(("cell", "lang"), [("lstm", "en"), ("gru_before", "zh"), ("gru", "en")])
def test_a_cell_is_built_up_gate_by_gate(cell, lang, trained):
    steps = built_of("cell_diagram", analysis.gate_means(gf.open_run(trained / cell)), lang)
    gates = [sum(r"\ldots" in text.get_text() for text in step.axes[0].texts) for step in steps]
    assert gates == ([1, 3, 3, 4, 4] if cell == "lstm" else [1, 2, 3, 3, 3])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_name_is_looked_up_and_then_encoded(lang):
    steps = [[text.text for text in drawn(step)] for step in built_of("one_hot", one_hot(), lang)]
    looked_up = [sum(" → " in text for text in step) for step in steps]
    ones = [step.count("1") for step in steps]  # an index of the dictionary is one of them
    assert (looked_up, ones) == ([0, 3, 3], [1, 1, 4])


@pytest.mark.parametrize(
    ("name", "network", "lang"),
    [("stacked_lattice", {"layers": 5}, "en"), ("bidirectional_profile", {"bidirectional": True}, "zh")],
)
def test_a_network_is_drawn_then_measured(name, network, lang, run_of):
    data = figures.GALLERY[name].analyse([run_of(**network)])
    diagram, measured = built_of(name, data, lang)
    assert "$x_{1}$" in words(diagram)
    assert words(diagram).split("\n").count("$L$") == 1, "there is one loss"
    assert [axes.get_visible() for axes in diagram.axes] == [True] + [False] * (len(diagram.axes) - 1)
    assert all(axes.get_visible() for axes in measured.axes)
    assert (r"$h_{T}^{(5)}$" in words(diagram)) == (name == "stacked_lattice")


def test_several_networks_have_no_diagram(run_of):
    runs = [run_of("one", layers=2), run_of("two", layers=2, init="orthogonal")]
    data = figures.GALLERY["stacked_lattice"].analyse(runs)
    assert "$x_{1}$" not in words(figures.plot_stacked_lattice(data))
    with pytest.raises(ValueError, match="step: expected none for 2 networks, which have no diagram; draw one network"):
        figures.plot_stacked_lattice(data, step=1)


def test_a_step_that_a_figure_has_not_is_refused(trained):
    with pytest.raises(ValueError, match="step: expected a number from 1 to 5, got 6; without it all is drawn"):
        cell_figure(gf.open_run(trained / "lstm"), step=6)


# --- cell_diagram ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_shows_the_means_of_its_gates(cell, trained):
    run = gf.open_run(trained / cell)
    data, figure = analysis.gate_means(run), cell_figure(run, context="paper")
    gates, said = run.frame("gates"), [text.get_text() for text in figure.axes[0].texts]
    valid = run.frame("time").groupby(["iteration", "time"])["valid"].first()
    for (gate, iteration), mean in data.set_index(["gate", "iteration"])["mean"].items():
        own = gates[(gates["gate"] == gate) & (gates["iteration"] == iteration)].set_index("time")["mean"]
        weights = valid[iteration].reindex(own.index)
        assert mean == pytest.approx((own * weights).sum() / weights.sum(), rel=1e-6)
        assert rf"${gate} = \sigma(\ldots)$" in said
    assert [text for text in said if text.startswith("0.")] == [
        f"{mean:.2f}" for gate in ("fio" if cell == "lstm" else "zr") for mean in data.loc[data["gate"] == gate, "mean"]
    ]
    kept = data[data["gate"].isin(["f", "z"]) & (data["when"] == "after")].iloc[0]
    written = f"×{kept['mean']:.2f} a step: {short(kept['mean'] ** kept['steps'])} after {kept['steps']} steps"
    assert written in said
    candidate = {"lstm": "g", "gru": "n", "gru_before": r"\tilde{h}"}[cell]
    assert rf"${candidate} = \tanh(\ldots)$" in said
    assert set(data["when"]) == {"before", "after"}


def test_gates_have_the_colours_of_their_means(run_of):
    run = run_of(cell="lstm", init="remember")
    figure = cell_figure(run)
    halves = [patch for patch in figure.axes[0].findobj(mpl.patches.Rectangle) if patch.get_width() == 2.3 / 2]
    means = analysis.gate_means(run).set_index(["gate", "when"])["mean"]
    wanted = [mpl.colormaps["viridis"](means[gate, when]) for gate in "fio" for when in ("before", "after")]
    np.testing.assert_allclose([half.get_facecolor() for half in halves], wanted, atol=1 / 255)


def test_the_reset_gate_acts_where_it_does(trained):
    """Before the product: h meets × first. After it, as in torch: h meets W_hn first."""
    for cell, first in (("gru", "$W_{hn}$"), ("gru_before", "×")):
        (axes, *_) = cell_figure(gf.open_run(trained / cell)).axes
        (rail,) = [line for line in axes.lines if len(line.get_xdata()) == 4]
        x = rail.get_xdata()[-1]
        above = [(text.get_position()[1], text.get_text()) for text in axes.texts if text.get_position()[0] == x]
        above += [(shape.center[1], "×") for shape in axes.findobj(mpl.patches.Circle) if shape.center[0] == x]
        assert min(above) == (min(above)[0], first)
        assert (r"r \odot (W_{hn} h_{t-1}" in words(axes.figure)) == (cell == "gru")
        assert (r"W_{hn} (r \odot h_{t-1})" in words(axes.figure)) == (cell == "gru_before")


def test_gate_means_of_planted_runs(run_of):
    data = analysis.gate_means(run_of(cell="lstm", init="remember"))
    before, after = data[data["when"] == "before"], data[data["when"] == "after"]
    np.testing.assert_allclose(before["mean"], 1 / (1 + np.exp(-3)), rtol=1e-5)
    np.testing.assert_allclose(after["mean"], (1 / (1 + np.exp(-3))) ** 0.5, rtol=1e-5)
    assert data["gate"].tolist() == ["i", "f", "o", "i", "f", "o"]
    first, second = analysis.gate_means_claims(data)
    assert (first["claim"], first["holds"], second["claim"], second["holds"]) == (
        "forget_gate_keeps",
        True,
        "gate_starts_at_bias",
        True,
    )
    assert first["value"] == pytest.approx(after["mean"].iloc[0] ** 30, rel=1e-4)
    assert first["kept_first"] == pytest.approx(before["mean"].iloc[0] ** 30, rel=1e-4)


def test_what_is_said_of_a_gate_is_of_the_last_record_even_where_that_is_lost(run_of):
    data = analysis.gate_means(run_of(cell="gru", init="remember"))
    data.loc[(data["gate"] == "r") & (data["when"] == "after"), "mean"] = np.nan
    claim, _ = analysis.gate_means_claims(data)
    after = data[data["when"] == "after"].set_index("gate")["mean"]
    assert (claim["mean_z"], claim["rest"]) == (after["z"], f"{1 - after['z']:.2f}")
    assert "NaN" in Labels("en").headline(claim, 2)
    lost = analysis.gate_means_claims(data.assign(mean=np.nan))[0]
    assert "NaN of the old one and NaN" in Labels("en").headline(lost, 4)


def test_positions_count_by_their_examples(run_of, monkeypatch):
    run = run_of(cell="gru")
    frames = {name: run.frame(name) for name in ("gates", "time")}
    frames["gates"]["mean"] = np.where(frames["gates"]["time"] == 0, 1.0, 0.0)
    frames["time"]["valid"] = np.where(frames["time"]["time"] == 0, 30, 10)
    frames["time"].loc[frames["time"]["time"] > 3, "valid"] = 0
    frames["gates"].loc[frames["gates"]["time"] > 3, "mean"] = np.nan
    monkeypatch.setattr(type(run), "frame", lambda self, table, columns=None: frames[table])
    data = analysis.gate_means(run)
    assert data["mean"].tolist() == [0.5] * 4
    assert set(data["steps"]) == {4}
    frames["time"] = frames["time"].iloc[:0]
    assert analysis.gate_means(run)["mean"].isna().all(), "without counts a NaN is not hidden"


def test_claims_of_gates_fail_on_wrong_numbers(run_of):
    data = analysis.gate_means(run_of(cell="gru", init="remember"))

    def verdicts(**changes):
        return {claim["claim"]: claim["holds"] for claim in analysis.gate_means_claims(data.assign(**changes))}

    assert verdicts() == {"update_gate_keeps": True, "gate_starts_at_bias": True}
    assert verdicts(mean=0.5) == {"update_gate_keeps": False, "gate_starts_at_bias": False}, "it forgets"
    assert verdicts(mean=0.4, steps=1)["update_gate_keeps"] is False, "0.4 is not most of a state"
    assert verdicts(mean=1.2) == {"update_gate_keeps": False, "gate_starts_at_bias": False}
    assert verdicts(mean=np.nan) == {"gates_lost": False, "gate_starts_at_bias": False}
    assert verdicts(expected=0.5) == {"update_gate_keeps": True, "gate_starts_at_bias": False}
    assert verdicts(expected=np.nan) == {"update_gate_keeps": True}


def test_a_run_that_was_recorded_once_has_one_number_in_each_gate(run_of):
    run = run_of(planted=Planted(iterations=1), cell="lstm")
    data = analysis.gate_means(run)
    figure = cell_figure(run, context="paper")
    assert set(data["when"]) == {"before"}
    assert [text.get_text() for text in figure.axes[0].texts].count("0.50") == 3
    assert "forgets the cell: before training ×0.50 a step, only" in words(figure).replace("\n", " ")


def test_gates_that_are_nan_are_grey_and_say_so(run_of):
    data = analysis.gate_means(run_of(cell="gru")).assign(mean=np.nan)
    figure = figures.plot_cell_diagram(data, claims=analysis.gate_means_claims(data), context="paper")
    assert [text.get_text() for text in figure.axes[0].texts].count("NaN") == 4
    assert "Gates are NaN. [expected > 0.1, of a mean from 0.5 to 1: not so here]" in words(figure).replace("\n", " ")


def test_several_networks_never_share_a_cell(run_of):
    clipped = run_of("clipped", cell="lstm", clip="norm")
    plain, other = run_of("plain", cell="lstm"), run_of("other", cell="lstm", forget_bias=1.0)
    assert set(analysis.gate_means([clipped, plain])["clip"]) == {"none"}  # one of them
    data = analysis.gate_means([plain, other])
    for refuse in (analysis.gate_means_claims, figures.plot_cell_diagram):
        with pytest.raises(ValueError, match="data: expected the gates of one network, got those of 2; draw each by"):
            refuse(data)


def test_cells_are_drawn_one_by_one_and_one_without_gates_is_left_out(trained, tmp_path: Path, caplog):
    with caplog.at_level(logging.INFO, "gradflow"):
        files = figures.draw_all(trained, tmp_path, only=["cell_diagram"], context="paper")
    drawn = {file.stem for file in files}
    assert drawn == {f"cell_diagram-cell={cell}" for cell in CELLS}
    assert "left out cell_diagram-cell=rnn: cell: expected runs of an LSTM or a GRU, got none" in caplog.text


def test_starts_are_told_in_the_names_of_files(run_of, tmp_path: Path):
    for bias in (0.0, 3.0):
        run_of(f"b{bias:g}", Planted(iterations=2), cell="lstm", forget_bias=bias)
    files = figures.draw_all(tmp_path, tmp_path / "out", only=["cell_diagram"], context="paper")
    assert {file.stem for file in files} == {f"cell_diagram-start=default+b_f={bias}" for bias in (0, 3)}


@pytest.mark.parametrize(
    ("layer", "cell"),
    [
        (nn.LSTM(3, 4), "lstm"),
        (nn.GRU(3, 4), "gru"),
        (gf.GRU(3, 4), "gru_before"),
        (gf.GRU(3, 4, reset="after"), "gru"),
        (nn.RNN(3, 4), "rnn"),
    ],
)
def test_a_script_of_ones_own_gets_its_cell_too(layer, cell, tmp_path: Path):
    with gf.record(layer, tmp_path, reduction="sum") as recorder:
        layer(torch.randn(5, 2, 3))[0].sum().backward()
        recorder.step()
    run = gf.open_run(tmp_path)
    assert analysis.identity(run)["cell"] == cell
    if cell != "rnn":
        assert set(analysis.gate_means(run)["cell"]) == {cell}
        cell_figure(run, context="paper")
    else:
        with pytest.raises(ValueError, match="cell: expected runs of an LSTM or a GRU, got none"):
            analysis.gate_means(run)
