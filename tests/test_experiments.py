"""Every choice in conf/ composes and trains; wrong settings and failing runs say what is wrong."""

import itertools
import re
import shutil
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

import gradflow as gf
from gradflow.commands import compare, predict
from gradflow.commands.arguments import CONF
from gradflow.commands.sweeping.plan import plan
from gradflow.runlog import Run

CHOICES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))
EXPERIMENTS = [choice for choice in CHOICES if choice.startswith("experiment/")]
TRAINED = [choice for choice in CHOICES if choice.split("/")[0] not in ("experiment", "hydra", "launcher")]
NEEDS = {
    "init/forget_bias": ["cell/lstm"],
    "init/update_bias": ["cell/gru"],
    "init/chrono": ["cell/lstm", "data=adding"],
}


def runs() -> list[Run]:
    return list(gf.open_sweep("outputs").members)


ALONE = ("data/digits", "omega/none")
"""Choices that need an extra, or that stand in for another: no Ω goes beside no remedy."""


def together() -> list[tuple[str, ...]]:
    """Every choice at least once: cells beside starts, clipping beside networks and data, what is usual together."""
    groups: dict[str, list[str]] = {}
    for choice in TRAINED:
        if choice not in ALONE:
            groups.setdefault(choice.split("/")[0], []).append(choice)
    cells, clips = itertools.cycle(groups.pop("cell")), itertools.cycle(groups.pop("clip"))
    rows = [(start, NEEDS[start][0] if start in NEEDS else next(cells)) for start in groups.pop("init")]
    for both in itertools.zip_longest(groups.pop("network"), groups.pop("data")):
        rows.append((*filter(None, both), next(clips)))
    others = list(itertools.chain(*groups.values()))
    usual = tuple(choice for choice in others if choice.endswith(("/default", "/none", "/tiny")))
    return [*rows, usual, *((choice,) for choice in (*ALONE, *others) if choice not in usual)]


def test_every_choice_is_among_those_that_are_trained():
    assert {choice for choices in together() for choice in choices} == set(TRAINED)


@pytest.mark.parametrize("choices", together(), ids=" ".join)
def test_every_choice_trains_for_two_iterations(choices, train, files):
    if "data/digits" in choices:
        pytest.importorskip("sklearn", reason="needs scikit-learn, the extra `digits`")
    chosen = [choice.replace("/", "=") for choice in choices if not choice.startswith("debug/")]
    more = [setting for choice in choices for setting in (*NEEDS.get(choice, [])[1:], *files.get(choice, []))]
    assert train("debug=tiny", *chosen, *more) == 0
    [run] = runs()
    assert (run.status, len(run.scalars)) == ("finished", 2)
    for group, name in (choice.split("/") for choice in choices):
        if group in ("cell", "clip"):
            assert run.config[group]["name"] == name


def test_roll_call_wraps_any_source(train, files):
    assert train("debug=tiny", "data=roll_call", "data.source=csv", *files["data/csv"]) == 0
    [run] = runs()
    assert (run.config["data"]["source"], run.config["data"]["names_per_sequence"]) == ("csv", 8)
    assert run.frame("lag")["lag"].max() >= 20


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_says_what_it_is_for(choice):
    comments = [
        line
        for line in (CONF / f"{choice}.yaml").read_text(encoding="utf-8").splitlines()
        if line.startswith("# ") and "@package" not in line
    ]
    assert comments
    if choice in EXPERIMENTS:
        assert comments[0].startswith("# Question: ")
        assert any(f"experiment={Path(choice).name}" in line for line in comments)


@pytest.mark.parametrize("choice", EXPERIMENTS)
def test_grid_of_every_experiment_composes(choice):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        one_seed = ["seed=0"] if "seed: " in (CONF / f"{choice}.yaml").read_text(encoding="utf-8") else []
        overrides = [choice.replace("/", "="), "debug=tiny", *one_seed]
        config = loader.load_configuration("config", overrides, RunMode.MULTIRUN)
        assert config.hydra.mode == RunMode.MULTIRUN
        paths = [run.path for run in plan(config)]
    assert len(set(paths)) == len(paths)
    assert (len(paths) == 1) == (choice == "experiment/lecture_gru")  # the one network of a slide
    if choice == "experiment/compare":
        assert len(paths) == 32
        assert {path.parent for path in paths} == {paths[0].parent}


def test_an_experiment_is_narrowed_by_overrides(train):
    narrow = ["launcher=local", "cell=gru", "init=remember", "data.names_per_sequence=1"]
    assert train("experiment=compare", "debug=tiny", *narrow) == 0
    assert sorted(run.config["clip"]["name"] for run in runs()) == ["none", "norm"]


