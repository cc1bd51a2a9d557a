"""The training loop, one function that reads from top to bottom, and what surrounds it: data, remedies, evaluation."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence
from tqdm import tqdm

from gradflow.checks import check_flags, check_kind, check_path
from gradflow.config import ClipName, Config, FlossingConfig
from gradflow.data import Dataset, Sequences, Task, load
from gradflow.flow.backward import watch_backward
from gradflow.flow.replay import Trace
from gradflow.recording.start import record
from gradflow.remedies.clipping import CLIPPINGS, Clipping, measure_grad_norm
from gradflow.remedies.flossing import floss_
from gradflow.remedies.regularisation import add_omega_gradient_
from gradflow.remedies.state_clipping import clip_state_gradients_
from gradflow.training.model import SequenceModel, build_model
from gradflow.training.objective import loss_of, right_answers
from gradflow.training.storage import save

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
        test_accuracy: share of right answers to the test set, after the last iteration; NaN if diverged.
        test_loss: cross-entropy in nats, or squared error, mean over the test set.
        solved: whether these meet the criterion of the task.
        seconds: wall time of training, evaluation and recording included.
    """

    state: str
    iteration: int
    test_accuracy: float
    test_loss: float
    solved: bool
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Inputs [B, T] or [B, T, D] and targets [B, ...] on the model's device; lengths [B] on the CPU."""

    inputs: Tensor
    lengths: Tensor
    targets: Tensor

    @property
    def ragged_lengths(self) -> Tensor | None:
        """The lengths; None if every example fills all positions."""
        return None if int(self.lengths.min()) == self.inputs.shape[1] else self.lengths

    def answers(self, task: Task) -> int:
        """How many answers the loss is the mean of."""
        return len(self.targets) * (self.inputs.shape[1] if task.everywhere else 1)


def train(config: Config, path: str | os.PathLike[str], *, progress: bool = True) -> Outcome:
    """Train one model and record its gradient flow into the run folder `path`.

    Everything random follows from ``config.seed``. A loss that is not finite ends the run, marked `diverged`; Ctrl-C
    marks it `interrupted` and is raised again.

    Args:
        config: all settings.
        path: the run folder, made if missing; it also gets ``model.safetensors`` and, of names, ``vocabulary.json``.
        progress: show a progress bar (on a terminal).

    Returns:
        How it ended.

    Raises:
        TypeError: if `config` is no :class:`gradflow.config.Config`, or `path` no path.
        ValueError, OSError: for data that cannot be used, or a model that cannot be saved; the log then says `failed`.
        FileExistsError: if the folder already holds a recorded run.
    """
    check_kind("config", config, Config, "a gradflow.config.Config; Config() has every setting as it is by default")
    check_path("path", path, "the folder for the run")
    check_flags(progress=progress)
    _check_device(config.device)
    torch.manual_seed(config.seed)
    dataset = load(config.data, config.seed)
    task = dataset.task
    model = build_model(config, task.input_size, task.output_size, task.everywhere, dataset.test.of_numbers)
    flossed = floss(model, next(batches(dataset, config)), config.flossing) if config.flossing.iterations else {}
    optimizer = _OPTIMIZERS[config.train.optimizer](model.parameters(), lr=config.train.lr)
    criterion = loss_of(task)
    clips_states, regularises = config.clip.name == ClipName.state, config.omega.weight > 0
    test, source = on_device(dataset.test, config.device), batches(dataset, config)
    settings = json.loads(json.dumps(asdict(config)))
    recorder = record(
        model,
        path,
        every=config.record.every,
        examples=config.record.examples,
        spectrum_every=config.record.spectrum_every,
        scalars=["accuracy", "test_loss", "test_accuracy", *["state_clipped"] * clips_states, *["omega"] * regularises],
        config=settings,
        seed=config.seed,
        about=dataset.facts() | flossed,
    )
    started = time.monotonic()
    diverged, solved, scalars = False, False, {"test_loss": math.nan, "test_accuracy": math.nan}
    bar = tqdm(total=config.train.iterations, unit="it", disable=None if progress else True)
    seen = watch_backward(model)
    with recorder, seen if clips_states or regularises else nullcontext(), bar:
        for iteration in range(config.train.iterations):
            batch = next(source)
            answers = model(batch.inputs, batch.lengths)
            loss = criterion(answers, batch.targets)
            optimizer.zero_grad()
            loss.backward()
            remedies = {}
            if regularises:
                remedies["omega"] = add_omega_gradient_(seen.take(), config.omega.weight, config.omega.squared)
            if clips_states:
                clipping, remedies["state_clipped"] = clip_states(model, seen.take(), config.clip.threshold)
            else:
                clipping = CLIPPINGS[config.clip.name](model.parameters(), config.clip.threshold)

            value = loss.item()
            diverged = not math.isfinite(value)
            accuracy = right_answers(task, answers, batch.targets).mean().item()
            scalars = {"lr": config.train.lr, "accuracy": accuracy, **remedies}
            last = iteration == config.train.iterations - 1
            if not diverged and (last or (iteration + 1) % config.train.evaluate_every == 0):
                scalars |= evaluate(model, task, test)  # of the weights that this iteration's gradient was taken at
                solved = task.success.met(scalars)
            recorder.step(value, clipping, lengths=batch.ragged_lengths, targets=batch.answers(task), scalars=scalars)
            if diverged or (solved and config.train.stop_when_solved):
                break
            optimizer.step()
            bar.update()
            bar.set_postfix(loss=f"{value:.3g}", accuracy=f"{accuracy:.2f}", refresh=False)
        save(model, dataset, Path(path))  # before the log says that the run is finished
    seconds = time.monotonic() - started
    if recorder.error is not None:
        raise recorder.error  # a run whose log is not whole is not finished
    last_iteration = recorder.iteration - 1
    if diverged:
        return Outcome("diverged", last_iteration, math.nan, math.nan, False, seconds)
    return Outcome("finished", last_iteration, scalars["test_accuracy"], scalars["test_loss"], solved, seconds)


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch says the latter where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: expected one that this torch can use, such as cpu, got {name!r} ({reason})"
        ) from error


