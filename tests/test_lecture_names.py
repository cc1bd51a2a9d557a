"""The lecture on names of one's own: what every slide about names is of, and what is refused."""

import json
import shutil
from pathlib import Path

import click
import numpy as np
import pytest

from gradflow.commands import deck
from gradflow.commands.lecture import OF_NAMES
from gradflow.commands.names import LECTURE, Source, asked_names, asked_of, chosen, learnt_from, names_of
from gradflow.config import CellConfig, Config, DataConfig, TrainConfig
from gradflow.training.loop import train

CORPUS = "By@someone\n2025.11.09\n\ndict,sex\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names that nobody bears, in the format of Chinese-Names-Corpus; none is in the lecture's characters."""
    rng = np.random.default_rng(0)
    drawn = dict.fromkeys("甲乙丙"[rng.integers(3)] + "".join(rng.choice(list("子丑寅卯辰"), 2)) for _ in range(90))
    rows = "".join(f"{name},{'女男'[i % 2]}\n" for i, name in enumerate(drawn)) + "甲,未知\n"
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(CORPUS + rows, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def words(file) -> list[str]:
    return ["data=corpus", f"data.path={file}", "data.train_size=20", "data.test_size=10"]


@pytest.fixture(scope="module")
def trained(file, tmp_path_factory) -> Path:
    """The folder of a lecture whose classifiers learnt from these names."""
    folder = tmp_path_factory.mktemp("lecture")
    data = DataConfig(source="corpus", path=str(file), train_size=20, test_size=10)
    config = Config(data=data, cell=CellConfig(hidden_size=4), train=TrainConfig(iterations=2, batch_size=10))
    train(config, folder / "names" / "run", progress=False)
    (folder / "names" / "run" / ".hydra").mkdir()
    overrides = (
        f"- cell=rnn\n- seed=0\n- data.source=corpus\n- data.path='{file}'\n- data.train_size=20\n- debug=tiny\n"
    )
    (folder / "names" / "run" / ".hydra" / "overrides.yaml").write_text(overrides, encoding="utf-8")
    return folder


def parts(folder: Path) -> list[Path]:
    return [folder / part for part in OF_NAMES]


def test_every_slide_about_names_is_of_those_that_were_chosen(trained, file):
    slides = {slide.figure: slide for slide in deck.deck("甲子丑", ["甲子丑"])}
    assert set(slides["names_corpus"].table(trained)["source"]) == {"corpus"}
    letters = set(slides["names_corpus"].table(trained)["character"].dropna())
    assert letters == set("甲乙丙子丑寅卯辰")
    one_hot = slides["one_hot"].table(trained)
    assert (set(one_hot["entry"]), one_hot["time"].nunique()) == (letters, 3)
    counts = slides["overlap"].table(trained).set_index("quantity")["count"]
    assert counts.to_dict() == {"seen": 20, "unseen": 10}


def test_names_that_the_source_lacks_give_way_to_its_own(file, words):
    source = chosen(words)
    name, names = asked_names(source, LECTURE[0], ",".join(LECTURE))
    assert name == names[0]
    assert len(names) == 4
    labels = source.table.set_index("name")["label"]
    assert labels[names].tolist() == ["女", "男", "女", "男"]
    assert asked_names(chosen([]), "张伟", ",".join(LECTURE)) == ("张伟", list(LECTURE))
    with pytest.raises(click.UsageError, match="names: expected characters of the alphabet of the model, which has 8"):
        asked_names(source, "甲子", "甲子,张伟")


def test_a_model_is_asked_names_that_it_knows(trained):
    run = trained / "names" / "run"
    alone, together = asked_of(run, together=False), asked_of(run, together=True)
    assert together == alone[:1]
    assert set("".join(alone)) <= set(json.loads((run / "vocabulary.json").read_text(encoding="utf-8"))["alphabet"])


def test_what_is_trained_learns_from_these_names(words, file):
    expected = ["data.source=corpus", "data.train_size=20", "data.test_size=10", f"data.path='{file}'"]
    assert chosen(words).settings == expected
    assert chosen([]).settings == []


def test_going_on_takes_the_names_that_are_there_and_refuses_others(trained, words, tmp_path, file):
    going_on = names_of(parts(trained), [])
    assert going_on.config.path == str(file)
    assert going_on.settings == ["data.source=corpus", f"data.path='{file}'", "data.train_size=20"]
    assert names_of(parts(trained), words).config == going_on.config
    other = tmp_path / "other.txt"
    shutil.copy(file, other)
    for wrong, message in {
        ("data=generated",): "data.source: expected corpus, from which the networks in path=.* learnt, got generated",
        (words[0], f"data.path={other}", *words[2:]): r"data\.path: expected .*corpus\.txt, from which .*other\.txt",
        (*words[:2], "data.train_size=21", words[3]): "data.train_size: expected 20, from which .*, got 21; leave the",
        ("cell=lstm",): "cell: expected one of path, lang, name, names, launcher, data, data.path, got 'cell=lstm'",
        ("data=adding",): "data: expected names, such as data=generated or data=corpus, got adding",
        ("data=csv", "data.path=nowhere.csv"): "data.source: expected corpus",
    }.items():
        with pytest.raises(click.UsageError, match=message):
            names_of(parts(trained), list(wrong))


def test_a_file_that_is_missing_or_too_small_is_said_before_anything_is_trained(words, tmp_path):
    with pytest.raises(click.UsageError, match=r"data\.path: expected a file of labelled names, got nowhere\.txt"):
        names_of(parts(tmp_path), ["data=corpus", "data.path=nowhere.txt"])
    with pytest.raises(click.UsageError, match=r"data\.train_size, data\.test_size: expected at most \d+ together"):
        names_of(parts(tmp_path), words[:2])


def test_a_file_that_holds_other_names_now_is_refused(trained, file):
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace("辰", "巳"), encoding="utf-8")
    try:
        with pytest.raises(ValueError, match=r"data\.path: expected the names that the networks in .* learnt from"):
            learnt_from(trained / "names")
    finally:
        file.write_text(before, encoding="utf-8")


def test_without_networks_there_are_the_names_by_default(tmp_path):
    assert learnt_from(tmp_path / "nowhere").config == Source(DataConfig()).config
    assert names_of(parts(tmp_path), []).shown() == list(LECTURE)
