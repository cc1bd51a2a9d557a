"""Any figure without runs: what is trained for it, what is found again, what is refused before anything starts."""

import sys
from pathlib import Path

import pytest
import yaml

import gradflow as gf
from gradflow.commands import animate, figures, networks
from gradflow.commands.arguments import Look
from gradflow.commands.networks import training_of
from gradflow.commands.sweeping import signals
from gradflow.commands.sweeping.asked import data_of, runs_asked_for
from gradflow.figures.room import of_kind, rooms
from tests.synthetic_runs import Planted, config_of, write_run

TRAINED = [name for name, room in rooms().items() if room.training]
ROLL_CALL = ["experiment=lecture", "seed=0", "data.names_per_sequence=8"]


@pytest.mark.parametrize(
    ("figure", "settings", "words"),
    [
        ("weight_spectrum", [], [*ROLL_CALL, "network=tanh"]),
        ("weight_spectrum", ["cell=gru"], [*ROLL_CALL, "network=none", "cell=gru"]),
        ("cell_diagram", ["cell=gru"], [*ROLL_CALL, "init=remember", "network=none", "cell=gru"]),
        ("cell_diagram", ["network=gru"], [*ROLL_CALL, "network=gru"]),
        (
            "cell_diagram",
            ["seed=3"],
            [ROLL_CALL[0], ROLL_CALL[2], "network=none", "cell=lstm", "init=remember", "seed=3"],
        ),
        ("weight_spectrum", ["experiment=lecture_gru"], ["experiment=lecture_gru"]),
        (
            "weight_spectrum",
            ["data=adding"],
            ["experiment=lecture", "seed=0", "network=tanh", "data.names_per_sequence=1", "data=adding"],
        ),
    ],
)
def test_settings_take_the_place_of_the_figures_own(figure, settings, words):
    assert training_of(figure, settings) == words


def test_every_figure_of_a_log_or_of_a_model_says_what_is_trained():
    assert {*of_kind("log"), "name_saliency", "gate_map", "overlap"} == set(TRAINED)
    assert all(rooms()[name].seconds for name in TRAINED if rooms()[name].trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("figures=cell_diagram cell=rnn", r"cell: expected a cell with gates for cell_diagram \(lstm, gru.*got rnn"),
        ("figures=gate_timescales network=tanh", r"network: expected a cell with gates .*, got tanh; choose one of"),
        ("figures=name_saliency data=adding", "data: expected names for name_saliency, such as data=generated, got"),
        ("figures=names_corpus data=adding", "data: expected names, such as data=generated or data=corpus, got adding"),
        (
            "figures=tanh_derivative cell=lstm",
            "cell: expected no settings for tanh_derivative, exact",
        ),
        ("figures=weight_spectrum experiment=none", "experiment: expected one of compare, lecture.*got 'none'"),
        (
            "figures=weight_spektrum",
            "figures: expected names out of .*, got weight_spektrum; did you mean weight_spectr",
        ),
        (
            "figures=weight_spectrum lnag=zh",
            "lnag: expected one of figures, names, .* or a setting, got 'lnag=zh'; did",
        ),
        ("figures=weight_spectrum cell=lstmm", "cell: expected one of .*, got 'lstmm'"),
        ("runs cell=lstm", "run: expected the folder of runs alone, got runs cell=lstm"),
        ("cell=lstm", r"run: expected the folder of runs, or figures=NAME,\.\.\., for which networks are trained, got"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signals, "patiently", lambda *_, **__: pytest.fail("trains"))
    monkeypatch.setattr(sys, "argv", ["figures.py", *arguments.split()])
    with pytest.raises(SystemExit, match=message):
        figures.main()
    assert list(tmp_path.rglob("run.json")) == []


def as_trained(folder: Path, overrides: list[str], **settings) -> Path:
    path = write_run(folder / str(len(list(folder.glob("*")))), config_of(names=8, **settings), Planted(iterations=12))
    (path / ".hydra").mkdir()
    (path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides), encoding="utf-8")
    return path


