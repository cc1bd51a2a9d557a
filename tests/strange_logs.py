"""Logs of scripts that know nothing of gradflow's settings: small models, a few iterations, as strange as they come."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradflow as gf

T, B, D, H = 12, 6, 3, 8
LONG = {"every": 2, "spectrum_every": 4}
LOGS: dict[str, Callable[[Path], None]] = {}


def log(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """Have a log drawn by the tests of all figures, under the name of its function."""
    LOGS[write.__name__] = write
    return write


def train(
    path: Path,
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    *,
    iterations: int = 7,
    told: bool = True,
    clip: Callable[[Any], Any] | None = None,
    **options: Any,
) -> None:
    """A loop as in any script; without `told` the recorder hears of no loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gf.record(model, path, **LONG, **options) as recorder:
        for i in range(iterations):
            optimizer.zero_grad()
            loss = loss_of(i)
            loss.backward()
            clipping = clip(model.parameters()) if clip else None
            recorder.step(loss if told else None, clipping if isinstance(clipping, gf.Clipping) else None)
            optimizer.step()


def batches(length: int = T) -> Tensor:
    return torch.randn(length, B, D)


def last_output(layer: nn.Module) -> Callable[[int], Tensor]:
    return lambda _: layer(batches())[0][-1].square().mean()


@log
def bare(path: Path) -> None:
    layer = nn.LSTM(D, H)
    train(path, layer, last_output(layer))


@log
def without_loss(path: Path) -> None:
    layer = nn.GRU(D, H)
    train(path, layer, last_output(layer), told=False)


@log
def clipped_by_torch(path: Path) -> None:
    layer = nn.RNN(D, H)
    train(path, layer, last_output(layer), clip=lambda parameters: clip_grad_norm_(parameters, 0.01))


@log
def clipped_by_gradflow(path: Path) -> None:
    layer = nn.RNN(D, H)
    train(path, layer, last_output(layer), clip=lambda parameters: gf.clip_grad_norm_(parameters, 0.01))


class Two(nn.Module):
    """An encoder and a decoder that starts from its state."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(D, H, num_layers=2), nn.GRU(D, H)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(x[:5], self.encoder(x)[1][0][-1:])[0].square().mean()


@log
def two_modules(path: Path) -> None:
    model = Two()
    train(path, model, lambda _: model(batches()))


@log
def two_modules_without_loss(path: Path) -> None:
    model = Two()
    train(path, model, lambda _: model(batches()), told=False)


class Plain(gf.Cell):
    """A cell of one's own: h_t = tanh(W (x_t, h_{t-1}))."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size, self.linear = H, nn.Linear(D + H, H)

    def step(self, x_t: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"h": torch.tanh(self.linear(torch.cat([x_t, state["h"]], 1)))}


@log
def own_cell(path: Path) -> None:
    layer = gf.Recurrent(Plain())
    train(path, layer, last_output(layer))


class Named(nn.LSTM):
    """A subclass with a name of its own."""


@log
def subclass(path: Path) -> None:
    layer = Named(D, H)
    train(path, layer, last_output(layer))


@log
def stack_of_two(path: Path) -> None:
    layer = nn.RNN(D, H, num_layers=2)
    train(path, layer, last_output(layer))


@log
def short_stack(path: Path) -> None:
    layer = nn.GRU(D, H, num_layers=2)
    train(path, layer, lambda _: layer(batches(1))[0].square().mean())


@log
def bidirectional(path: Path) -> None:
    layer = nn.LSTM(D, H, bidirectional=True)
    train(path, layer, lambda _: layer(batches())[1][0].square().mean())


@log
def bidirectional_read_at_the_last_position(path: Path) -> None:
    layer = nn.GRU(D, H, bidirectional=True, num_layers=2)
    train(path, layer, lambda _: layer(batches())[0][-1].square().mean())


