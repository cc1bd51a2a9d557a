"""The long-range tasks: what each promises about its sequences, checked one sequence at a time; chance by trial."""

import sys
from pathlib import Path

import numpy as np
import pytest

from gradflow.config import DataConfig, Source
from gradflow.data import load
from gradflow.figures.theme import LANGUAGES
from gradflow.tasks import problem, problem_names
from gradflow.tasks.problems.adding import adding
from gradflow.tasks.problems.chaotic_map import SEEN, UNITS
from gradflow.tasks.problems.copy_memory import copy_memory
from gradflow.tasks.problems.delayed_xor import delayed_xor
from gradflow.tasks.problems.digit_sum import digit_sum
from gradflow.tasks.problems.recall_first import recall_first
from gradflow.tasks.problems.temporal_order import temporal_order

N = 400


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("length", [2, 3, 50])
def test_adding(length):
    drawn = adding(length, N, rng())
    for pairs, target in zip(drawn.inputs, drawn.targets, strict=True):
        places = [t for t in range(length) if pairs[t, 1] == 1]
        assert len(places) == 2
        assert places[0] < length // 2 <= places[1]
        assert set(pairs[:, 1]) <= {0, 1}
        assert target[0] == pytest.approx(pairs[places[0], 0] + pairs[places[1], 0])
    assert drawn.inputs[..., 0].min() >= 0
    assert drawn.inputs[..., 0].max() < 1


@pytest.mark.parametrize("length", [2, 51])
def test_delayed_xor(length):
    drawn = delayed_xor(length, N, rng())
    for pairs, target in zip(drawn.inputs, drawn.targets, strict=True):
        bits = [int(bit) for bit, mark in pairs if mark]
        assert len(bits) == 2
        assert target == (bits[0] != bits[1])
    assert 0.4 < drawn.targets.mean() < 0.6


@pytest.mark.parametrize(
    ("symbols", "length", "places"),
    [
        (2, 10, [(1, 2), (5, 6)]),
        (2, 50, [(5, 10), (25, 30)]),
        (3, 100, [(10, 20), (33, 43), (66, 76)]),
        (3, 10, [(1, 2), (3, 4), (6, 7)]),
    ],
)
def test_temporal_order(symbols, length, places):
    drawn = temporal_order(length, N, rng(), symbols)
    seen = [set() for _ in places]
    for sequence, target in zip(drawn.inputs, drawn.targets, strict=True):
        found = [t for t in range(length) if sequence[t] < 2]
        assert len(found) == symbols
        for i, (place, (low, high)) in enumerate(zip(found, places, strict=True)):
            assert low <= place < high
            seen[i].add(place)
        assert target == int("".join(str(sequence[t]) for t in found), 2)
    assert [len(s) for s in seen] == [high - low for low, high in places]
    assert set(drawn.targets) == set(range(2**symbols))
    assert set(drawn.inputs.ravel()) == set(range(6))


def test_recall_first():
    drawn = recall_first(30, N, rng())
    assert (drawn.targets == drawn.inputs[:, 0]).all()
    assert set(drawn.targets) == {0, 1, 2, 3}
    assert set(drawn.inputs[:, 1:].ravel()) == {4, 5, 6, 7}
    assert recall_first(1, 3, rng()).inputs.shape == (3, 1)


@pytest.mark.parametrize(("length", "symbols"), [(3, 1), (21, 10), (60, 10)])
def test_copy_memory(length, symbols):
    drawn = copy_memory(length, N, rng(), symbols)
    for sequence, target in zip(drawn.inputs.tolist(), drawn.targets.tolist(), strict=True):
        blanks = length - 2 * symbols - 1
        said = sequence[:symbols]
        assert sequence == said + [8] * blanks + [9] + [8] * symbols
        assert target == [8] * (length - symbols) + said
        assert max(said) < 8


def test_digit_sum():
    drawn = digit_sum(12, N, rng())
    assert (drawn.targets == drawn.inputs[:, 0] + drawn.inputs[:, 1]).all()
    assert not drawn.inputs[:, 2:].any()
    assert set(drawn.inputs[:, :2].ravel()) == set(range(10))


def test_chaotic_map_continues_its_own_system():
    config = DataConfig(Source.chaotic_map, length=20, gain=2.0)
    dataset = problem("chaotic_map").make(config, rng())
    task, drawn = dataset.task, dataset.draw(5, rng(1))
    weight = (rng().standard_normal((UNITS, UNITS)) * 2.0 / np.sqrt(UNITS)).astype(np.float32)
    h = rng(1).uniform(-1, 1, (5, UNITS)).astype(np.float32)
    for t in range(-50, 21):
        h = np.tanh(h @ weight.T)
        if 0 <= t < 20:
            assert np.array_equal(drawn.inputs[:, t], h[:, :SEEN])
        if t > 0:
            assert np.array_equal(drawn.targets[:, t - 1], h[:, :SEEN])
    assert task.success.threshold == pytest.approx(0.1 * task.chance_loss)


