"""Asks a trained model: the probability of each label, and how much each character had to do with the answer.

    python experiments/predict.py run=outputs/train/DATE names=王晓丽,李建国

run    the folder of a finished run
names  names with commas between them; of a roll-call model sequences of names, each joined by |
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradflow.commands.arguments import REQUIRED, read_arguments, split_list
from gradflow.commands.columns import aligned, told

if TYPE_CHECKING:
    from gradflow.training.prediction import Prediction


def rows(predictions: Sequence[Prediction]) -> list[list[str]]:
    """A title row, then for each name the shares of its characters and the probabilities, the largest first."""
    title = ["name", "share of each character", "probability of each label"]
    return [title] + [
        [
            prediction.name,
            " ".join(f"{character} {share:.2f}" for character, share in prediction.shares),
            " ".join(f"{label} {probability:.3f}" for label, probability in prediction.probabilities.items()),
        ]
        for prediction in predictions
    ]


def main() -> None:
    """The command line."""
    arguments = read_arguments(__doc__, sys.argv[1:], run=REQUIRED, names=REQUIRED)
    from gradflow.training.prediction import predict  # here, so that --help does not wait for torch

    try:
        predictions = predict(arguments["run"], split_list(arguments["names"]))
    except (ValueError, OSError) as error:
        sys.exit(told(error))
    print(aligned(rows(predictions)))
