"""Asks a trained model: the probability of each label, and how much each character had to do with the answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gradflow.commands.arguments import split_list
from gradflow.commands.columns import aligned, told
from gradflow.commands.words import Words, runs_in, start

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


@click.command("predict", cls=Words, examples=("gradflow predict outputs/train/DATE names=王晓丽,李建国",))
@runs_in("run")
@click.option("--names", required=True, help="Names with commas between them; of a roll call sequences, joined by |.")
def command(run: str, names: str) -> None:
    """Ask the model of a finished run: the probability of each label, and the share of each character in the answer."""
    from gradflow.training.prediction import predict  # here, so that --help does not wait for torch

    try:
        predictions = predict(run, split_list(names))
    except (ValueError, OSError) as error:
        sys.exit(told(error, "run"))
    print(aligned(rows(predictions)))


def main() -> None:
    """The command line."""
    start(command, sys.argv[1:])
