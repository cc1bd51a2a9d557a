"""Sequential digits: scikit-learn's 8 x 8 images of handwritten digits, one pixel a step, 64 steps."""

from math import log

import numpy as np

from gradflow.tasks.dataset import Dataset, Sequences
from gradflow.tasks.problem import Problem, Settings
from gradflow.tasks.task import Success, Task

STEPS = 64


def make(settings: Settings, rng: np.random.Generator) -> Dataset:
    """All 1,797 images, split at random into `test_size` to be judged by and the others to learn from.

    A small sibling of the pixel-by-pixel MNIST of Le et al. 2015 (arXiv:1504.00941).

    Args:
        settings: its `test_size` is used.
        rng: decides the split.

    Returns:
        Inputs float32 [N, 64, 1] from 0 to 1, row by row from the top left; targets 0 to 9.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: `test_size` leaves nothing to learn from.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "data=digits: expected scikit-learn, which brings the images, got none; "
            "install it with `pip install 'gradflow-rnn[digits]'`, in a clone `.venv/bin/pip install -e '.[digits]'`"
        ) from None
    bunch = load_digits()
    pixels, targets = (bunch.data / 16).astype(np.float32)[..., None], bunch.target.astype(np.int64)
    if settings.test_size >= len(targets):
        raise ValueError(
            f"data.test_size: expected less than the {len(targets)} images of data=digits, got {settings.test_size}; "
            f"set for example data.test_size=360"
        )
    order = rng.permutation(len(targets))
    test, train = (
        Sequences(pixels[part], np.full(len(part), STEPS, dtype=np.int64), targets[part])
        for part in (order[: settings.test_size], order[settings.test_size :])
    )
    success = Success("test_accuracy", 0.9, "nine of ten; nearest neighbours on whole images reach 98 %")
    chance = float(np.bincount(test.targets).max() / len(test))
    return Dataset(task=Task(1, 10, success, log(10), chance), test=test, train=train)


PROBLEM = Problem({"en": "Digits pixel by pixel", "zh": "逐像素数字"}, make)
