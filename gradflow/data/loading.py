"""One loader for every source: names, and the long-range problems."""

import numpy as np

from gradflow.checks import check_kind, whole_number
from gradflow.config import DataConfig
from gradflow.data.names import load_names
from gradflow.tasks import Dataset, problem


def load(config: DataConfig, seed: int) -> Dataset:
    """What a run learns from and is judged by.

    Of a problem that is drawn, the test sequences are drawn first; the training sequences come from a generator of the
    run's own.

    Args:
        config: the source and its settings.
        seed: decides the names drawn, the split, the test sequences, and the system of the chaotic map.

    Returns:
        The data set; of names a :class:`Names`.

    Raises:
        FileNotFoundError, ConnectionError, ModuleNotFoundError, ValueError: for data that cannot be had or used.
    """
    check_kind("config", config, DataConfig, "a gradflow.config.DataConfig")
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    return load_names(config, rng) if config.source.of_names else problem(config.source).make(config, rng)