@log
def many_calls(path: Path) -> None:
    layer = nn.GRU(D, H)
    train(path, layer, lambda i: sum(layer(batches())[0][-1].square().mean() for _ in range(3 + i % 4 // 2)))


@log
def stepped(path: Path) -> None:
    layer = nn.LSTM(D, H)

    def loss(_: int) -> Tensor:
        state, out = None, torch.zeros(())
        for x in batches():
            out, state = layer(x[None], state)
        return out.square().mean()

    train(path, layer, loss)


@log
def chunks(path: Path) -> None:
    layer = nn.RNN(D, H)

    def loss(_: int) -> Tensor:
        state, total = None, torch.zeros(())
        for x in batches(30).split(10):
            out, state = layer(x, state)
            total, state = total + out.square().mean(), state.detach()
        return total

    train(path, layer, loss)


@log
def diverged(path: Path) -> None:
    layer = nn.RNN(D, H)
    train(path, layer, lambda i: layer(batches())[0][-1].square().mean() * (float("nan") if i > 3 else 1))


@log
def nan_from_the_start(path: Path) -> None:
    layer = nn.LSTM(D, H)
    train(path, layer, lambda _: layer(batches())[0][-1].square().mean() * float("nan"))


@log
def one_iteration(path: Path) -> None:
    layer = nn.LSTM(D, H)
    train(path, layer, last_output(layer), iterations=1)


@log
def ragged(path: Path) -> None:
    layer = nn.GRU(D, H)

    def loss(_: int) -> Tensor:
        packed = pack_padded_sequence(batches(), torch.tensor([12, 9, 7, 4, 2, 1]))
        return pad_packed_sequence(layer(packed)[0])[0].square().mean()

    train(path, layer, loss)


@log
def zero_weights(path: Path) -> None:
    layer = nn.RNN(D, H, num_layers=2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    train(path, layer, lambda _: layer(batches())[0][-1].sum())


@log
def growing(path: Path) -> None:
    """Gradients that grow with the lag."""
    layer = nn.RNN(D, H)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(1.5 * torch.eye(H))
        layer.weight_ih_l0.mul_(1e-3)
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
    train(path, layer, last_output(layer))


@log
def shrinking_weights(path: Path) -> None:
    layer = nn.RNN(D, H)
    train(path, layer, lambda _: 0 * layer(batches())[0].sum() + layer.weight_hh_l0.square().sum())


@log
def settings_of_its_own(path: Path) -> None:
    """Settings and facts under gradflow's names that mean something else."""
    layer = nn.LSTM(D, H)
    config = {"cell": "LSTM", "clip": 0.25, "data": "ptb", "init": {"scale": 0.1}, "seed": None, "train": 5, "omega": 1}
    about = {"classes": 10, "success": True, "chance": "none", "chance_loss": None}
    train(path, layer, last_output(layer), config=config, about=about)


@log
def settings_half_alike(path: Path) -> None:
    layer = nn.LSTM(D, H)
    config = {"cell": {"name": "lstm"}, "data": {"source": "penn treebank", "length": "long"}, "clip": {"norm": 0.25}}
    train(path, layer, last_output(layer), config=config, about={"classes": ["a", "b"]})


@log
def some_quantities(path: Path) -> None:
    layer = nn.GRU(D, H)
    train(path, layer, last_output(layer), quantities=["log_state_gradient"])


@log
def judged_by_itself(path: Path) -> None:
    """A test accuracy in per cent, and not always there."""
    layer = nn.GRU(D, H)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with gf.record(layer, path, **LONG, scalars=["test_accuracy"]) as recorder:
        for i in range(7):
            optimizer.zero_grad()
            loss = last_output(layer)(i)
            loss.backward()
            recorder.step(loss, scalars={"test_accuracy": 80.0 + i} if i % 2 else {})
            optimizer.step()


@log
def twice_in_a_folder(path: Path) -> None:
    """Two runs without settings: nothing says that they differ in the seed alone."""
    for name, width in (("narrow", 4), ("wide", 8)):
        layer = nn.GRU(D, width)
        train(path / name, layer, last_output(layer))


def written(folder: Path) -> Iterator[tuple[str, Path]]:
    """All of them, below a folder."""
    for name, write in LOGS.items():
        torch.manual_seed(0)
        write(folder / name)
        yield name, folder / name
