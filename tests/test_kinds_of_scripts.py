"""What the log says of scripts of many kinds, against own loops; and that training is bit for bit the same."""

import copy
import math

import loops_by_hand
import numpy as np
import pytest
import torch
from figure_checks import words
from kinds_of_scripts import KINDS, MAX_NORM, Sizes, character_model, language_model, min_gru

import gradflow as gf
from gradflow import analysis, figures

SIZE = Sizes()
PROOF = {"names": "unproved", "oscillators": "unproved", "oscillators_by_hand": "unproved", "min_gru": "unproved"}
"""Of the others, whose weights are torch's: proved."""


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def nothing(*args, **options):
    """Neither record nor note."""


def trained(kind, path=None, size=SIZE, **options):
    """The model of one training, and what it noted before each update."""
    notes, recorders = [], []

    def note(model, *given, norm=None):
        shared = {}  # a weight that is computed anew in each pass cannot be copied, and need not be
        for module in () if isinstance(model, dict) else model.modules():
            lent = [v for v in vars(module).values() if isinstance(v, torch.Tensor) and v.grad_fn is not None]
            flat = [v for v in getattr(module, "_flat_weights", ()) if v.grad_fn is not None]
            shared |= {id(tensor): tensor.detach() for tensor in lent + flat}
        notes.append((copy.deepcopy(model, shared), given, norm))

    def record(model, **more):
        recorders.append(gf.record(model, path, **more, **options))

    torch.manual_seed(0)
    model = kind(nothing if path is None else record, note, size)
    for recorder in recorders:
        recorder.close()
    return model, notes


def log_norms(values):
    """[T] of [T, ·]."""
    return values.reshape(len(values), -1).norm(dim=-1).log().numpy()


def summary_of(columns, reverse):
    """[T]: the mean over the examples that have a step there, without those that are zero; and how many these are."""
    length = max(map(len, columns))
    table = np.full((len(columns), length), np.nan)
    for row, column in zip(table, columns, strict=True):
        row[: len(column)] = column[::-1] if reverse else column
    finite = [column[np.isfinite(column)] for column in table.T]
    mean = np.array([part.mean() if len(part) else np.nan for part in finite])
    return mean, (~np.isnan(table)).sum(0), np.isneginf(table).sum(0)


def check_positions(rows, expected):
    """Every norm of one call in one layer and direction, by time."""
    loops, of = expected.loops, {"log_jacobian_frobenius": torch.linalg.matrix_norm}
    of["log_jacobian_spectral"] = lambda jacobian: torch.linalg.matrix_norm(jacobian, 2)
    found = {name: [take(loop.jacobians).log().numpy() for loop in loops] for name, take in of.items()}
    found["log_state_gradient"] = [log_norms(loop.gradients(loop.names[0])) for loop in loops]
    if len(loops[0].names) > 1:
        whole = [torch.cat([loop.gradients(name) for name in loop.names], -1) for loop in loops]
        found["log_joint_gradient"] = [log_norms(part) for part in whole]
    if "c" in loops[0].names:
        found["log_cell_gradient"] = [log_norms(loop.gradients("c")) for loop in loops]
    found["log_direct_gradient"] = [log_norms(loop.direct()) for loop in loops]
    for name, columns in found.items():
        mean, valid, zeros = summary_of(columns, expected.direction == 1)
        assert rows["time"].tolist() == list(range(len(mean)))
        assert rows["valid"].tolist() == valid.tolist()
        np.testing.assert_allclose(rows[f"{name}_mean"], mean, 2e-5, 2e-5, err_msg=name)
        assert rows[f"{name}_zeros"].tolist() == zeros.tolist(), name
        assert rows[f"{name}_non_finite"].eq(0).all(), name


