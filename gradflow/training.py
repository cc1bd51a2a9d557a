"""The training loop, one function that reads from top to bottom, and what surrounds a run: data, saving, loading."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from gradflow.clipping import CLIPPINGS
from gradflow.config import CellConfig, CellName, Config, Dtype
from gradflow.data import Sequences, load
from gradflow.model import SequenceClassifier, build_model
from gradflow.recorder import record

log = logging.getLogger(__name__)

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: "finished" or "diverged".
        iteration: the last one; of a diverged run the first with a loss that is not finite.
        test_accuracy: share of the test set, after the last iteration; NaN if diverged.
        test_loss: cross-entropy in nats, mean over the test set.
        seconds: wall time of training, evaluation and recording included.
    """

    state: str
    iteration: int
    test_accuracy: float
    test_loss: float
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Indices [B, T] and targets [B] on the model's device; lengths [B] on the CPU."""

    inputs: Tensor
    lengths: Tensor
    targets: Tensor


def train(config: Config, path: str | os.PathLike[str], *, progress: bool = True) -> Outcome:
    """Train one model and record its gradient flow into the run folder `path`.

    Everything random follows from ``config.seed``. A loss that is not finite ends the run, marked `diverged`; Ctrl-C
    marks it `interrupted` and is raised again.

    Args:
        config: all settings.
        path: the run folder, made if missing; it also gets ``model.safetensors`` and ``vocabulary.json``.
        progress: show a progress bar (on a terminal).

    Returns:
        How it ended.

    Raises:
        ValueError, OSError: for data that cannot be used.
        FileExistsError: if the folder already holds a recorded run.
    """
    _check_device(config.device)
    torch.manual_seed(config.seed)
    dataset = load(config.data, config.seed)
    model = build_model(config, dataset.input_size, len(dataset.classes))
    optimizer = _OPTIMIZERS[config.train.optimizer](model.parameters(), lr=config.train.lr)
    clip = CLIPPINGS[config.clip.name]
    test, source = on_device(dataset.test, config.device), batches(dataset.train, config)
    settings = json.loads(json.dumps(asdict(config)))
    recorder = record(
        model,
        path,
        every=config.record.every,
        examples=config.record.examples,
        spectrum_every=config.record.spectrum_every,
        scalars=("accuracy", "test_loss", "test_accuracy"),
        config=settings,
        seed=config.seed,
        about={"chance": dataset.chance, "dropped": dataset.dropped, "classes": list(dataset.classes)},
    )
    started = time.monotonic()
    diverged, scalars = False, {"test_loss": math.nan, "test_accuracy": math.nan}
    with recorder, tqdm(total=config.train.iterations, unit="it", disable=None if progress else True) as bar:
        for iteration in range(config.train.iterations):
            batch = next(source)
            logits = model(batch.inputs, batch.lengths)
            loss = F.cross_entropy(logits, batch.targets)
            optimizer.zero_grad()
            loss.backward()
            clipping = clip(model.parameters(), config.clip.threshold)

            value = loss.item()
            diverged = not math.isfinite(value)
            accuracy = (logits.argmax(1) == batch.targets).double().mean().item()
            scalars = {"lr": config.train.lr, "accuracy": accuracy}
            last = iteration == config.train.iterations - 1
            if not diverged and (last or (iteration + 1) % config.train.evaluate_every == 0):
                scalars |= evaluate(model, test)  # of the weights that this iteration's gradient was taken at
            recorder.step(value, clipping, lengths=batch.lengths, scalars=scalars)
            if diverged:
                break
            optimizer.step()
            bar.update()
            bar.set_postfix(loss=f"{value:.3f}", accuracy=f"{accuracy:.2f}", refresh=False)
    save(model, dataset.vocabulary(), path)
    seconds = time.monotonic() - started
    last_iteration = recorder.iteration - 1
    if diverged:
        return Outcome("diverged", last_iteration, math.nan, math.nan, seconds)
    return Outcome("finished", last_iteration, scalars["test_accuracy"], scalars["test_loss"], seconds)


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch says the latter where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: expected one that this torch can use, such as cpu, got {name!r} ({reason})"
        ) from error


@torch.no_grad()
def evaluate(model: SequenceClassifier, test: Batch, size: int = 1000) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy over the test set.

    Args:
        model: asked without gradients.
        test: the whole set.
        size: examples at a time.

    Returns:
        ``test_loss`` and ``test_accuracy``.
    """
    loss, correct = 0.0, 0
    for start in range(0, len(test.targets), size):
        part = slice(start, start + size)
        logits = model(test.inputs[part], test.lengths[part])
        loss += F.cross_entropy(logits, test.targets[part], reduction="sum").item()
        correct += int((logits.argmax(1) == test.targets[part]).sum())
    return {"test_loss": loss / len(test.targets), "test_accuracy": correct / len(test.targets)}


def on_device(sequences: Sequences, device: str) -> Batch:
    """Sequences as tensors."""
    inputs, lengths, targets = (torch.from_numpy(a) for a in (sequences.inputs, sequences.lengths, sequences.targets))
    return Batch(inputs.to(device), lengths, targets.to(device))


def batches(train: Sequences, config: Config) -> Iterator[Batch]:
    """Epoch after epoch in a new order, every batch as short as its longest example."""
    whole, size = on_device(train, config.device), min(config.train.batch_size, len(train))
    random = np.random.default_rng(config.seed)
    while True:
        order = torch.from_numpy(random.permutation(len(train)))
        there, lengths = order.to(config.device), whole.lengths[order].split(size)
        longest = [int(part.max()) for part in lengths]
        parts = zip(whole.inputs[there].split(size), lengths, whole.targets[there].split(size), longest, strict=True)
        for inputs, part, targets, steps in parts:
            if len(part) == size:
                yield Batch(inputs[:, :steps], part, targets)


def save(model: SequenceClassifier, vocabulary: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write ``model.safetensors`` and ``vocabulary.json`` into a run folder."""
    path = Path(path)
    save_file(model.state_dict(), path / "model.safetensors")
    (path / "vocabulary.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")


def load_run(path: str | os.PathLike[str]) -> tuple[SequenceClassifier, dict[str, Any]]:
    """The trained model of a run folder, on the CPU, and its vocabulary.

    Raises:
        FileNotFoundError: if the run saved no model.
    """
    path = Path(path)
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"path: expected the folder of a finished run with model.safetensors, got {path}; "
            f"train one with `python experiments/train.py`"
        )
    settings = json.loads((path / "run.json").read_text(encoding="utf-8"))["config"]
    vocabulary = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))
    cell = CellConfig(**{**settings["cell"], "name": CellName(settings["cell"]["name"])})
    config = Config(cell=cell, dtype=Dtype(settings["dtype"]))
    model = build_model(config, len(vocabulary["alphabet"]), len(vocabulary["classes"]))
    model.load_state_dict(load_file(path / "model.safetensors"))
    return model.eval(), vocabulary
