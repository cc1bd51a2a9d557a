"""Runs a script under `gf.record` and judges its log: right, refused by name, or proved wrong aloud; never silent.

A script is written once and run twice: as users would, and in float64 on a twin whose layers step in a Python loop.
"""

import functools
import logging
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from oracles import run
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

import gradflow as gf
from gradflow.runlog.reader import Run

T, B, H = 6, 5, 4
KINDS = [nn.RNN, nn.LSTM, nn.GRU]
RELATIVE = {torch.float32: 1e-4, torch.float64: 1e-9}
REFUSALS = (TypeError, ValueError, RuntimeError)  # NotImplementedError is a RuntimeError

Norms = dict[tuple[int, str, int, int, int], Tensor]  # (iteration, module, call, layer, direction) -> ln norms [T, B]


@functools.cache
def loop(kind: type[nn.Module]) -> type[nn.Module]:
    """The same layer, with the same parameters, as the loop of `oracles.run`; `calls` keeps every state it made."""

    class Loop(kind):
        def forward(self, x, hx=None):
            packed, batched = isinstance(x, PackedSequence), isinstance(x, PackedSequence) or x.dim() == 3
            x, lengths = pad_packed_sequence(x) if packed else (x if batched else x.unsqueeze(1), None)
            turned = self.batch_first and batched and not packed
            if hx is not None and not batched:
                hx = tuple(h.unsqueeze(1) for h in hx) if isinstance(hx, tuple) else hx.unsqueeze(1)
            with parametrize.cached():  # a normalised weight is computed once in a forward pass
                states, outputs, h_n, c_n = run(self, x.transpose(0, 1) if turned else x, lengths, hx)
            self.__dict__.setdefault("calls", []).append(states)
            y = pack_sequence(outputs, enforce_sorted=False) if packed else torch.stack(outputs, 0 if turned else 1)
            if not batched:
                y, h_n, c_n = y.squeeze(1), h_n.squeeze(1), None if c_n is None else c_n.squeeze(1)
            return y, h_n if c_n is None else (h_n, c_n)

    return Loop


def subclass(kind: type[nn.Module], forward: Callable) -> type[nn.Module]:
    """A subclass that a script makes of a layer: `forward` gets that of the layer, the input and the initial state."""

    class Changed(kind):
        def forward(self, x, hx=None):
            return forward(super().forward, x, hx)

    return Changed


class Net(nn.Module):
    """An encoder and a linear read-out of everything it gives out.

    Args:
        kind: class of the encoder; input and state have the same size, so that one can be added to the other.
        read: from what the encoder returns to what is read out.
        options: for the encoder.
    """

    def __init__(self, kind: type[nn.Module], read: Callable = lambda answer: answer[0], **options):
        super().__init__()
        self.encoder = kind(H, H, **options)
        self.head = nn.Linear(H * (2 if self.encoder.bidirectional else 1), 2)
        self.read = read

    def forward(self, x, hx=None):
        return self.head(self.read(self.encoder(x) if hx is None else self.encoder(x, hx)))


def h_n(answer: tuple) -> Tensor:
    """Of what a layer returns."""
    return answer[1][0] if isinstance(answer[1], tuple) else answer[1]


def loss_of(net: nn.Module, x: Tensor) -> Tensor:
    """What scripts minimise if they say nothing else."""
    return net(x).square().sum()


def plain(net: nn.Module, x: Tensor) -> Iterator[None]:
    """Forward, backward, step. A script yields where it calls `recorder.step`, if it likes with a `Clipping`."""
    loss_of(net, x).backward()
    yield


