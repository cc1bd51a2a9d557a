"""Names as a network meets them: the corpus counted, a name as one-hot vectors; their claims and figures."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import THEME, check_written, words

from gradflow import analysis, figures
from gradflow.config import DataConfig, Source
from gradflow.data import SEPARATOR, all_names, load, names_corpus, one_hot
from gradflow.data.generated import frequent_characters
from gradflow.figures.theme import CONTEXTS, LANGUAGES


@pytest.fixture(scope="module")
def generated() -> tuple[pd.DataFrame, tuple[str, ...]]:
    return all_names(DataConfig())


@pytest.fixture(scope="module")
def corpus(generated) -> pd.DataFrame:
    return names_corpus(*generated)


def only(data: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return data[data["quantity"] == quantity]


def verdicts(claims) -> dict[str, bool]:
    return {claim["claim"]: claim["holds"] for claim in claims}


# --- the corpus ------------------------------------------------------------------------------------------------------


def test_counts_are_those_of_a_plain_loop(generated, corpus):
    names, kept = generated
    counts = Counter("".join(names["name"]))
    shown = corpus[corpus["quantity"].isin(["kept", "left_out"])]
    assert dict(zip(shown["character"], shown["count"], strict=True)) == counts
    assert shown["count"].is_monotonic_decreasing
    assert shown["rank"].tolist() == list(range(1, len(counts) + 1))
    np.testing.assert_allclose(shown["share"], shown["count"] / sum(counts.values()))
    assert set(only(corpus, "kept")["character"]) == set(kept)
    inside = only(corpus, "inside")
    assert inside["count"].item() == sum(set(name) <= set(kept) for name in names["name"])
    for quantity, by in (("length", lambda name, label: (len(name),)), ("length_by_label", lambda n, la: (la, len(n)))):
        expected = Counter(by(name, label) for name, label in zip(names["name"], names["label"], strict=True))
        columns = ["label", "length"] if quantity == "length_by_label" else ["length"]
        rows = only(corpus, quantity)
        assert dict(zip(map(tuple, rows[columns].to_numpy()), rows["count"], strict=True)) == expected


def test_kept_is_what_a_model_of_the_source_keeps(files, generated):
    assert generated[1] == frequent_characters(500) == load(DataConfig(), seed=3).alphabet
    path = files["data/csv"][0].removeprefix("data.path=")
    config = DataConfig(source=Source.csv, path=path, vocabulary_size=12, train_size=10, test_size=2)
    names, alphabet = all_names(config)
    assert len(names) == 80
    assert alphabet == load(config, seed=0).alphabet
    by_number, by_characters = names_corpus(names, 12), names_corpus(names, alphabet)
    pd.testing.assert_frame_equal(by_number, by_characters)


def test_generated_names_are_drawn_from_all_characters(generated):
    names, kept = generated
    assert len(names) >= 11_000
    assert len(set("".join(names["name"])) - set(kept)) > 1000
    pd.testing.assert_frame_equal(names, all_names(DataConfig(), seed=0)[0])
    assert not names.equals(all_names(DataConfig(), seed=1)[0])


def test_shares_of_kept_characters_agree_with_the_packaged_counts(corpus):
    from gradflow.data.generated import SEXES, TABLE

    counts = pd.read_csv(TABLE).groupby("character")[list(SEXES)].sum().sum(axis=1)
    expected = counts[list(frequent_characters(500))].sum() / counts.sum()
    assert only(corpus, "kept")["share"].sum() == pytest.approx(expected, abs=0.01)


def test_claims_of_the_corpus(corpus):
    claims = analysis.names_corpus_claims(corpus)
    assert verdicts(claims) == {"vocabulary_covers": True, "shares_are_whole": True}
    assert claims[0]["value"] == pytest.approx(only(corpus, "kept")["share"].sum())
    assert (claims[0]["kept"], claims[0]["inside"]) == (500, 100 * only(corpus, "inside")["share"].item())
    fewer = corpus.assign(share=corpus["share"].where(corpus["quantity"] != "kept", corpus["share"] / 9))
    assert verdicts(analysis.names_corpus_claims(fewer)) == {"vocabulary_covers": False, "shares_are_whole": False}
    corpus.loc[0, "share"], before = np.nan, corpus.loc[0, "share"]
    assert verdicts(analysis.names_corpus_claims(corpus)) == {"vocabulary_covers": False, "shares_are_whole": False}
    corpus.loc[0, "share"] = before


def test_what_cannot_be_counted_is_refused_by_name():
    empty = pd.DataFrame({"name": ["a", ""], "label": ["x", "y"]})
    for names in (empty, empty.iloc[:0]):
        with pytest.raises(ValueError, match="names: expected one or more non-empty names"):
            names_corpus(names)
    with pytest.raises(ValueError, match="vocabulary: expected a whole number of at least 1, or characters, got 0"):
        names_corpus(empty.iloc[:1], 0)
    with pytest.raises(ValueError, match=r"data\.source: expected names, such as generated or corpus, got adding"):
        all_names(DataConfig(source=Source.adding))


# --- one name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["王晓丽", "王王", "李"])
def test_the_matrix_is_that_of_torch(name):
    import torch

    from gradflow.data import encode

    data = one_hot(name)
    inputs, _ = encode([name], frequent_characters(500))
    expected = torch.nn.functional.one_hot(torch.from_numpy(inputs[0]), 500).numpy()
    np.testing.assert_array_equal(data.pivot(index="time", columns="index", values="value"), expected)
    assert "".join(data.groupby("time")["character"].first()) == name
    assert tuple(data.groupby("index")["entry"].first()) == frequent_characters(500)


def test_it_is_what_a_model_is_given():
    import torch

    from gradflow.training.model import SequenceModel

    model = SequenceModel(torch.nn.RNN(500, 4), 2)
    dataset = load(DataConfig(), seed=0)
    inputs, _ = dataset.encode(["王晓丽"])
    seen = model.encode(torch.from_numpy(inputs).T)[:, 0].numpy()
    np.testing.assert_array_equal(one_hot().pivot(index="time", columns="index", values="value"), seen)


def test_a_character_outside_the_alphabet_has_no_vector():
    with pytest.raises(ValueError, match="expected characters of the alphabet of the model, which has 500, got '𠀀'"):
        one_hot("王𠀀")
    with pytest.raises(ValueError, match="expected one or more non-empty names"):
        one_hot("")


def test_a_roll_call_has_the_separator_as_a_column():
    data = one_hot("王伟|李娜", (*frequent_characters(500), SEPARATOR))
    ones = data[data["value"] == 1].set_index("time")
    assert (len(data), ones.loc[2, "index"], ones.loc[2, "entry"]) == (5 * 501, 500, SEPARATOR)


def test_claims_of_one_hot():
    data = one_hot()
    (claim,) = analysis.one_hot_claims(data)
    assert (claim["value"], claim["holds"], claim["asked"], claim["numbers"]) == (3, True, "王晓丽", "1500")
    for spoilt in (
        data.assign(value=0),
        data.assign(value=data["value"] * 2),
        data.assign(value=data["value"].shift(1, fill_value=0)),
        data.assign(value=data["value"].where(data.index != 7, np.nan)),
        data.iloc[1:],
    ):
        assert not analysis.one_hot_claims(spoilt)[0]["holds"]


# --- figures ---------------------------------------------------------------------------------------------------------


TABLES = {
    "names_corpus": lambda corpus: corpus,
    "one_hot": lambda corpus: one_hot(),
    "one_hot of a roll call": lambda corpus: one_hot("王伟|李娜|张晓丽", (*frequent_characters(500), SEPARATOR)),
    "one_hot of one": lambda corpus: one_hot("a", "a"),
    "names_corpus of one": lambda corpus: names_corpus(pd.DataFrame({"name": ["a"], "label": ["x"]})),
    "names_corpus of many labels": lambda corpus: names_corpus(
        pd.DataFrame({"name": ["ab", "bc", "abcd"], "label": ["x", "y", "z"]}), 2
    ),
}


@pytest.mark.parametrize("context", [pytest.param(c, marks=[pytest.mark.slow] * (c != "paper")) for c in CONTEXTS])
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", TABLES)
def test_figures_are_written_whole(name, lang, context, corpus, tmp_path: Path):
    data, figure_name = TABLES[name](corpus), name.split()[0]
    copy = data.copy(deep=True)
    claims = getattr(analysis, f"{figure_name}_claims")(data)
    figure = getattr(figures, f"plot_{figure_name}")(data, claims=claims, lang=lang, context=context, theme=THEME[lang])
    pd.testing.assert_frame_equal(data, copy)
    if context == "paper":
        check_written(figure, tmp_path / name, data, claims, lang)
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert min(box.x0, box.y0) >= -1
        assert np.all(box.max <= figure.bbox.max + 1)


def test_figures_say_what_is_kept_and_which_columns_are_hit(corpus):
    said = words(figures.plot_names_corpus(corpus, context="paper"))
    for text in ("500 kept (blue):\n75.9 % of all characters", "Names: generated.", "王", "女", "男"):
        assert text in said
    said = words(figures.plot_one_hot(one_hot(), context="paper"))
    for text in ("dictionary:\n500 characters", "王 → 0", "丽\n22", "晓\n158", "王\n0", "\n499", "…"):
        assert text in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_figures_survive_values_that_are_not_finite(value, corpus):
    for broken in (corpus.index % 3 == 0, corpus.index >= 0):
        data = corpus.assign(share=corpus["share"].mask(broken, value))
        figures.plot_names_corpus(data, claims=analysis.names_corpus_claims(data), context="paper")
    data = one_hot()
    data["value"] = data["value"].astype(float).mask(data.index % 3 == 0, value)
    figures.plot_one_hot(data, claims=analysis.one_hot_claims(data), context="paper")


def test_a_name_that_is_too_long_is_refused_by_name():
    with pytest.raises(ValueError, match="data: expected at most 12 steps, got 13; draw a shorter name"):
        figures.plot_one_hot(one_hot("王" * 13))


@pytest.mark.shared
def test_the_vocabulary_of_real_names_covers_most_of_them(shared_data: Path):
    names = pd.read_csv(shared_data / "chinese_names_labelled.csv", names=["name", "label"])
    claims = analysis.names_corpus_claims(names_corpus(names))
    assert verdicts(claims) == {"vocabulary_covers": True, "shares_are_whole": True}
    assert claims[0]["inside"] == pytest.approx(38, abs=1)