def test_chaotic_map_is_chaotic_above_gain_one_only():
    def separation(gain):
        """Mean log of how much farther apart two neighbours are after 40 steps."""
        weight = rng().standard_normal((UNITS, UNITS)) * gain / np.sqrt(UNITS)
        h = rng(1).uniform(-1, 1, (20, UNITS))
        for _ in range(100):
            h = np.tanh(h @ weight.T)
        near = h + 1e-9 * rng(2).standard_normal(h.shape)
        start = np.linalg.norm(near - h, axis=1)
        for _ in range(40):
            h, near = np.tanh(h @ weight.T), np.tanh(near @ weight.T)
        return np.log(np.linalg.norm(near - h, axis=1) / start).mean()

    assert separation(0.5) < 0 < separation(2.0)


CONFIGS = {
    source: DataConfig(source, length=30, symbols=2 if source == Source.temporal_order else 5, test_size=4000)
    for source in Source
    if not (source.of_names or source == Source.digits)
}


@pytest.mark.parametrize("name", problem_names())
def test_a_problem_has_a_choice_a_label_in_both_languages_and_a_criterion(name):
    choice = Path(__file__).parents[1] / "conf" / "data" / f"{name}.yaml"
    assert f"source: {name}\n" in choice.read_text(encoding="utf-8")
    assert set(problem(name).label) == set(LANGUAGES)
    assert all(problem(name).label.values())
    if name == "digits":
        pytest.importorskip("sklearn", reason="needs scikit-learn, the extra `digits`")
    config = DataConfig(Source(name), symbols=2, test_size=5)
    success = problem(name).make(config, rng()).task.success
    assert success.quantity in ("test_accuracy", "test_loss")
    assert success.threshold > 0
    assert success.source


def test_every_problem_is_told_from_the_others():
    for lang in LANGUAGES:
        assert len({problem(name).label[lang] for name in problem_names()}) == len(problem_names())


@pytest.mark.parametrize("source", CONFIGS)
def test_chance_is_what_ignorance_scores(source):
    """The best answer that does not look at the input: the frequencies of each position, or the mean."""
    dataset = load(CONFIGS[source], seed=3)
    task, targets = dataset.task, dataset.test.targets
    if task.values:
        error = targets - targets.mean()
        loss, accuracy = np.square(error).mean(), (np.abs(error) < task.tolerance).mean()
    else:
        columns = targets.reshape(len(targets), -1)
        shares = np.stack([np.bincount(column, minlength=task.output_size) / len(targets) for column in columns.T])
        positive = np.where(shares > 0, shares, 1)
        loss = -(positive * np.log(positive)).sum(1).mean()
        accuracy = shares[-(task.scored or 1) :].max(1).mean()
    assert task.chance_loss == pytest.approx(loss, rel=0.05)
    assert task.chance_accuracy == pytest.approx(accuracy, abs=0.03)


@pytest.mark.parametrize("source", CONFIGS)
def test_shapes_types_and_the_same_bits_for_the_same_seed(source):
    first, again, other = (load(CONFIGS[source], seed) for seed in (0, 0, 1))
    task, test = first.task, first.test
    assert np.array_equal(test.inputs, again.test.inputs)
    assert not np.array_equal(test.inputs, other.test.inputs)
    assert test.lengths.tolist() == [30] * 4000
    assert test.inputs.shape[:2] == (4000, 30)
    if test.inputs.ndim == 3:
        assert (test.inputs.dtype, test.inputs.shape[2]) == (np.float32, task.input_size)
    else:
        assert test.inputs.dtype == np.int64
        assert test.inputs.max() == task.input_size - 1
    if task.values:
        assert (test.targets.dtype, test.targets.shape[-1]) == (np.float32, task.output_size)
    else:
        assert (test.targets.dtype, test.targets.max()) == (np.int64, task.output_size - 1)
    assert (test.targets.shape[:2] == (4000, 30)) == task.everywhere
    fresh = first.draw(7, rng(5))
    assert len(fresh) == 7
    assert np.array_equal(fresh.inputs, again.draw(7, rng(5)).inputs)


def test_digits():
    pytest.importorskip("sklearn", reason="needs scikit-learn, the extra `digits`")
    from sklearn.datasets import load_digits

    dataset = load(DataConfig(Source.digits, test_size=360), seed=0)
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    images = {
        image.tobytes(): label for image, label in zip(load_digits().images / 16, load_digits().target, strict=True)
    }
    for pixels, label in zip(dataset.test.inputs, dataset.test.targets, strict=True):
        assert images[pixels.astype(np.float64).reshape(8, 8).tobytes()] == label
    with pytest.raises(ValueError, match=r"data.test_size: expected less than the 1797 images of data=digits"):
        load(DataConfig(Source.digits, test_size=1800), seed=0)


def test_digits_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gradflow-rnn\[digits\]'"):
        load(DataConfig(Source.digits), seed=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": Source.adding, "length": 1}, r"data.length: expected at least 2 \(data=adding\), got 1"),
        ({"source": Source.temporal_order, "length": 9}, r"data.length: expected at least 10"),
        (
            {"source": Source.temporal_order, "symbols": 4},
            r"data.symbols: expected 2 or 3 .*, got 4",
        ),
        ({"source": Source.copy_memory, "length": 20, "symbols": 10}, r"data.length: expected at least 21"),
        ({"source": Source.copy_memory, "symbols": 0}, r"data.symbols: expected a whole number from 1 .*, got 0"),
        ({"source": Source.chaotic_map, "gain": 0.0}, r"data.gain: expected a positive number, got 0.0"),
    ],
)
def test_what_a_task_needs_is_said_by_name(settings, words):
    with pytest.raises(ValueError, match=words):
        DataConfig(**settings)