def floss(model: SequenceModel, batch: Batch, config: FlossingConfig, examples: int = 8) -> dict[str, Any]:
    """Gradient flossing of the recurrent layer, on some examples of the first batch, before training.

    Args:
        model: changed in place.
        batch: of training sequences.
        config: how long, and how many exponents.
        examples: taken of the batch.

    Returns:
        What the log says about it: the loss before the first update and before the last, nats² per step².
    """
    lengths = batch.lengths[:examples]
    x = pack_padded_sequence(model.encode(batch.inputs[:examples].transpose(0, 1)), lengths, enforce_sorted=False)
    try:
        losses = floss_(model.recurrent, x, config.iterations, config.lr, config.exponents)
    except FloatingPointError as error:
        raise ValueError(
            f"flossing: expected finite Lyapunov exponents, got others ({error}); lower flossing.exponents="
            f"{config.exponents} or flossing.lr={config.lr}"
        ) from error
    return {"flossing_loss": [losses[0], losses[-1]]}


def clip_states(model: SequenceModel, traces: list[Trace], threshold: float) -> tuple[Clipping, float]:
    """Per-step clipping in the words of the other ways to clip, and the share of state gradients that were clamped.

    Args:
        model: its parameters hold the gradients of this backward pass.
        traces: of its recurrent layer.
        threshold: of every entry of a state gradient.
    """
    before = measure_grad_norm(model.parameters())
    clipped = clip_state_gradients_(traces, threshold)
    after = measure_grad_norm(model.parameters())
    clipping = replace(
        after,
        norm_before=before.norm_before,
        parameter_norms_before=before.parameter_norms_before,
        coefficient=math.nan,
        clipped=clipped.clipped > 0,
        non_finite=before.non_finite,
    )
    return clipping, clipped.share


@torch.no_grad()
def evaluate(model: SequenceModel, task: Task, test: Batch, size: int = 1000) -> dict[str, float]:
    """Mean loss (nats or squared error) and accuracy over the test set.

    Args:
        model: asked without gradients.
        task: how its answers are judged.
        test: the whole set.
        size: examples at a time.

    Returns:
        ``test_loss`` and ``test_accuracy``.
    """
    loss, right, criterion = 0.0, 0.0, loss_of(task)
    for start in range(0, len(test.targets), size):
        part = slice(start, start + size)
        answers, targets = model(test.inputs[part], test.lengths[part]), test.targets[part]
        loss += criterion(answers, targets).item() * len(targets)
        right += right_answers(task, answers, targets).sum().item()
    return {"test_loss": loss / len(test.targets), "test_accuracy": right / len(test.targets)}


def on_device(sequences: Sequences, device: str) -> Batch:
    """Sequences as tensors."""
    inputs, lengths, targets = (torch.from_numpy(a) for a in (sequences.inputs, sequences.lengths, sequences.targets))
    return Batch(inputs.to(device), lengths, targets.to(device))


def batches(dataset: Dataset, config: Config) -> Iterator[Batch]:
    """Fresh sequences, or epoch after epoch of the same in a new order; every batch as short as its longest example."""
    random = np.random.default_rng(config.seed)
    if dataset.train is not None:
        yield from _epochs(dataset.train, config, random)
    assert dataset.draw is not None
    while True:
        yield on_device(dataset.draw(config.train.batch_size, random), config.device)


def _epochs(train: Sequences, config: Config, random: np.random.Generator) -> Iterator[Batch]:
    whole, size = on_device(train, config.device), min(config.train.batch_size, len(train))
    while True:
        order = torch.from_numpy(random.permutation(len(train)))
        there, lengths = order.to(config.device), whole.lengths[order].split(size)
        longest = [int(part.max()) for part in lengths]
        parts = zip(whole.inputs[there].split(size), lengths, whole.targets[there].split(size), longest, strict=True)
        for inputs, part, targets, steps in parts:
            if len(part) == size:
                yield Batch(inputs[:, :steps], part, targets)
