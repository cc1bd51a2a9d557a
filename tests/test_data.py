"""What every source of names goes through: cleaning, the alphabet, the split, roll calls, encoding."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradflow.config import DataConfig, Source
from gradflow.data import Dataset, Sequences, encode, load
from gradflow.data.cleaning import clean, keep_inside, most_frequent_characters


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def csv_config(path: Path, **settings: int) -> DataConfig:
    return DataConfig(source=Source.csv, path=str(path), **settings)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """200 different names of two to three letters out of seven, labelled by their first letter."""
    names = [a + b + c for a in "abcdefg" for b in "abcdefg" for c in ["", *"abcd"]][:200]
    return write(tmp_path / "many.csv", *(f"{name},{'vowel' if name[0] in 'ae' else 'consonant'}" for name in names))


def decode(dataset: Dataset, sequences: Sequences) -> list[str]:
    """The texts of a set, from indices and lengths alone."""
    rows = zip(sequences.inputs, sequences.lengths, strict=True)
    return ["".join(dataset.alphabet[index] for index in row[:length]) for row, length in rows]


def table(*rows: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "label"], dtype="str")


def test_indices_lengths_and_targets_say_what_the_file_said(many: Path) -> None:
    dataset = load(csv_config(many, train_size=150, test_size=50), seed=0)
    truth = dict(line.split(",") for line in many.read_text().split())
    got: dict[str, str] = {}
    for part, size in ((dataset.train, 150), (dataset.test, 50)):
        assert len(part) == size == len(part.inputs) == len(part.lengths)
        assert {part.inputs.dtype, part.lengths.dtype, part.targets.dtype} == {np.dtype(np.int64)}
        assert part.inputs.shape[1] == part.lengths.max() == 3
        beyond = np.arange(3) >= part.lengths[:, None]
        assert beyond.any()
        assert not part.inputs[beyond].any()
        got |= dict(zip(decode(dataset, part), (dataset.classes[k] for k in part.targets), strict=True))
    assert got == truth  # also: train and test share no name
    assert dataset.classes == ("consonant", "vowel")
    assert sorted(dataset.alphabet) == list("abcdefg")
    assert dataset.task.input_size == 7
    assert dataset.names_per_sequence == 1
    assert dataset.dropped == {}


def test_chance_is_the_share_of_the_commonest_class_of_the_test_set(many: Path) -> None:
    dataset = load(csv_config(many, train_size=150, test_size=50), seed=0)
    consonants = sum(name[0] not in "ae" for name in decode(dataset, dataset.test))
    assert dataset.task.chance_accuracy == max(consonants, 50 - consonants) / 50


def test_one_seed_gives_the_same_sequences_and_another_gives_others(many: Path) -> None:
    config = csv_config(many, train_size=100, test_size=50)
    first, again, other = (load(config, seed) for seed in (3, 3, 4))
    for part in ("train", "test"):
        np.testing.assert_array_equal(getattr(first, part).inputs, getattr(again, part).inputs)
    assert decode(first, first.test) != decode(other, other.test)


def test_the_test_names_stay_when_the_training_set_or_the_roll_call_grows(many: Path) -> None:
    small = load(csv_config(many, train_size=10, test_size=50), seed=0)
    for larger in (
        load(csv_config(many, train_size=150, test_size=50), seed=0),
        load(csv_config(many, train_size=10, test_size=50, names_per_sequence=4), seed=0),
    ):
        assert [text.split("|")[0] for text in decode(larger, larger.test)] == decode(small, small.test)


def test_only_names_within_the_most_frequent_characters_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "names.csv", "aab,x", "aba,y", "baa,x", "ab,y", "ac,x", "zzq,y")
    dataset = load(csv_config(path, vocabulary_size=2, train_size=3, test_size=1), seed=0)
    assert dataset.alphabet == ("a", "b")
    assert sorted(decode(dataset, dataset.train) + decode(dataset, dataset.test)) == ["aab", "ab", "aba", "baa"]
    assert dataset.dropped == {"outside the 2 most frequent characters": 2}


def test_ties_between_characters_are_decided_by_their_code_points() -> None:
    assert most_frequent_characters(["cb", "ba", "d", "da"], size=3) == ("a", "b", "d")
    assert most_frequent_characters(["ab"], size=500) == ("a", "b")


def test_keep_inside_looks_at_every_character_of_every_name() -> None:
    names = table(("ab", "x"), ("ac", "x"), ("ca", "x"), ("b", "x"), ("c", "x"), ("a", "x"))
    assert keep_inside(names, ("a", "b"), {})["name"].to_list() == ["ab", "b", "a"]


def test_every_drop_is_counted_by_its_reason() -> None:
    dropped: dict[str, pd.Index] = {}
    rows = [
        ("", "男"),
        ("王", ""),
        ("李伟", "未知"),
        ("a|b", "男"),
        ("王伟", "男"),
        ("王伟", "男"),
        ("阿安", "男"),
        ("阿安", "女"),
    ]
    kept = clean(table(*rows, ("李娜", "女")), dropped)
    assert kept["name"].to_list() == ["王伟", "李娜"]
    assert {reason: len(rows) for reason, rows in dropped.items()} == {
        "without a name": 1,
        "without a label": 1,
        "of label 未知 (unknown)": 1,
        "holding the separator |": 1,
        "given twice": 1,
        "with several labels": 2,
    }


def test_ambiguous_names_are_kept_once_per_label_where_classes_share_names() -> None:
    names = table(("Ross", "Scottish"), ("Ross", "English"), ("Ross", "English"))
    kept = clean(names, {}, keep_ambiguous=True)
    assert kept["label"].to_list() == ["Scottish", "English"]


def test_the_log_says_what_was_dropped_in_one_line(many: Path, caplog: pytest.LogCaptureFixture) -> None:
    with many.open("a", encoding="utf-8") as file:
        file.write("aa,vowel\n" * 1500 + "b,\n")
    with caplog.at_level(logging.INFO, logger="gradflow"):
        load(csv_config(many, train_size=150, test_size=50), seed=0)
    dropped = "1,500 given twice (lines 201, 202, 203, ...), 1 without a label (line 1701)"
    assert f"data=csv: 200 names kept, dropped: {dropped}" in caplog.messages


def test_too_few_names_are_an_error_that_suggests_sizes_that_work(many: Path) -> None:
    expected = r"expected at most 200 together.*got 11,000; set for example data.train_size=182 data.test_size=18"
    with pytest.raises(ValueError, match=expected):
        load(csv_config(many), seed=0)
    assert len(load(csv_config(many, train_size=182, test_size=18), seed=0).train) == 182


def test_nothing_left_or_a_single_label_is_an_error(tmp_path: Path) -> None:
    header_only = write(tmp_path / "header.csv", "name,label")
    with pytest.raises(ValueError, match=r"two or more labels, got 0 names.*dropped: none; check the file"):
        load(csv_config(header_only), seed=0)
    unknown = write(tmp_path / "unknown.csv", *["王伟,未知"] * 3)
    with pytest.raises(ValueError, match=r"got 0 names.*dropped: 3 of label 未知 \(unknown\) \(lines 1, 2, 3\); check"):
        load(csv_config(unknown), seed=0)
    alike = write(tmp_path / "alike.csv", "a,x", "b,x", "c,x")
    with pytest.raises(ValueError, match="expected names of two or more labels, got 3 names of label 'x'"):
        load(csv_config(alike), seed=0)
    rare = write(tmp_path / "rare.csv", "ab,x", "cd,y", "ef,x", "gh,y")
    with pytest.raises(ValueError, match=r"4 outside the 1 most frequent.*or raise data.vocabulary_size"):
        load(csv_config(rare, vocabulary_size=1), seed=0)


def test_a_roll_call_is_labelled_by_its_first_name_and_stays_within_its_split(many: Path) -> None:
    plain = load(csv_config(many, train_size=150, test_size=50), seed=0)
    dataset = load(csv_config(many, train_size=150, test_size=50, names_per_sequence=5), seed=0)
    assert dataset.alphabet == (*plain.alphabet, "|")
    for part, names in ((dataset.train, decode(plain, plain.train)), (dataset.test, decode(plain, plain.test))):
        calls = [text.split("|") for text in decode(dataset, part)]
        assert [call[0] for call in calls] == names
        assert {len(call) for call in calls} == {5}
        others = [name for call in calls for name in call[1:]]
        assert set(others) <= set(names)
        assert len(set(others)) > len(names) // 2  # drawn at random, not one name over and over
        is_vowel = [dataset.classes[k] == "vowel" for k in part.targets]
        assert is_vowel == [name[0] in "ae" for name in names]


def test_encode_names_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"alphabet of the model, which has 2, got 'xé'; leave out the names"):
        encode(["ab", "éx"], ("a", "b"))
    with pytest.raises(ValueError, match=r"expected one or more non-empty names, got \['ab', ''\]"):
        encode(["ab", ""], ("a", "b"))
    with pytest.raises(ValueError, match=r"non-empty names, got \[\]"):
        encode([], ("a", "b"))
    with pytest.raises(TypeError, match=r"expected a list of names, got one string; write \['ab'\]"):
        encode("ab", ("a", "b"))


def test_encode_takes_characters_beyond_the_basic_plane() -> None:
    inputs, lengths = encode(["𠮷a", "a"], ("a", "𠮷"))
    assert inputs.tolist() == [[1, 0], [0, 0]]
    assert lengths.tolist() == [2, 1]


def test_a_saved_vocabulary_encodes_as_the_dataset_does(many: Path) -> None:
    dataset = load(csv_config(many, train_size=150, test_size=50, names_per_sequence=2), seed=0)
    saved = json.loads(json.dumps(dataset.vocabulary()))
    assert saved["classes"] == ["consonant", "vowel"]
    assert (saved["separator"], saved["names_per_sequence"]) == ("|", 2)
    text = saved["separator"].join(["ab", "gab"])
    for got, expected in zip(encode([text], saved["alphabet"]), dataset.encode(["ab|gab"]), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert load(csv_config(many, train_size=9, test_size=9), seed=0).vocabulary()["separator"] is None


def test_names_load_without_torch() -> None:
    program = "import sys, gradflow.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