def test_layers_and_directions_are_sweepable(train):
    assert train("-m", "debug=tiny", "cell.num_layers=1,2", "cell.bidirectional=true,false") == 0
    assert sorted(gf.open_sweep("outputs").runs.columns[6:]) == ["bidirectional", "num_layers"]
    assert [len(run.scalars) for run in runs()] == [2] * 4


def test_files_with_chinese_names_need_no_quotes(train, tmp_path, files):
    shutil.copy(tmp_path / "names.csv", tmp_path / "姓名 (1).csv")
    assert train("debug=tiny", "data=csv", f"data.path={tmp_path / '姓名 (1).csv'}", "hydra.run.dir=结果 1") == 0
    assert gf.open_run("结果 1").status == "finished"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["network=irnn", "cell=lstm"],
            "network: expected no cell and no init beside network=irnn, which",
        ),
        (["remedy=clip", "clip=none"], "remedy: expected no clip and no omega beside remedy=clip"),
        (
            ["init=orthogonal", "init.std=0.1"],
            "init.std: only init=normal, sparse use it, got 0.1 with init=orthogonal",
        ),
        (
            ["cell=lstmm"],
            "cell: expected one of gru, gru_before, linear, lstm, rnn, rnn_relu, rnn_sigmoid, got 'lstmm'",
        ),
        (["clip.name=nrm"], "clip.name: expected a known name, got 'nrm'; did you mean norm?"),
        (
            ["cell.hiden_size=3"],
            "got 'cell.hiden_size=3'; did you mean cell.hidden_size?",
        ),
        (["seed=abc"], "seed: expected a whole number from 0 to 9,223,372,036,854,775,807, got 'abc'"),
        (["cell.hidden_size=-3"], "cell.hidden_size: expected a whole number from 1 to 100,000, got -3"),
        (["cell=gru", "init=forget_bias"], "init.forget_bias: only cell=lstm has a forget gate, got cell=gru"),
        (["+clip.max_nrom=1"], "got '+clip.max_nrom=1'; did you mean clip.name, clip.threshold?"),
        (["data=csv"], "set data.path=PATH, or use data=generated"),
        (["data=csv", "data.path=missing.csv"], "missing.csv"),
    ],
)
def test_wrong_settings_are_named_without_a_traceback(arguments, words, train, capsys):
    assert train(*arguments) in (1, 2)
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cell=lstm,gru", "init=forget_bias"], "cell=gru init=forget_bias\ninit.forget_bias: only cell=lstm"),
        (["cell=lstm,grru"], "rnn_sigmoid, got 'grru'; did you mean gru?"),
        (["network=irnn,lstm", "cell=gru"], "network: expected no cell and no init beside network="),
        (["init=sparse,orthogonal", "init.std=0.1"], "init.std: only init=normal, sparse use it"),
        (["seed=0,0"], "two runs would share the folder"),
    ],
)
def test_a_wrong_sweep_fails_before_its_first_run(arguments, words, train, capsys):
    assert train("-m", *arguments) in (1, 2)
    assert words in capsys.readouterr().err
    assert not list(Path().rglob("status.json"))


def test_a_run_alone_does_not_overwrite_another(train, capsys):
    assert train("debug=tiny", "hydra.run.dir=here") == 0
    before = gf.open_run("here").scalars
    assert train("debug=tiny", "hydra.run.dir=here") == 1
    assert "expected a folder without a recorded run, got" in capsys.readouterr().err
    assert (gf.open_run("here").status, gf.open_run("here").scalars.equals(before)) == ("finished", True)


def test_a_trained_model_answers(train, monkeypatch, capsys):
    assert train("debug=tiny", "hydra.run.dir=model") == 0
    vocabulary = (Path("model") / "vocabulary.json").read_text(encoding="utf-8")
    name = "".join(re.findall(r"[\u4e00-\u9fff]", vocabulary)[:3])
    monkeypatch.setattr(sys, "argv", ["predict.py", "run=model", f"names={name}，{name}"])
    capsys.readouterr()
    predict.main()
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.startswith("name")
    assert first == second
    assert first.startswith(name)


@pytest.mark.slow
def test_figures_are_drawn_from_a_sweep(train, monkeypatch):
    assert train("-m", "debug=tiny", "train.iterations=20", "cell=rnn,lstm", "clip=none,norm") == 0
    [folder] = Path("outputs/tiny").iterdir()
    monkeypatch.setattr(sys, "argv", ["compare.py", str(folder)])
    compare.main()
    assert len(list((folder / "figures" / "en").glob("*.png"))) >= 5
