"""The training loop: deterministic, learns, survives divergence and Ctrl-C, can be asked afterwards."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import gradflow as gf
from gradflow.config import (
    CellConfig,
    CellName,
    ClipConfig,
    ClipName,
    Config,
    DataConfig,
    InitConfig,
    InitName,
    OptimizerName,
    RecordConfig,
    Source,
    TrainConfig,
)
from gradflow.training import loop as training
from gradflow.training.model import SequenceModel, build_model
from gradflow.training.prediction import predict
from gradflow.training.storage import load_run

SMALL = DataConfig(train_size=300, test_size=60, vocabulary_size=60)


def config(cell="rnn", iterations=5, **options):
    options = {"data": SMALL, "train": TrainConfig(iterations=iterations, batch_size=50, evaluate_every=3)} | options
    return Config(cell=CellConfig(name=CellName(cell), hidden_size=8), **options)


@pytest.mark.parametrize("cell", list(CellName))
def test_same_seed_same_bits(cell, tmp_path):
    outcomes = [training.train(config(cell), tmp_path / str(i), progress=False) for i in range(2)]
    first, second = (load_file(tmp_path / str(i) / "model.safetensors") for i in range(2))
    assert outcomes[0].test_loss == outcomes[1].test_loss
    assert all(torch.equal(first[name], second[name]) for name in first)
    a, b = (gf.open_run(tmp_path / str(i)) for i in range(2))
    assert a.frame("lag").equals(b.frame("lag"))
    assert a.status == "finished"
    assert a.meta["chance"] >= 0.5
    assert a.config["cell"]["name"] == cell
    other = training.train(config(cell, seed=1), tmp_path / "other", progress=False)
    assert other.test_loss != outcomes[0].test_loss


def test_scalars_of_a_run(tmp_path):
    outcome = training.train(config(), tmp_path, progress=False)
    scalars = gf.open_run(tmp_path).scalars
    assert np.isfinite(scalars.test_accuracy).tolist() == [False, False, True, False, True]
    assert scalars.test_accuracy.iloc[-1] == outcome.test_accuracy
    assert scalars.lr.eq(1e-3).all()
    assert scalars.accuracy.between(0, 1).all()
    assert (outcome.state, outcome.iteration) == ("finished", 4)


@pytest.mark.parametrize("clip", list(ClipName))
def test_every_way_to_clip(clip, tmp_path):
    training.train(config(clip=ClipConfig(clip, 1e-3)), tmp_path, progress=False)
    scalars = gf.open_run(tmp_path).scalars
    assert (scalars.clipped == (clip != "none")).all()
    assert (scalars.log_grad_norm_after < scalars.log_grad_norm_before).all() == (clip != "none")


def test_stacked_bidirectional_roll_call_in_float64(tmp_path):
    data = DataConfig(train_size=100, test_size=20, vocabulary_size=60, names_per_sequence=3)
    settings = config(data=data, dtype="float64", record=RecordConfig(every=2))
    settings.cell.num_layers, settings.cell.bidirectional = 2, True
    training.train(settings, tmp_path, progress=False)
    frame = gf.open_run(tmp_path).frame("lag")
    assert frame.groupby(["layer", "direction"]).ngroups == 4
    assert frame.iteration.unique().tolist() == [0, 2, 4]
    assert frame.log_state_gradient_non_finite.sum() == 0


def test_diverged_run_is_recorded_and_ends_without_an_exception(tmp_path):
    bad = TrainConfig(OptimizerName.sgd, lr=1e30, iterations=50, batch_size=50)
    outcome = training.train(config("linear", train=bad), tmp_path, progress=False)
    run = gf.open_run(tmp_path)
    assert outcome.state == run.status == "diverged"
    assert run.iteration == outcome.iteration < 50
    assert not math.isfinite(run.scalars.loss.iloc[-1])
    assert math.isnan(outcome.test_accuracy)
    assert run.frame("time").iteration.iloc[-1] == outcome.iteration


def test_ctrl_c_leaves_a_readable_log(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(config(), tmp_path, progress=False)
    run = gf.open_run(tmp_path)
    assert run.status == "interrupted"
    assert len(run.scalars) == 2
    assert not run.frame("time").empty


def test_nothing_is_written_before_the_data_are_there(tmp_path):
    missing = config(data=DataConfig(source=Source.csv, path=str(tmp_path / "no.csv")))
    with pytest.raises((OSError, ValueError), match=r"no\.csv"):
        training.train(missing, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "gradients").exists()


@pytest.mark.parametrize("cell", list(CellName))
def test_padding_touches_no_score(cell):
    """Whatever stands past the length of an example, its scores are those of the example alone, in both directions."""
    settings = config(cell)
    settings.cell.bidirectional, settings.cell.num_layers = True, 2
    torch.manual_seed(0)
    model = build_model(settings, 9, 3).double()
    lengths, inputs = torch.tensor([1, 5, 3]), torch.randint(0, 9, (3, 5))
    scores = model(inputs, lengths)
    for b, length in enumerate(lengths.tolist()):
        alone = model(inputs[b : b + 1, :length], lengths[b : b + 1])
        assert torch.allclose(scores[b], alone[0], atol=1e-12)
    changed = inputs.clone()
    changed[0, 1:], changed[2, 3:] = 7, 7
    assert torch.equal(model(changed, lengths), scores)


def test_a_device_that_is_not_there_is_an_error_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"device: expected one that this torch can use, such as cpu, got 'gpu'"):
        training.train(config(device="gpu"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"seed: expected a whole number from 0 to 9,223,.*, got -1"):
        config(seed=-1)


def test_initialisation_is_that_of_the_settings():
    settings = config("lstm", init=InitConfig(InitName.remember))
    bias = build_model(settings, 4, 2).recurrent.bias_ih_l0
    assert bias[8:16].tolist() == [3.0] * 8


@pytest.mark.parametrize(("cell", "kind"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_a_model_on_torch_layers_is_the_same_model(cell, kind):
    """Its saved weights load, names and all, whether inputs are indices or numbers, and so do those of earlier logs."""
    theirs = SequenceModel(kind(9, 8), 3).double()
    inputs, lengths = torch.randint(0, 9, (4, 5)), torch.tensor([5, 2, 4, 1])
    vectors = nn.functional.one_hot(inputs, 9).double()
    for numbers, x in ((False, inputs), (True, vectors)):
        ours = build_model(config(cell), 9, 3, numbers=numbers).double()
        ours.load_state_dict(theirs.state_dict())
        assert torch.allclose(ours(x, lengths), theirs(inputs, lengths), atol=1e-12)
    assert isinstance(ours.recurrent, nn.RNNBase) == (cell != "rnn")


def test_prediction_asks_the_saved_model(tmp_path):
    training.train(config(iterations=30), tmp_path, progress=False)
    model = load_run(tmp_path)
    vocabulary = json.loads((tmp_path / "vocabulary.json").read_text(encoding="utf-8"))
    name = "".join(vocabulary["alphabet"][:3])
    (answer,) = predict(tmp_path, [name])
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
    assert [character for character, _ in answer.shares] == list(name)
    assert sum(share for _, share in answer.shares) == pytest.approx(1)
    inputs = torch.tensor([[0, 1, 2]])
    expected = model(inputs, torch.tensor([3]))[0].softmax(0).detach()
    assert answer.probabilities[vocabulary["classes"][0]] == pytest.approx(float(expected[0]), rel=1e-5)
    with pytest.raises(ValueError, match=r"names: expected characters of the alphabet"):
        predict(tmp_path, ["Smith"])
    with pytest.raises(FileNotFoundError, match=r"path: expected the folder of a finished run with model.safetensors"):
        predict(tmp_path / "nowhere", [name])


def test_arguments_given_wrong_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"config: expected a gradflow\.config\.Config; .*, got "):
        training.train({"seed": 1}, tmp_path)
    with pytest.raises(TypeError, match=r"path: expected the folder for the run.*got 3"):
        training.train(Config(), 3)
    with pytest.raises(TypeError, match=r"run_path: expected the folder of a finished run.*got None"):
        predict(None, ["王"])
    with pytest.raises(ValueError, match=r"progress: expected True or False, got 'no'"):
        training.train(Config(), tmp_path, progress="no")
    assert not list(tmp_path.iterdir())
