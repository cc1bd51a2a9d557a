"""One loader for every source: names, digits, and tasks that are drawn."""

import numpy as np

from gradflow.config import DataConfig, Source
from gradflow.data.chaotic_map import chaotic_map
from gradflow.data.dataset import Dataset
from gradflow.data.digits import load_digits
from gradflow.data.long_range import LONG_RANGE
from gradflow.data.names import load_names


def load(config: DataConfig, seed: int) -> Dataset:
    """What a run learns from and is judged by.

    Of a task that is drawn, the test sequences are drawn first; the training sequences come from a generator of the
    run's own.

    Args:
        config: the source and its settings.
        seed: decides the names drawn, the split, the test sequences, and the system of the chaotic map.

    Returns:
        The data set; of names a :class:`Names`.

    Raises:
        FileNotFoundError, ConnectionError, ModuleNotFoundError, ValueError: for data that cannot be had or used.
    """
    rng = np.random.default_rng(seed)
    if config.source.of_names:
        return load_names(config, rng)
    if config.source == Source.digits:
        return load_digits(config, rng)
    task, draw = chaotic_map(config, rng) if config.source == Source.chaotic_map else LONG_RANGE[config.source](config)
    return Dataset(task=task, test=draw(config.test_size, rng), draw=draw)