def plain_loss(net: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """For every yield of a script, the loss whose gradient `.grad` holds then."""
    yield loss_of(net, x)


def script_of(loss: Callable) -> tuple[Callable, Callable]:
    """A script with one backward pass of a loss, and its losses for the twin."""

    def script(net, x):
        loss(net, x).backward()
        yield

    def losses(net, x):
        yield loss(net, x)

    return script, losses


def initial(net: nn.Module, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """h_0, or (h_0, c_0) of an LSTM, for x [T, B, H]."""
    h = x.new_full((1, x.shape[1], H), 0.5)
    return (h, h / 2) if isinstance(net.encoder, nn.LSTM) else h


def sequences(time: int = T, batch: int = B) -> Tensor:
    """[time, batch, H] float64."""
    return torch.randn(time, batch, H, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Case:
    """One kind of cell in one dtype; see :meth:`judge`."""

    def __init__(self, kind, dtype, path, caplog):
        self.kind, self.dtype, self.path, self.caplog = kind, dtype, path, caplog

    def judge(
        self,
        script: Callable = plain,
        losses: Callable = plain_loss,
        *,
        build: Callable = Net,
        x: Tensor | None = None,
        unproved: str = "",
        joined: bool = False,
    ) -> str:
        """Run a script on `build(kind)` and its `losses` on the twin; anything silently wrong fails.

        Args:
            script: from net and x, yields at each `recorder.step`.
            losses: from the twin and x, yields the loss that counts there.
            build: from the class of a layer to the model.
            x: what the model takes; None: [T, B, H].
            unproved: why a log with right numbers cannot be proved; empty: it can.
            joined: all calls of a module are one sequence.

        Returns:
            "right", "refused" by an error that names the layer, or "failed": the proof did, and a warning said so.
        """
        x = sequences() if x is None else x
        torch.manual_seed(0)
        net = build(self.kind).to(self.dtype)
        twin = build(loop(self.kind)).double()
        twin.load_state_dict(net.state_dict())
        expected = oracle(twin, losses, copied(x, torch.float64), joined=joined)
        try:
            with gf.record(net, self.path, every=1, spectrum_every=1, reduction="sum") as recorder:
                for clipping in script(net, copied(x, self.dtype)):
                    recorder.step(clipping=clipping)
                warned = any(map(is_warning_of_proof, self.caplog.records))
        except REFUSALS as error:
            if not re.search(r"\b(encoder|decoder)\b", str(error)):
                raise
            return "refused"
        run = gf.open_run(self.path)
        if run.proof == "failed":
            assert warned, "the proof failed and no warning named layer, identity and residual"
            return "failed"
        wrong = difference(recorded(run), expected, RELATIVE[self.dtype])
        assert not wrong, f"in silence, with the proof {run.proof!r}: {wrong}"
        assert run.proof == "proved" or (unproved and run.proof == "unproved"), f"right, but the proof is {run.proof!r}"
        return "right"

    def prove(self, *args, **options) -> None:
        """As :meth:`judge`, of an everyday script: right and proved, neither refused nor a false alarm."""
        assert self.judge(*args, **options) == "right"


def copied(x: Tensor | PackedSequence, dtype: torch.dtype) -> Tensor | PackedSequence:
    """Memory of its own, which the script may overwrite."""
    if isinstance(x, PackedSequence):
        return x._replace(data=copied(x.data, dtype))
    return x.to(dtype, copy=True)


def is_warning_of_proof(record: logging.LogRecord) -> bool:
    """Whether it names the layer, the identity and the residual."""
    if record.levelno < logging.WARNING or not record.name.startswith("gradflow"):
        return False
    return all(re.search(part, record.getMessage()) for part in ("encoder|decoder", "forward|backward", r"\d"))


def oracle(twin: nn.Module, losses: Callable, x: Tensor, *, joined: bool) -> Norms:
    """ln‖dL/dh_t‖ of every call that gradients reach; calls are counted among these, or all of a module one in time."""
    norms: Norms = {}
    for iteration, loss in enumerate(losses(twin, x)):
        for module, layer in twin.named_modules():
            reached = [norms_of(loss, states) for states in getattr(layer, "calls", ())]
            reached = list(filter(None, reached))
            if joined and reached:
                reached = [{block: torch.cat([call[block] for call in reached]) for block in reached[0]}]
            for call, blocks in enumerate(reached):
                norms |= {(iteration, module, call, *block): values for block, values in blocks.items()}
    return norms


def norms_of(loss: Tensor, states: dict) -> dict[tuple[int, int], Tensor]:
    """(layer, direction) -> [T, B] for one call, NaN past the end of an example; empty if no gradient reaches it."""
    leaves = [state["h"] for examples in states.values() for seen in examples for state in seen]
    if not any(leaf.requires_grad for leaf in leaves):
        return {}
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        return {}
    left, blocks = iter(gradients), {}
    for block, examples in states.items():
        blocks[block] = torch.full((max(map(len, examples)), len(examples)), torch.nan, dtype=torch.float64)
        for b, seen in enumerate(examples):
            for t in range(len(seen)):
                gradient = next(left)
                blocks[block][t, b] = -torch.inf if gradient is None else gradient.norm().log()
    return blocks


def recorded(run: Run) -> dict[tuple[int, str, int, int, int], tuple[np.ndarray, np.ndarray]]:
    """Mean over the examples of what is not zero, and how many are zero, [T] each, with the keys of :func:`oracle`."""
    frame = run.frame("time", columns=["log_state_gradient_mean", "log_state_gradient_zeros"]).sort_values("time")
    frame["call"] = frame.groupby(["iteration", "module"]).call.rank("dense").astype(int) - 1
    groups = frame.groupby(["iteration", "module", "call", "layer", "direction"])
    return {key: (g.log_state_gradient_mean.to_numpy(), g.log_state_gradient_zeros.to_numpy()) for key, g in groups}


def difference(found: dict, expected: Norms, relative: float) -> str:
    """Where the log differs from the oracle, in words; empty if nowhere."""
    if found.keys() != expected.keys():
        return f"recorded {sorted(found)}, expected {sorted(expected)}"
    for key, norms in expected.items():
        finite = norms.isfinite()
        mean = (norms.where(finite, 0).sum(1) / finite.sum(1)).numpy()
        zeros = norms.isneginf().sum(1).numpy()
        allowed = relative + np.spacing(np.abs(mean).astype(np.float32))  # the log keeps float32
        got, got_zeros = found[key]
        if len(got) != len(mean):
            return f"{key}: recorded {len(got)} positions, expected {len(mean)}"
        agrees = (np.abs(got - mean) <= allowed) | (np.isnan(got) & np.isnan(mean))
        if not agrees.all() or (got_zeros != zeros).any():
            return f"{key}: recorded means {got}, zeros {got_zeros}; expected {mean}, {zeros}"
    return ""


# Of float32 only the fused LSTM goes another way than float64; the other dtype of each is slow.
CASES = [
    pytest.param((kind, dtype), marks=[pytest.mark.slow] * ((dtype == torch.float32) != (kind is nn.LSTM)))
    for kind in KINDS
    for dtype in RELATIVE
]


@pytest.fixture(params=CASES, ids=lambda p: f"{p[0].__name__}-{str(p[1])[-7:]}")
def every_case(request, tmp_path, caplog) -> Case:
    """Every cell of torch, in float32 and in float64."""
    return Case(*request.param, tmp_path, caplog)
