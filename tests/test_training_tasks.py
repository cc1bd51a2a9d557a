"""Training on the long-range tasks, with every remedy: what the loop does is what each remedy's definition says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from covering import each_pair
from torch.nn import functional as F

import gradflow as gf
from gradflow.analysis import identity
from gradflow.config import (
    CellConfig,
    CellName,
    ClipConfig,
    ClipName,
    Config,
    DataConfig,
    FlossingConfig,
    InitConfig,
    InitName,
    OmegaConfig,
    RecordConfig,
    Source,
    TrainConfig,
)
from gradflow.data import Sequences, load
from gradflow.flow.calls import torch_cell_class
from gradflow.training import loop as training
from gradflow.training.model import build_model
from gradflow.training.objective import loss_of, right_answers
from gradflow.training.storage import load_run

TASKS = [source for source in Source if not source.of_names and source != Source.digits]
TRAIN = TrainConfig(iterations=4, batch_size=6, evaluate_every=2)


def config(source=Source.temporal_order, cell="rnn", length=12, **options):
    data = DataConfig(source, length=length, symbols=3, test_size=20)
    options = {"train": TRAIN, "record": RecordConfig(every=2, examples=4)} | options
    return Config(data=data, cell=CellConfig(CellName(cell), 5), **options)


def loss_and_model(settings, seed=0):
    """The loss of one batch, by the model of the settings, in float64."""
    dataset = load(settings.data, seed)
    torch.manual_seed(seed)
    task = dataset.task
    model = build_model(settings, task.input_size, task.output_size, task.everywhere).double()
    batch = next(training.batches(dataset, settings))
    return loss_of(task)(model(batch.inputs, batch.lengths), batch.targets), model, batch, task


@pytest.mark.parametrize("source", TASKS)
def test_every_task_trains_and_says_what_it_asks(source, tmp_path):
    outcome = training.train(config(source, "gru_before"), tmp_path, progress=False)
    run = gf.open_run(tmp_path)
    task = load(config(source).data, 0).task
    assert (outcome.state, len(run.scalars)) == ("finished", 4)
    assert run.meta["chance"] == task.chance_accuracy
    assert run.meta["chance_loss"] == pytest.approx(task.chance_loss)
    assert run.meta["success"]["threshold"] == task.success.threshold
    assert run.scalars["test_loss"].notna().tolist() == [False, True, False, True]
    lags = run.frame("lag")
    assert lags["lag"].max() == 11
    assert lags["log_state_gradient_non_finite"].sum() == 0
    model = load_run(tmp_path)
    assert model.everywhere == task.everywhere


@pytest.mark.parametrize("source", TASKS)
def test_loss_and_accuracy_are_means_over_single_answers(source):
    loss, model, batch, task = loss_and_model(config(source))
    answers = model(batch.inputs, batch.lengths).detach()
    losses, rights = [], []
    for b in range(len(batch.targets)):
        for t in range(12 if task.everywhere else 1):
            answer, target = (answers[b, t], batch.targets[b, t]) if task.everywhere else (answers[b], batch.targets[b])
            counts = task.scored is None or t >= 12 - task.scored
            if task.values:
                losses += (answer - target).square().tolist()
                rights += ((answer - target).abs() < task.tolerance).tolist()
            else:
                losses.append(-float(answer.log_softmax(0)[target]))
                rights += [int(answer.argmax()) == int(target)] * counts
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-6)
    assert float(right_answers(task, answers, batch.targets).mean()) == pytest.approx(np.mean(rights))
    assert batch.answers(task) == len(batch.targets) * (12 if task.everywhere else 1)


def test_state_gradients_are_per_answer_whatever_the_batch(tmp_path, monkeypatch):
    """The same sequence over and over: a row of the log does not depend on how often it is in the batch."""
    settings = config(Source.copy_memory)
    dataset = load(settings.data, 0)
    one = dataset.draw(1, np.random.default_rng(0))

    def draw(n, rng):
        return Sequences(*(np.repeat(array, n, 0) for array in (one.inputs, one.lengths, one.targets)))

    monkeypatch.setattr(training, "load", lambda data, seed: replace(dataset, draw=draw))
    for size in (1, 6):
        train = replace(TRAIN, batch_size=size, iterations=1)
        training.train(replace(settings, train=train), tmp_path / str(size), progress=False)
    first, second = (gf.open_run(tmp_path / str(size)).frame("lag")["log_state_gradient_q50"] for size in (1, 6))
    assert np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("source", [Source.copy_memory, Source.chaotic_map])
def test_two_directions_answer_everywhere(source, tmp_path):
    settings = config(source)
    settings.cell.bidirectional = True
    training.train(settings, tmp_path, progress=False)
    assert gf.open_run(tmp_path).frame("lag").groupby("direction").ngroups == 2


def test_a_run_ends_when_its_task_is_solved(tmp_path):
    easy = replace(TRAIN, lr=0.05, batch_size=50, iterations=400, evaluate_every=20, stop_when_solved=True)
    outcome = training.train(config(Source.recall_first, length=2, train=easy), tmp_path, progress=False)
    assert outcome.solved
    assert outcome.iteration < 399
    assert outcome.test_accuracy >= 0.99
    run = gf.open_run(tmp_path)
    assert (run.status, run.iteration) == ("finished", outcome.iteration)
    assert gf.analysis.solved_at(run) == outcome.iteration
    assert run.frame("lag")["iteration"].max() == outcome.iteration


# --- truncated backpropagation ---------------------------------------------------------------------------------------


@each_pair(
    steps=[1, 5, 12, 20],
    source=[Source.recall_first, Source.copy_memory],
    cell=["rnn", "lstm", "gru", "gru_before", "linear"],
)
def test_truncated_gradients_are_those_of_states_cut_off_by_hand(steps, source, cell):
    """Oracle: the cell of the slide in a Python loop, its state detached where a stretch begins."""
    loss, model, batch, task = loss_and_model(config(source, cell, train=replace(TRAIN, truncate=steps)))
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    x = F.one_hot(batch.inputs, task.input_size).double()
    starts = {12 - steps * k for k in range(1, 12 // steps + 1)}
    layer = torch_cell_class(model.recurrent)(*model.recurrent.parameters())
    state = {name: torch.zeros(6, 5, dtype=torch.float64) for name in layer.state_names}
    hidden = []
    for t in range(12):
        state = {name: value.detach() for name, value in state.items()} if t in starts else state
        state = layer.step(x[:, t], state)
        hidden.append(state["h"])
    answers = model.read_out(torch.stack(hidden, 1) if task.everywhere else hidden[-1])
    by_hand = loss_of(task)(answers, batch.targets)
    assert by_hand.item() == pytest.approx(loss.item(), rel=1e-12)
    by_hand.backward()
    for name, p in model.named_parameters():
        assert torch.allclose(found[name], p.grad, rtol=1e-9, atol=1e-14), name


def test_the_log_of_a_truncated_run_ends_where_the_gradient_does(tmp_path):
    settings = config(Source.recall_first, train=replace(TRAIN, truncate=5))
    training.train(settings, tmp_path, progress=False)
    run = gf.open_run(tmp_path)
    assert run.frame("lag")["lag"].max() == 4
    data = gf.analysis.gradient_by_lag(run)
    assert data["lag"].tolist() == [0, 1, 2, 3, 4]


# --- remedies on state gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["linear", "rnn", "rnn_relu", "rnn_sigmoid"])
def test_the_regulariser_acts_with_a_loss_at_the_last_step_alone(cell, tmp_path):
    trained = {}
    for weight in (0.0, 4.0):
        settings = config(Source.recall_first, cell, omega=OmegaConfig(weight))
        training.train(settings, tmp_path / str(weight), progress=False)
        trained[weight] = gf.open_run(tmp_path / str(weight))
    assert (trained[4.0].scalars["omega"] > 0).all()
    assert "omega" not in trained[0.0].scalars
    assert trained[0.0].scalars["loss"].iloc[0] == trained[4.0].scalars["loss"].iloc[0]
    assert trained[0.0].scalars["loss"].iloc[1] != trained[4.0].scalars["loss"].iloc[1]


@pytest.mark.parametrize(("source", "cell"), [(Source.recall_first, "rnn"), (Source.generated, "lstm")])
def test_flossing_comes_before_training(source, cell, tmp_path):
    """The exponents of the weights that training starts from are nearer to 0."""
    largest = {}
    for iterations in (0, 30):
        settings = config(source, cell, flossing=FlossingConfig(iterations, exponents=3, lr=0.01))
        settings.data.train_size, settings.train = 100, replace(TRAIN, lr=0.0, iterations=1)
        training.train(settings, tmp_path / str(iterations), progress=False)
        run = gf.open_run(tmp_path / str(iterations))
        model, batch = load_run(run.path), next(training.batches(load(settings.data, 0), settings))
        trace = gf.trace(model.recurrent, model.encode(batch.inputs.t()), lengths=batch.lengths)
        exponents = gf.lyapunov_exponents(trace[0, 0].jacobian)[:, :3]
        largest[iterations] = exponents.square().mean().item()
    assert largest[30] < 0.5 * largest[0]
    first, last = run.meta["flossing_loss"]
    assert last < first
    assert identity(run)["start"] == "default, flossed"


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_clipping_of_states_is_told_as_the_other_ways_to_clip(cell, tmp_path):
    settings = config(Source.recall_first, cell, clip=ClipConfig(ClipName.state, 1e-4))
    training.train(settings, tmp_path, progress=False)
    scalars = gf.open_run(tmp_path).scalars
    assert scalars["clipped"].all()
    assert scalars["state_clipped"].between(0, 1, inclusive="right").all()
    assert (scalars["log_grad_norm_after"] < scalars["log_grad_norm_before"]).all()
    assert scalars["coefficient"].isna().all()


def test_a_bound_that_nothing_reaches_changes_nothing(tmp_path):
    for name, clip in (("none", ClipConfig()), ("state", ClipConfig(ClipName.state, 1e6))):
        training.train(config(Source.recall_first, clip=clip, dtype="float64"), tmp_path / name, progress=False)
    plain, state = (gf.open_run(tmp_path / name).scalars for name in ("none", "state"))
    assert not state["clipped"].any()
    assert np.allclose(plain["loss"], state["loss"], rtol=1e-12)


# --- starts and settings that do not go together ---------------------------------------------------------------------


@pytest.mark.parametrize("init", ["normal", "sparse"])
def test_starts_of_all_weights_include_the_read_out(init):
    settings = config(init=InitConfig(InitName(init), std=0.01, connections=3 if init == "sparse" else None))
    settings.cell.hidden_size = 60
    torch.manual_seed(0)
    model = build_model(settings, 6, 4)
    assert model.read_out.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not model.read_out.bias.any()


def test_chrono_takes_the_length_of_the_task():
    assert config(cell="lstm", init=InitConfig(InitName.chrono)).init.time_scale == 12
    model = build_model(config(cell="gru", init=InitConfig(InitName.chrono, time_scale=100)), 6, 4)
    z = torch.sigmoid(model.recurrent.bias_ih_l0[5:10] + model.recurrent.bias_hh_l0[5:10])
    assert ((z >= 0.5) & (z <= 0.99)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"init": InitConfig(InitName.chrono)},
            "init: only gated cells have a chrono start, got cell=rnn; use cell=lstm",
        ),
        ({"cell": "lstm", "omega": OmegaConfig(4.0)}, "omega.weight: only cells without gates .*, got cell=lstm"),
        (
            {"clip": ClipConfig(ClipName.state), "omega": OmegaConfig(4.0)},
            "omega.weight: expected 0 with clip=state, .* got 4.0; use clip=norm",
        ),
        ({"flossing": FlossingConfig(1, exponents=6)}, "flossing.exponents: expected at most 5, the size of the state"),
        (
            {"source": Source.generated, "train": replace(TRAIN, truncate=3)},
            "train.truncate: expected a task whose sequences are equally long, got data=generated",
        ),
        (
            {"source": Source.generated, "cell": "lstm", "init": InitConfig(InitName.chrono)},
            "init.time_scale: expected a number of steps, as data=generated has none of its own",
        ),
    ],
)
def test_settings_that_do_not_go_together(options, words):
    with pytest.raises(ValueError, match=words):
        config(**options)


def test_truncation_needs_one_direction():
    with pytest.raises(ValueError, match=r"train.truncate: expected cell.bidirectional=false"):
        Config(
            data=DataConfig(Source.adding),
            cell=CellConfig(bidirectional=True),
            train=TrainConfig(truncate=3),
        )


def test_a_diverging_run_with_every_remedy_is_recorded_to_its_end(tmp_path):
    wild = replace(TRAIN, optimizer="sgd", lr=1e30, iterations=30)
    for name, options in (
        ("omega", {"omega": OmegaConfig(4.0)}),
        ("state", {"clip": ClipConfig(ClipName.state, 1e30)}),
        ("truncate", {"train": replace(wild, truncate=4)}),
    ):
        settings = config(Source.adding, "linear", **{"train": wild, **options})
        outcome = training.train(settings, tmp_path / name, progress=False)
        assert outcome.state == "diverged"
        assert math.isnan(outcome.test_loss)
        assert gf.open_run(tmp_path / name).status == "diverged"
