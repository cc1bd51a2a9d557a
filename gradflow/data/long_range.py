"""Tasks whose answer lies many steps back: the long-range problems of the literature, at any length.

Each is a function of the length T, the number of sequences N and a random generator, vectorised, and returns sequences
that all have length T. Indices stand for one-hot inputs; pairs of numbers are inputs as they are.

References: Hochreiter & Schmidhuber 1997, Neural Computation 9(8); Martens & Sutskever 2011, ICML; Pascanu, Mikolov &
Bengio 2013, ICML (arXiv:1211.5063); Le, Jaitly & Hinton 2015, arXiv:1504.00941; Arjovsky, Shah & Bengio 2016, ICML
(arXiv:1511.06464); Qiu, Neural Networks and Deep Learning, ch. 6.
"""

from collections.abc import Callable
from math import log

import numpy as np

from gradflow.config import DataConfig, Source
from gradflow.data.dataset import Sequences
from gradflow.data.task import Success, Task

DISTRACTORS = 4  # symbols without meaning: temporal order, recall of the first
FIRST = 4  # classes of the symbol to be recalled
COPIED = 8  # different symbols of the copy memory task; a blank and a marker come on top
UNDER_1_PERCENT = Success("test_accuracy", 0.99, "less than 1 % errors on fresh sequences (Pascanu et al. 2013)")


Draw = Callable[[int, np.random.Generator], Sequences]
"""Draws N sequences."""


def _whole(inputs: np.ndarray, targets: np.ndarray) -> Sequences:
    """Sequences [N, T, ...] that are all T long."""
    return Sequences(inputs, np.full(len(inputs), inputs.shape[1], dtype=np.int64), targets)