def check_anchors(rows, expected):
    """The gradients of the loss at single steps, by lag; nothing where it reads one step."""
    directions, lags = len(expected.tops or ()) or 1, {}
    for b, loop in enumerate(expected.loops):
        tops = [expected.loops] if expected.tops is None else expected.tops
        reads = sum(bool(read.any()) for read in tops[0][b].direct())
        if reads < 2:
            continue
        first = 0 if directions == 2 else reads // 2
        assert reads == len(loop.read), "each kind here reads every step, or one"
        for s in sorted({first + i * (reads - 1 - first) // 3 for i in range(4)}):
            own = reads - 1 - s if expected.direction else s  # in the order of the loop
            norms = log_norms(expected.anchored(b, s if expected.tops else own))
            for lag in range(own + 1):
                lags.setdefault(lag, []).append(norms[own - lag] - norms[own])
    if not lags:
        assert rows["log_anchored_gradient_q50"].isna().all()
        return
    rows = rows.sort_values("lag").iloc[: len(lags)]
    finite = {lag: [value for value in values if value > -math.inf] for lag, values in lags.items()}
    assert rows["log_anchored_gradient_valid"].tolist() == [len(lags[lag]) for lag in sorted(lags)]
    assert rows["log_anchored_gradient_zeros"].tolist() == [len(lags[k]) - len(finite[k]) for k in sorted(lags)]
    medians = [np.median(finite[lag]) if finite[lag] else np.nan for lag in sorted(lags)]
    np.testing.assert_allclose(rows["log_anchored_gradient_q50"], medians, 2e-5, 2e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_number_is_that_of_an_own_loop(kind, tmp_path, caplog):
    options = {"every": 1, "spectrum_every": 1, "examples": "all", "reduction": "sum"}
    plain, _ = trained(kind)
    recorded, notes = trained(kind, tmp_path, **options)
    assert all(map(torch.equal, plain.parameters(), recorded.parameters()))
    assert not caplog.messages
    run = gf.open_run(tmp_path)
    assert (run.status, run.proof) == ("finished", PROOF.get(kind.__name__, "proved"))
    time, lag = run.table("time").to_pandas(), run.table("lag").to_pandas()
    for iteration, (model, given, norm) in enumerate(notes):
        loops = getattr(loops_by_hand, kind.__name__)(model, *given)
        where = [(e.module, e.call, e.layer, e.direction) for e in loops]
        keys = ["module", "call", "layer", "direction"]
        own_time, own_lag = (table[table.iteration == iteration].set_index(keys) for table in (time, lag))
        assert sorted(set(own_time.index)) == sorted(where)
        for place, expected in zip(where, loops, strict=True):
            check_positions(own_time.loc[[place]].sort_values("time"), expected)
            check_anchors(own_lag.loc[[place]], expected)
        scalars = run.scalars.loc[iteration]
        before = math.nan if norm is None else norm.log().item()
        assert scalars["clipped"] == float(norm is not None and norm > MAX_NORM)
        if norm is not None:
            assert scalars["log_grad_norm_before"] == pytest.approx(before, rel=1e-6)
            assert scalars["coefficient"] == pytest.approx(MAX_NORM / (norm.item() + 1e-6), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_recorded_now_and_then(kind, tmp_path, caplog):
    """As users have it, with iterations that are not due."""
    size = Sizes(updates=4)
    plain, _ = trained(kind, size=size)
    recorded, _ = trained(kind, tmp_path, size, every=2)
    assert all(map(torch.equal, plain.parameters(), recorded.parameters()))
    assert not caplog.messages
    run = gf.open_run(tmp_path)
    assert (run.status, run.proof) == ("finished", PROOF.get(kind.__name__, "proved"))
    assert set(run.frame("time")["iteration"]) >= {0, 2}


def test_figures_say_nothing_of_memory_where_the_gradient_is_a_sum_over_many_steps(tmp_path):
    trained(language_model, tmp_path, every=1)
    run = gf.open_run(tmp_path)
    data = analysis.lstm_cell_highway(run)
    assert data["many_steps"].all()
    assert data[data["quantity"].isin(["cell", "state"])]["factor"].isna().all()
    assert analysis.lstm_cell_highway_claims(data) == []
    lattice = analysis.stacked_lattice(run)
    assert [claim["claim"] for claim in analysis.stacked_lattice_claims(lattice)] == ["layer_alone"]
    for made in (figures.plot_lstm_cell_highway(data), figures.plot_stacked_lattice(lattice)):
        assert "The loss reads many steps" in " ".join(words(made).split())
        assert "back" not in words(made).replace("steps back from the end", "")


def test_figures_by_lag_say_so_where_nobody_knows_how_many_steps_the_loss_reads(tmp_path, monkeypatch):
    mark = gf.mark
    monkeypatch.setattr(gf, "mark", lambda name, *states, **told: mark(name, *states))  # without the step
    trained(min_gru, tmp_path, every=1)
    made = figures.plot_gradient_by_lag(analysis.gradient_by_lag(gf.open_run(tmp_path)))
    assert "Where the loss reads many steps this gradient is a sum over them" in " ".join(words(made).split())


@pytest.mark.parametrize(("kind", "clips"), [(min_gru, True), (character_model, False)])
def test_clipping_is_spoken_of_where_somebody_clips(kind, clips, tmp_path):
    trained(kind, tmp_path)
    data = analysis.clipping_effect(gf.open_run(tmp_path))
    (claim,) = analysis.clipping_effect_claims(data)
    assert claim["claim"] == ("clipping_acted_somehow" if clips else "no_norm_stands_out")
    said = words(figures.plot_clipping_effect(data))
    assert ("clipped: 100 %" in said, "with clipping" in said) == (clips, False)
