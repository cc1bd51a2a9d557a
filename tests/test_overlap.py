"""What a test set that overlaps with training does to the accuracy: the same networks on names of both kinds."""

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_written

import gradflow as gf
from gradflow import analysis, figures
from gradflow.config import CellConfig, Config, DataConfig, TrainConfig
from gradflow.data import load
from gradflow.training.loop import train
from gradflow.training.prediction import SLIDE, overlap, predict


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory):
    """A network that learnt forty names from a file by heart, and the file."""
    folder = tmp_path_factory.mktemp("overlap")
    rng, file = np.random.default_rng(0), folder / "names.csv"
    drawn = dict.fromkeys("".join(rng.choice(list("王李张刘陈杨赵黄周吴丽娜伟强芳敏静军洋勇"), 3)) for _ in range(90))
    file.write_text("".join(f"{name},{'女男'[rng.integers(2)]}\n" for name in drawn), encoding="utf-8")
    data = DataConfig(source="csv", path=str(file), train_size=40, test_size=20)
    config = Config(
        data=data, cell=CellConfig(hidden_size=24), train=TrainConfig(iterations=120, batch_size=40, lr=0.02)
    )
    train(config, folder / "run", progress=False)
    return folder / "run", file, data


def test_both_shares_are_those_of_asking_name_by_name(names):
    path, _, config = names
    data, known = overlap([path]), load(config, 0)
    for quantity, part in (("seen", known.train), ("unseen", known.test)):
        row = data[data["quantity"] == quantity].iloc[0]
        asked = ["".join(known.alphabet[i] for i in r[:n]) for r, n in zip(part.inputs, part.lengths, strict=True)]
        right = [
            next(iter(answer.probabilities)) == known.classes[target]
            for answer, target in zip(predict(path, asked), part.targets, strict=True)
        ]
        assert (row["value"], row["count"]) == (pytest.approx(np.mean(right)), len(part))
    assert set(data["slide"]) == {SLIDE}


def test_labels_at_random_are_learnt_by_heart_and_say_nothing_of_new_names(names):
    (claim,) = analysis.overlap_claims(overlap([names[0]]))
    assert claim["holds"]
    assert float(claim["seen"]) > 90 > float(claim["unseen"])
    alike = overlap([names[0]]).assign(value=0.9)
    assert not analysis.overlap_claims(alike)[0]["holds"]
    assert analysis.overlap_claims(alike.assign(slide=np.nan))[0]["variant"] == "elsewhere"
    assert analysis.overlap_claims(alike.assign(value=np.nan)) == []


def test_other_names_in_the_file_are_refused(names):
    path, file, _ = names
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace("丽", "利"), encoding="utf-8")
    try:
        with pytest.raises(ValueError, match=r"data\.path: expected the names that .*run learnt from, got others in"):
            overlap([path])
    finally:
        file.write_text(before, encoding="utf-8")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("gap", [0.05, 0.0])
def test_the_figure_says_what_overlap_does(lang, gap, tmp_path):
    same = {"num_layers": 1, "bidirectional": False, "source": "csv", "names_per_sequence": 1, "length": 0, "start": ""}
    rows = [
        {"cell": cell, "seed": seed, "quantity": quantity, "value": 0.9 + share + seed / 500, "count": 1000}
        for cell in ("lstm", "rnn")
        for seed in (0, 1)
        for quantity, share in (("seen", gap), ("unseen", 0.0))
    ]
    data = pd.DataFrame(rows).assign(**same, slide=SLIDE)
    claims = analysis.overlap_claims(data)
    figure = figures.plot_overlap(data, claims=claims, lang=lang, context="paper")
    check_written(figure, tmp_path / "overlap", data, claims, lang)
    assert gf.figures.catalogue.Labels(lang).claim(claims[0]).count("97.9") == 1