def _within(low: float, high: float, length: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """N positions from [low·T, high·T), at least one of them to choose from."""
    start = int(low * length + 1e-9)
    return rng.integers(start, max(int(high * length + 1e-9), start + 1), n)


def _marked(length: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Marks [N, T], one in each half, and their positions [N, 2]."""
    half = length // 2
    places = np.stack([rng.integers(0, half, n), rng.integers(half, length, n)], 1)
    marks = np.zeros((n, length), dtype=np.float32)
    np.put_along_axis(marks, places, 1.0, 1)
    return marks, places


def adding(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """The sum of the two marked ones of T numbers from U[0, 1], one in each half.

    Hochreiter & Schmidhuber 1997, in the form of Le et al. 2015.

    Args:
        length: T, at least 2.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs float32 [N, T, 2] (number, mark), targets float32 [N, 1].

    >>> drawn = adding(4, 1, np.random.default_rng(0))
    >>> bool((drawn.inputs[..., 0] * drawn.inputs[..., 1]).sum() == drawn.targets.item())
    True
    """
    numbers = rng.random((n, length), dtype=np.float32)
    marks, places = _marked(length, n, rng)
    total = np.take_along_axis(numbers, places, 1).sum(1, keepdims=True)
    return _whole(np.stack([numbers, marks], -1), total)


def delayed_xor(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """Whether the two marked ones of T random bits differ, one in each half (Martens & Sutskever 2011).

    Args:
        length: T, at least 2.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs float32 [N, T, 2] (bit, mark), targets int64 [N], 0 or 1.
    """
    bits = rng.integers(0, 2, (n, length))
    marks, places = _marked(length, n, rng)
    first, second = np.take_along_axis(bits, places, 1).T
    return _whole(np.stack([bits.astype(np.float32), marks], -1), first ^ second)


_PLACES = {2: ((0.1, 0.2), (0.5, 0.6)), 3: ((0.1, 0.2), (0.33, 0.43), (0.66, 0.76))}


def temporal_order(length: int, n: int, rng: np.random.Generator, symbols: int = 2) -> Sequences:
    """In which order two (or three) symbols A or B appeared among distractors.

    Two lie in [T/10, 2T/10) and [5T/10, 6T/10) (Pascanu et al. 2013); of three the places are those of Hochreiter &
    Schmidhuber 1997, experiment 6b: [.1T, .2T), [.33T, .43T), [.66T, .76T).

    Args:
        length: T, at least 10.
        n: N, how many sequences.
        rng: where the random numbers come from.
        symbols: how many there are, 2 or 3.

    Returns:
        Inputs int64 [N, T]: 0 is A, 1 is B, 2 to 5 are distractors; targets int64 [N], 4 or 8 classes.
    """
    inputs = rng.integers(2, 2 + DISTRACTORS, (n, length))
    relevant = rng.integers(0, 2, (n, symbols))
    for i, (low, high) in enumerate(_PLACES[symbols]):
        inputs[np.arange(n), _within(low, high, length, n, rng)] = relevant[:, i]
    return _whole(inputs, relevant @ (2 ** np.arange(symbols)[::-1]))


def recall_first(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """Which of four symbols came first; distractors follow (the latching problem of Bengio et al. 1994).

    Args:
        length: T, at least 1.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs int64 [N, T]: the first from 0 to 3, then distractors 4 to 7; targets int64 [N].
    """
    inputs = rng.integers(FIRST, FIRST + DISTRACTORS, (n, length))
    inputs[:, 0] = rng.integers(0, FIRST, n)
    return _whole(inputs, inputs[:, 0].copy())


def copy_memory(length: int, n: int, rng: np.random.Generator, symbols: int = 10) -> Sequences:
    """Ten symbols, a long blank, a marker; then the ten are to be said again, and blanks before (Arjovsky et al. 2016).

    Args:
        length: T, at least ``2 * symbols + 1``: the delay of the literature is T - 2 * symbols.
        n: N, how many sequences.
        rng: where the random numbers come from.
        symbols: how many there are.

    Returns:
        Inputs int64 [N, T]: 0 to 7 are symbols, 8 the blank, 9 the marker; targets int64 [N, T], symbols or blank.
    """
    said = rng.integers(0, COPIED, (n, symbols))
    inputs, targets = (np.full((n, length), COPIED, dtype=np.int64) for _ in range(2))
    inputs[:, :symbols] = targets[:, -symbols:] = said
    inputs[:, -symbols - 1] = COPIED + 1
    return _whole(inputs, targets)


def digit_sum(length: int, n: int, rng: np.random.Generator) -> Sequences:
    """The sum of two digits that are followed by zeros (Qiu, ch. 6: the memory of a simple network).

    Args:
        length: T, at least 2.
        n: N, how many sequences.
        rng: where the random numbers come from.

    Returns:
        Inputs int64 [N, T], digits; targets int64 [N], 0 to 18.
    """
    inputs = np.zeros((n, length), dtype=np.int64)
    inputs[:, :2] = rng.integers(0, 10, (n, 2))
    return _whole(inputs, inputs.sum(1))


def _adding(config: DataConfig) -> tuple[Task, Draw]:
    off = np.abs(np.linspace(-1, 1, 20_001))  # distance from 1 of a sum of two numbers, whose density is triangular
    accuracy = float((1 - off)[off < 0.04].sum() / (1 - off).sum())
    success = Success("test_loss", 0.01, "mean squared error of at most 0.01, where a constant answer has 1/6")
    task = Task(2, 1, success, 1 / 6, accuracy, values=True)
    return task, lambda n, rng: adding(config.length, n, rng)


def _classes(input_size: int, classes: int) -> Task:
    return Task(input_size, classes, UNDER_1_PERCENT, log(classes), 1 / classes)


def _delayed_xor(config: DataConfig) -> tuple[Task, Draw]:
    return _classes(2, 2), lambda n, rng: delayed_xor(config.length, n, rng)


def _temporal_order(config: DataConfig) -> tuple[Task, Draw]:
    task = _classes(2 + DISTRACTORS, 2**config.symbols)
    return task, lambda n, rng: temporal_order(config.length, n, rng, config.symbols)


def _recall_first(config: DataConfig) -> tuple[Task, Draw]:
    return _classes(FIRST + DISTRACTORS, FIRST), lambda n, rng: recall_first(config.length, n, rng)


def _copy_memory(config: DataConfig) -> tuple[Task, Draw]:
    loss = config.symbols * log(COPIED) / config.length  # of a network that knows when to speak, but not what to say
    success = Success("test_accuracy", 0.99, "less than 1 % of the symbols wrong, on fresh sequences")
    task = Task(COPIED + 2, COPIED + 1, success, loss, 1 / COPIED, everywhere=True, scored=config.symbols)
    return task, lambda n, rng: copy_memory(config.length, n, rng, config.symbols)


def _digit_sum(config: DataConfig) -> tuple[Task, Draw]:
    share = np.bincount(np.add.outer(np.arange(10), np.arange(10)).ravel()) / 100
    entropy = -float((share * np.log(share)).sum())
    task = Task(10, len(share), UNDER_1_PERCENT, entropy, float(share.max()))
    return task, lambda n, rng: digit_sum(config.length, n, rng)


LONG_RANGE: dict[Source, Callable[[DataConfig], tuple[Task, Draw]]] = {
    Source.adding: _adding,
    Source.delayed_xor: _delayed_xor,
    Source.temporal_order: _temporal_order,
    Source.recall_first: _recall_first,
    Source.copy_memory: _copy_memory,
    Source.digit_sum: _digit_sum,
}
