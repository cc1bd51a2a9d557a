"""Which language is a surname from? A character RNN, trained by a loop written by hand, and recorded.

    python examples/character_rnn.py [FOLDER]

The recipe is that of PyTorch's tutorial on classifying names with a character-level RNN: one-hot letters, a vanilla
RNN, the log-probabilities of its last state, NLLLoss, SGD with clipped gradients. The lines marked with <<< are all
that gradflow adds to it.
"""

import math
import os
import random
import sys
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import gradflow as gf  # <<<

FOLDER = sys.argv[1] if len(sys.argv) > 1 else f"outputs/character_rnn/{time.strftime('%Y-%m-%d_%H-%M-%S')}"
ITERATIONS = int(os.environ.get("ITERATIONS", 400))
BATCH_SIZE, HIDDEN_SIZE, LEARNING_RATE, MAX_NORM = 32, 128, 0.1, 3.0
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAMES = {
    "Chinese": "wang li zhang liu chen yang huang zhao wu zhou xu sun ma zhu hu guo he lin gao luo zheng liang xie",
    "English": "smith jones taylor brown williams wilson johnson davies robinson wright thompson evans walker white "
    "roberts green hall wood jackson clarke harrison turner cooper",
    "Italian": "rossi russo ferrari esposito bianchi romano colombo ricci marino greco bruno gallo conti deluca "
    "mancini costa giordano rizzo lombardi moretti barbieri fontana santoro",
    "Japanese": "sato suzuki takahashi tanaka watanabe ito yamamoto nakamura kobayashi kato yoshida yamada sasaki "
    "yamaguchi matsumoto inoue kimura hayashi shimizu yamazaki mori abe ikeda",
    "Polish": "nowak kowalski wisniewski wojcik kowalczyk kaminski lewandowski zielinski szymanski wozniak dabrowski "
    "kozlowski jankowski mazur kwiatkowski krawczyk piotrowski grabowski nowakowski pawlowski",
    "Russian": "ivanov smirnov kuznetsov popov vasiliev petrov sokolov mikhailov novikov fedorov morozov volkov "
    "alekseev lebedev semenov egorov pavlov kozlov stepanov nikolaev orlov andreev makarov",
}
LANGUAGES = list(NAMES)
EXAMPLES = [(name, language) for language, names in NAMES.items() for name in names.split()]


class CharacterRNN(nn.Module):
    """One-hot letters in, the logarithm of the probability of every language out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(len(LETTERS), HIDDEN_SIZE)
        self.read_out = nn.Linear(HIDDEN_SIZE, len(LANGUAGES))

    def forward(self, names: PackedSequence) -> Tensor:
        """Log-probabilities [B, languages], read from the state after each name's last letter."""
        _, h_n = self.rnn(names)
        return F.log_softmax(self.read_out(h_n[-1]), dim=-1)


def encode(name: str) -> Tensor:
    """One-hot letters [T, 26]."""
    return F.one_hot(torch.tensor([LETTERS.index(letter) for letter in name]), len(LETTERS)).float()


def random_batch() -> tuple[PackedSequence, Tensor]:
    """Names, packed, and the indices of their languages [B]."""
    names, languages = zip(*random.sample(EXAMPLES, BATCH_SIZE), strict=True)
    packed = pack_sequence([encode(name) for name in names], enforce_sorted=False)
    return packed, torch.tensor([LANGUAGES.index(language) for language in languages])


random.seed(0)
torch.manual_seed(0)
model, criterion = CharacterRNN(), nn.NLLLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

with gf.record(model, FOLDER, seed=0) as recorder:  # <<<
    for _ in range(ITERATIONS):
        names, languages = random_batch()
        loss = criterion(model(names), languages)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        recorder.step(loss.item())  # <<<
        optimizer.step()

run = gf.open_run(FOLDER)
print(f"The log is in {FOLDER}: {run.status}, {len(run.scalars)} iterations.")
print(f"Loss: {run.scalars.loss.iloc[0]:.2f} at first, {run.scalars.loss.tail(10).mean():.2f} at last.")
gradients = run.frame("lag", columns=["log_relative_gradient_q50"]).query("lag == 4").set_index("iteration")
rates = (gradients.log_relative_gradient_q50 / 4).map(math.exp)
print(f"Per letter back a gradient is multiplied by {rates.iloc[0]:.2f} at first, by {rates.iloc[-1]:.2f} at last.")
