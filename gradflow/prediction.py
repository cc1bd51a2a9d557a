"""Ask a trained model: the probability of each label for a name, and the share of each character in it."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gradflow.data import encode
from gradflow.model import SequenceModel, one_hot
from gradflow.training import load_run


@dataclass(frozen=True)
class Prediction:
    """The answer for one name.

    Attributes:
        name: as it was asked.
        probabilities: label -> probability, most probable first.
        shares: (character, share) in order; the shares are not negative and sum to 1 (all 0 if no gradient arrives).
    """

    name: str
    probabilities: dict[str, float]
    shares: list[tuple[str, float]]


def predict(run_path: str | os.PathLike[str], names: Sequence[str]) -> list[Prediction]:
    """Ask the model of a finished run.

    The share of a character is the norm of the gradient of the winning score (logit) by its one-hot input, over the sum
    of these norms: how much the answer moves with that character. Scores are taken, not probabilities, whose gradients
    fade as the model gets sure.

    Args:
        run_path: a run folder that holds a saved model.
        names: names in characters that the model knows; for a roll call, names joined by its separator.

    Returns:
        One answer per name.

    Raises:
        FileNotFoundError: if the run saved no model, or one of another task than names.
        ValueError: for a character that the model does not know, by name.
    """
    model, vocabulary = load_run(run_path), _vocabulary(Path(run_path))
    inputs, lengths = (torch.from_numpy(array) for array in encode(names, vocabulary["alphabet"]))
    answers = []
    for name, row, length in zip(names, inputs, lengths, strict=True):
        logits, shares = _explain(model, row[: int(length)])
        pairs = sorted(zip(vocabulary["classes"], logits.softmax(0).tolist(), strict=True), key=lambda pair: -pair[1])
        answers.append(Prediction(name, dict(pairs), list(zip(name, shares, strict=True))))
    return answers


def _vocabulary(path: Path) -> dict[str, Any]:
    file = path / "vocabulary.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"run: expected the folder of a model of names, which has a vocabulary.json, got {path}; train one with "
            f"`python experiments/train.py data=generated`"
        )
    return json.loads(file.read_text(encoding="utf-8"))


def _explain(model: SequenceModel, indices: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Scores [C] of one sequence [T], and the share of each of its T positions."""
    size, dtype = model.recurrent.input_size, model.read_out.weight.dtype
    encoded = one_hot(indices.unsqueeze(1), size, dtype).requires_grad_()
    logits = model.scores(encoded)[0]
    (gradient,) = torch.autograd.grad(logits.max(), encoded)
    norms = gradient[:, 0].double().norm(dim=-1)
    return logits.detach(), (norms / norms.sum().clamp_min(torch.finfo(torch.float64).tiny)).tolist()