def test_of_what_was_trained_before_the_runs_that_are_asked_for_are_found(tmp_path):
    asked = ["experiment=lecture", "data.names_per_sequence=8", "network=tanh,gru", "seed=0"]
    own = [as_trained(tmp_path, [*ROLL_CALL, f"network={name}", "launcher=local"]) for name in ("tanh", "gru")]
    for other in (["network=lstm_forget_0"], ["network=tanh", "train.iterations=1"], ["network=none", "cell=rnn"]):
        as_trained(tmp_path, [*ROLL_CALL, *other])
    assert runs_asked_for(tmp_path, asked) == own
    assert runs_asked_for(tmp_path, [*asked[:2], "network=gru"]) == own[1:], "seeds are the experiment's to choose"


def test_a_figure_is_drawn_of_what_is_trained_for_it(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    commands = []

    def trains(command, **_):
        commands.append(command)
        as_trained(Path("outputs/figures/networks/lecture"), [*ROLL_CALL, "network=tanh"])
        return 0

    monkeypatch.setattr(signals, "patiently", trains)
    monkeypatch.setattr(sys, "argv", ["figures.py", "figures=singular_values_over_training", "lang=zh"])
    figures.main()
    said = capsys.readouterr()
    assert said.out == "outputs/figures/zh/singular_values_over_training (png, pdf, svg, csv, json)\n"
    assert "networks of experiment=lecture seed=0 data.names_per_sequence=8 network=tanh, about" in said.err
    assert "hydra.sweep.dir='outputs/figures/networks/lecture'" in commands[0]
    monkeypatch.setattr(signals, "patiently", lambda *_, **__: 1)
    monkeypatch.setattr(sys, "argv", ["animate.py", "figures=weight_spectrum", "context=paper"])
    with pytest.raises(SystemExit, match="weight_spectrum: not all networks are trained; the lines above say why"):
        animate.main()


def test_files_of_names_are_told_apart_by_what_they_hold(tmp_path):
    file = tmp_path / "names.csv"
    file.write_text("王伟,男\n", encoding="utf-8")
    before = networks.own_place(LOOK, ["data=csv", f"data.path={file}"])
    file.write_text("李娜,女\n", encoding="utf-8")
    assert networks.own_place(LOOK, ["data=csv", f"data.path={file}"]) != before
    assert before.parent == Path("outputs/figures/en")


def test_what_is_learned_from_is_read_from_the_settings(tmp_path):
    config = data_of(["cell=lstm", "data=roll_call", "data.source=csv", "data.path='a b.csv'", "data.train_size=7"])
    assert (config.source, config.path, config.train_size, config.names_per_sequence) == ("csv", "a b.csv", 7, 8)
    with pytest.raises(ValueError, match=r"data\.train_size: expected one value, got data\.train_size=1,2"):
        data_of(["data.train_size=1,2"])


LOOK = Look("en", "slide", "light")
TINY = ("debug=tiny", "data.vocabulary_size=500", "train.iterations=7", "record.every=2", "record.spectrum_every=2")


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_figure_is_drawn_from_nothing(lang, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in [*TRAINED, "names_corpus", "one_hot"]:
        words = [word for word in TINY if rooms()[name].training or word.startswith("data.")]
        monkeypatch.setattr(sys, "argv", ["figures.py", f"figures={name}", f"lang={lang}", "context=paper", *words])
        figures.main()
    monkeypatch.setattr(
        sys, "argv", ["animate.py", *(f"figures={','.join(gf.figures.ANIMATIONS)}", f"lang={lang}"), *TINY]
    )
    animate.main()
    drawn = {path.stem for path in Path("outputs/figures", lang).rglob("*.png")}
    assert {*TRAINED, "names_corpus", "one_hot"} <= drawn
    assert len(list(Path("outputs/figures", lang).rglob("animated_*.gif"))) == len(gf.figures.ANIMATIONS)
