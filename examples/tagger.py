"""Which brackets have a partner? A stacked bidirectional LSTM that tags every token, trained by hand and recorded.

    python examples/tagger.py [FOLDER]

A token is a bracket or a letter between them. Whether a bracket is closed is for the direction that reads backward to
know, whether it was opened for the other. Sequences are ragged, packed from the first layer to the loss. The lines
marked with <<< are all that gradflow adds.
"""

import os
import random
import sys
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import gradflow as gf  # <<<

FOLDER = sys.argv[1] if len(sys.argv) > 1 else f"outputs/tagger/{time.strftime('%Y-%m-%d_%H-%M-%S')}"
ITERATIONS = int(os.environ.get("ITERATIONS", 250))
BATCH_SIZE, HIDDEN_SIZE, LONGEST, DROPOUT, MAX_NORM = 32, 32, 24, 0.2, 0.25
TOKENS = "()abcd"
LETTER, PAIRED, ALONE = range(3)


class Tagger(nn.Module):
    """Scores of the three tags for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(TOKENS), HIDDEN_SIZE)
        self.lstm = nn.LSTM(HIDDEN_SIZE, HIDDEN_SIZE, num_layers=2, bidirectional=True, dropout=DROPOUT)
        self.read_out = nn.Linear(2 * HIDDEN_SIZE, 3)

    def forward(self, tokens: PackedSequence) -> Tensor:
        """[N, 3] for the N tokens of all sequences together, in the order in which they are packed."""
        output, _ = self.lstm(tokens._replace(data=self.embedding(tokens.data)))
        return self.read_out(output.data)


def tags_of(text: str) -> list[int]:
    """LETTER, PAIRED or ALONE for each token."""
    tags, waiting = [ALONE if token in "()" else LETTER for token in text], []
    for place, token in enumerate(text):
        if token == "(":
            waiting.append(place)
        elif token == ")" and waiting:
            tags[place] = tags[waiting.pop()] = PAIRED
    return tags


def random_batch() -> tuple[PackedSequence, Tensor]:
    """Texts of 2 to LONGEST random tokens, packed, and their tags in the same order [N]."""
    texts = ["".join(random.choices(TOKENS, k=random.randint(2, LONGEST))) for _ in range(BATCH_SIZE)]
    tokens = pack_sequence([torch.tensor([TOKENS.index(t) for t in text]) for text in texts], enforce_sorted=False)
    tags = pack_sequence([torch.tensor(tags_of(text)) for text in texts], enforce_sorted=False)
    return tokens, tags.data


random.seed(0)
torch.manual_seed(0)
model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

with gf.record(model, FOLDER, seed=0, scalars=["accuracy"]) as recorder:  # <<<
    for _ in range(ITERATIONS):
        tokens, tags = random_batch()
        scores = model(tokens)
        loss = F.cross_entropy(scores, tags)
        optimizer.zero_grad()
        loss.backward()
        clipping = gf.clip_grad_norm_(model.parameters(), MAX_NORM)  # torch's, and it says what it did
        accuracy = (scores.argmax(1) == tags).float().mean().item()
        recorder.step(loss.item(), clipping, targets=len(tags), scalars={"accuracy": accuracy})  # <<<
        optimizer.step()

run = gf.open_run(FOLDER)
print(f"The log is in {FOLDER}: {run.status}, accuracy {run.scalars.accuracy.tail(20).mean():.3f}.")
print(f"Clipped in {100 * run.scalars.clipped.mean():.0f} % of the iterations.")
forget = run.frame("gates", columns=["time_scale_q90"]).query("gate == 'f'")
scales = forget.groupby(["layer", "direction", "iteration"]).time_scale_q90.median().unstack()
for (layer, direction), row in scales.iterrows():
    name = f"Layer {layer}, {('forward', 'reverse')[direction]}"
    print(f"{name}: the best tenth of its cells remember {row.iloc[0]:.1f} steps at first, {row.iloc[-1]:.1f} at last.")
