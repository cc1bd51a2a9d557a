"""The lecture's recipe on Chinese names: accuracy and training time of every cell, beside the lecture's own way.

    python benchmarks/names.py [labelled.csv]

500 characters, H = 64, Adam 1e-3, batch 100, 5 epochs of 10,000 names, test on 1,000; one torch thread. The lecture's
way is restated here: dense one-hot vectors made batch by batch, a Python loop over the steps, each with its read-out,
and one over the examples of the loss. Ways are run in turn, `ROUNDS` times; medians of processor time, and ratios of
runs of the same round.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradflow as gf
from gradflow.config import Config, DataConfig, Source, TrainConfig
from gradflow.data import Dataset, load
from gradflow.training.loop import Batch, batches, evaluate, on_device
from gradflow.training.model import SequenceModel

HIDDEN, ITERATIONS, ROUNDS = 64, 500, 5


class LectureRNN(nn.Module):
    """The cell and the loop of the lecture: h = tanh(W [x, h]), scores at every step; those of the last one count."""

    def __init__(self, characters: int, classes: int):
        super().__init__()
        self.characters = characters
        self.hidden, self.read_out = nn.Linear(characters + HIDDEN, HIDDEN), nn.Linear(HIDDEN, classes)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Scores [B, C] of indices [B, T]."""
        x = torch.zeros(*inputs.shape, self.characters)
        for b in range(len(inputs)):
            for t in range(int(lengths[b])):
                x[b, t, inputs[b, t]] = 1
        h, scores = torch.zeros(len(inputs), HIDDEN), []
        for t in range(inputs.shape[1]):
            h = torch.tanh(self.hidden(torch.cat((x[:, t], h), 1)))
            scores.append(self.read_out(h))
        return torch.stack(scores)[lengths - 1, torch.arange(len(inputs))]


def loop_over_examples(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, one example at a time."""
    loss = torch.zeros(())
    for b in range(len(targets)):
        loss = loss + F.cross_entropy(scores[b : b + 1], targets[b : b + 1])
    return loss / len(targets)


def train(model: nn.Module, dataset: Dataset, loss_of: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
    """Processor seconds of training, and test accuracy."""
    optimizer = torch.optim.Adam(model.parameters(), fused=not isinstance(model, LectureRNN))
    source = batches(dataset, Config(train=TrainConfig(iterations=ITERATIONS)))
    start = time.process_time()
    for _ in range(ITERATIONS):
        batch: Batch = next(source)
        loss = loss_of(model(batch.inputs, batch.lengths), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.process_time() - start
    return seconds, evaluate(model, dataset.task, on_device(dataset.test, "cpu"))["test_accuracy"]


WAYS: dict[str, Callable[[int], nn.Module]] = {
    "lecture's way": lambda characters: LectureRNN(characters, 2),
    "rnn, torch.nn": lambda characters: SequenceModel(nn.RNN(characters, HIDDEN), 2),
    "rnn, gf.RNN": lambda characters: SequenceModel(gf.RNN(characters, HIDDEN), 2),
    "linear": lambda characters: SequenceModel(gf.LinearRNN(characters, HIDDEN), 2),
    "lstm, torch.nn": lambda characters: SequenceModel(nn.LSTM(characters, HIDDEN), 2),
    "lstm, gf.LSTM": lambda characters: SequenceModel(gf.LSTM(characters, HIDDEN), 2),
    "gru, torch.nn": lambda characters: SequenceModel(nn.GRU(characters, HIDDEN), 2),
    "gru, gf.GRU": lambda characters: SequenceModel(gf.GRU(characters, HIDDEN, reset="after"), 2),
    "gru_before": lambda characters: SequenceModel(gf.GRU(characters, HIDDEN), 2),
}


def compare(dataset: Dataset) -> None:
    """Print a row per way."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    accuracy: dict[str, list[float]] = {name: [] for name in WAYS}
    for seed in range(ROUNDS):
        for name, make in WAYS.items():
            torch.manual_seed(seed)
            model = make(dataset.task.input_size)
            took, correct = train(model, dataset, loop_over_examples if name == "lecture's way" else F.cross_entropy)
            seconds[name].append(took)
            accuracy[name].append(correct)
    print(f"{'':16}{'accuracy':>9}{'seconds':>9}{'lecture / this':>16}")
    for name in WAYS:
        ratio = statistics.median(a / b for a, b in zip(seconds["lecture's way"], seconds[name], strict=True))
        print(f"{name:16}{statistics.mean(accuracy[name]):9.3f}{statistics.median(seconds[name]):9.2f}{ratio:16.1f}")


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    sources = {"generated names": DataConfig()}
    if len(sys.argv) > 1:
        sources[f"real names ({sys.argv[1]})"] = DataConfig(Source.csv, sys.argv[1])
    for title, data in sources.items():
        print(title)
        compare(load(data, seed=0))


if __name__ == "__main__":
    main()
