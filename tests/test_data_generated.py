"""Generated names: their make-up, and whether a model that learnt from them knows real ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gradflow.config import DataConfig, Source
from gradflow.data import Dataset, Sequences, load
from gradflow.data.build_counts import count_characters
from gradflow.data.cleaning import clean
from gradflow.data.generated import MIX, SEXES, TABLE, generate
from gradflow.data.tables import read_csv


def decode(dataset: Dataset, sequences: Sequences) -> list[str]:
    rows = zip(sequences.inputs, sequences.lengths, strict=True)
    return ["".join(dataset.alphabet[index] for index in row[:length]) for row, length in rows]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(DataConfig(), seed=0)


def test_the_default_is_ten_thousand_names_that_share_none_with_the_test_set(dataset: Dataset) -> None:
    train, test = decode(dataset, dataset.train), decode(dataset, dataset.test)
    assert (len(set(train)), len(set(test))) == (10_000, 1_000)
    assert not set(train) & set(test)
    assert dataset.classes == SEXES
    assert dataset.task.input_size == 500


def test_lengths_are_mixed_as_stated_and_the_sexes_are_even(dataset: Dataset) -> None:
    shares = np.bincount(dataset.train.lengths) / len(dataset.train)
    assert shares[2:] == pytest.approx(list(MIX.values()), abs=0.03)
    assert dataset.train.targets.mean() == pytest.approx(0.5, abs=0.02)


def test_the_alphabet_does_not_depend_on_the_seed_but_the_names_do(dataset: Dataset) -> None:
    again, other = load(DataConfig(), seed=0), load(DataConfig(), seed=1)
    np.testing.assert_array_equal(dataset.train.inputs, again.train.inputs)
    assert other.alphabet == dataset.alphabet
    assert len(set(decode(other, other.test)) & set(decode(dataset, dataset.test))) < 100


def test_characters_follow_the_counts_of_their_position_and_sex() -> None:
    names, _ = generate(20_000, 500, np.random.default_rng(0), {})
    counts = pd.read_csv(TABLE).query("position == 'given_2'").set_index("character")
    men = names[(names["label"] == "男") & (names["name"].str.len() == 3)]
    drawn = men["name"].str[2].value_counts(normalize=True)
    expected = counts["男"][drawn.index] / counts["男"][drawn.index].sum()
    assert np.corrcoef(drawn, expected)[0, 1] > 0.98
    assert np.corrcoef(drawn, counts["女"][drawn.index])[0, 1] < 0.5


def test_any_number_of_names(dataset: Dataset) -> None:
    few = load(DataConfig(train_size=3, test_size=1), seed=0)
    assert (len(few.train), len(few.test)) == (3, 1)
    assert few.alphabet == dataset.alphabet
    assert len(load(DataConfig(train_size=100_000), seed=0).train) == 100_000


def test_drops_are_reported(dataset: Dataset) -> None:
    assert set(dataset.dropped) == {"given twice", "with several labels"}


@pytest.mark.parametrize("vocabulary_size", [1, 10])
def test_too_few_characters_for_so_many_names_are_an_error(vocabulary_size: int) -> None:
    with pytest.raises(ValueError, match=rf"expected enough characters for 11,000 .*got {vocabulary_size}, .*raise it"):
        load(DataConfig(vocabulary_size=vocabulary_size), seed=0)


def test_a_path_is_not_silently_left_unread() -> None:
    with pytest.raises(ValueError, match=r"data=generated reads no file, got names.csv; read it by data=csv"):
        load(DataConfig(path="names.csv"), seed=0)


def test_counting_characters() -> None:
    names = pd.DataFrame({"name": ["甲乙丙"] * 10 + ["甲丁"] * 20 + ["甲戊丙"], "label": ["女"] * 9 + ["男"] * 22})
    assert count_characters(names).to_dict("records") == [
        {"position": "given_1", "character": "乙", "女": 9, "男": 1},
        {"position": "given_2", "character": "丙", "女": 9, "男": 2},
        {"position": "surname", "character": "甲", "女": 9, "男": 2},
    ]


@pytest.mark.shared
def test_the_packaged_table_is_what_the_real_names_give(shared_data: Path) -> None:
    names = clean(read_csv(shared_data / "chinese_names_labelled.csv"), {})
    pd.testing.assert_frame_equal(count_characters(names), pd.read_csv(TABLE), check_names=False)


Model = Callable[[np.ndarray, np.ndarray], torch.Tensor]


def train_on(train: Sequences, input_size: int) -> Model:
    """A vanilla RNN by the lecture's recipe: H=64, Adam 1e-3, batches of 100, 5 epochs."""
    torch.manual_seed(0)
    rnn, readout = torch.nn.RNN(input_size, 64, batch_first=True), torch.nn.Linear(64, 2)
    optimizer = torch.optim.Adam([*rnn.parameters(), *readout.parameters()], lr=1e-3)

    def logits(inputs: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(inputs), input_size).float()
        return readout(rnn(one_hot)[0][torch.arange(len(lengths)), torch.from_numpy(lengths) - 1])

    rng = np.random.default_rng(0)
    for _ in range(5):
        for batch in rng.permutation(len(train)).reshape(-1, 100):
            targets = torch.from_numpy(train.targets[batch])
            loss = torch.nn.functional.cross_entropy(logits(train.inputs[batch], train.lengths[batch]), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return logits


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.shared
@pytest.mark.usefixtures("one_thread")
def test_a_model_trained_on_generated_names_knows_real_ones(shared_data: Path, dataset: Dataset) -> None:
    path = str(shared_data / "chinese_names_labelled.csv")
    real = load(DataConfig(source=Source.csv, path=path, test_size=5_000), seed=0)
    all_names = decode(real, real.test)
    shared = [i for i, name in enumerate(all_names) if set(name) <= set(dataset.alphabet)]
    assert len(shared) > 4_900
    names = [all_names[i] for i in shared]
    targets = torch.from_numpy(real.test.targets[shared])

    def accuracy(source: Dataset) -> float:
        logits = train_on(source.train, source.task.input_size)
        with torch.no_grad():
            return (logits(*source.encode(names)).argmax(1) == targets).double().mean().item()

    of_real, of_generated = accuracy(real), accuracy(dataset)
    assert of_real > 0.92
    assert of_generated > of_real - 0.02
