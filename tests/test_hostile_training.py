"""Training goes on bit for bit as without a recorder, whatever this meets; what is missing is said and counted."""

import builtins
import errno
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hostile import record
from torch import Tensor, nn

import gradflow as gf
from gradflow.recording.quantities import QUANTITIES, quantities_of
from gradflow.runlog.writer import FlushPolicy

T, B, D, H, ITERATIONS = 4, 3, 2, 3, 4


class Plain(gf.Cell):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden_size = size
        self.weight_hh = nn.Linear(D + size, size)

    def step(self, x_t: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"h": torch.tanh(self.weight_hh(torch.cat([x_t, state["h"]], -1)))}


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "RNN": lambda size: nn.RNN(D, size),
    "GRU": lambda size: nn.GRU(D, size, num_layers=2),
    "LSTM": lambda size: nn.LSTM(D, size, bidirectional=True),
    "own": lambda size: gf.Recurrent(Plain(size)),
    "cell": lambda size: nn.GRUCell(D, size),
    "mark": lambda size: nn.Linear(D + size, size),
}


class Net(nn.Module):
    """A layer, a cell in a loop, or a step by hand whose state is marked; and a read-out."""

    def __init__(self, kind: str, size: int = H) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.layer = kind, LAYERS[kind](size)
        self.readout = nn.Linear(size * (2 if kind == "LSTM" else 1), 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "cell":
            h = None
            for x_t in x:
                h = self.layer(x_t, h)
        elif self.kind == "mark":
            h = x.new_zeros(x.shape[1], self.layer.out_features)
            for x_t in x:
                step = partial(self.step, x_t)
                h = gf.mark("h", step(h), step=step, previous=h)
        else:
            h = self.layer(x)[0][-1]
        return self.readout(h)

    def step(self, x_t: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.cat([x_t, h], -1)))


class Scene:
    """What an evil may touch; without a recorder only what training itself feels."""

    def __init__(self, kind: str, path: Path, patch: pytest.MonkeyPatch):
        self.model, self.path, self.patch = Net(kind), path, patch
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.x = torch.randn(T, B, D, generator=torch.Generator().manual_seed(5))
        self.recorder: Any = None

    def train_what_is_there(self) -> None:
        self.optimizer.param_groups.clear()
        self.optimizer.add_param_group({"params": list(self.model.parameters())})


def fill(value: float, scene: Scene) -> None:
    with torch.no_grad():
        for name, weight in scene.model.layer.named_parameters():
            if "weight" in name and "ih" not in name:
                weight.fill_(value)


def raising(error: Exception, *places: str) -> Callable[[Scene], None]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    def evil(scene: Scene) -> None:
        for place in places if scene.recorder else ():
            scene.patch.setattr(place, fail)

    return evil


def full_disk(scene: Scene) -> None:
    """Only the last file of a run may still be replaced: its status."""
    opened = builtins.open

    def no_open(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if str(path).startswith(str(scene.path)) and "w" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, mode, *args, **kwargs)

    scene.patch.setattr(builtins, "open", no_open)


def no_folder(scene: Scene) -> None:
    if scene.recorder:
        shutil.rmtree(scene.path)


def resized(scene: Scene) -> None:
    """The same modules, with weights of another size."""
    for module, larger in zip(scene.model.modules(), Net(scene.model.kind, H + 1).modules(), strict=True):
        for name, parameter in larger._parameters.items():
            setattr(module, name, parameter)
        for name in {"hidden_size", "in_features", "out_features"} & vars(module).keys():
            setattr(module, name, getattr(larger, name))
    scene.train_what_is_there()


def replaced(scene: Scene) -> None:
    scene.model.layer = LAYERS[scene.model.kind](H)
    scene.train_what_is_there()


def callback(scene: Scene) -> None:
    if scene.recorder:
        scene.recorder.subscribe(lambda iteration, row: 1 / 0)


def batch_of(x: Tensor, scene: Scene) -> None:
    scene.x = x


class Evil(NamedTuple):
    """What is done before the second iteration; what the log then says is missing, and to whom nothing is."""

    do: Callable[[Scene], None]
    missing: str = ""
    but_for: tuple[str, ...] = ()


LOOKS = ("watching._call_of", "watching.cell_given", "joining.redone")
NO_MEMORY = torch.OutOfMemoryError("no memory")
EVILS = {
    "nothing": Evil(lambda scene: None),
    **{f"weights of {value}": Evil(partial(fill, value)) for value in (1e30, 3e38, 0.0, torch.nan, torch.inf)},
    "infinite input": Evil(partial(batch_of, torch.full((T, B, D), torch.inf))),
    "singular values": Evil(raising(torch.linalg.LinAlgError("no convergence"), "torch.linalg.svdvals")),
    "eigenvalues": Evil(raising(torch.linalg.LinAlgError("no convergence"), "torch.linalg.eigvals")),
    "rows": Evil(raising(NO_MEMORY, "gradflow.recording.states.state_rows"), "the states of"),
    "a proof": Evil(raising(MemoryError(), "gradflow.recording.states.prove"), "a proof of 2 iterations, first of 1 "),
    "a spectrum": Evil(
        raising(NO_MEMORY, "gradflow.recording.states.spectrum_columns"), "the spectrum of", ("own", "mark")
    ),
    "copies": Evil(raising(NO_MEMORY, "gradflow.recording.copies.Copies.of"), "copies of the weights", ("own", "mark")),
    "norms": Evil(raising(MemoryError(), "gradflow.recording.scalars.gradient_norms"), "the norms of gradients of 3"),
    "norms in backward": Evil(
        raising(NO_MEMORY, "gradflow.recording.arrivals._norms"), "the norms of gradients as they arrived of"
    ),
    "a look": Evil(
        raising(NO_MEMORY, *(f"gradflow.flow.{place}" for place in LOOKS)), "what was to be seen in the forward pass"
    ),
    "a full disk": Evil(full_disk, "OSError|writing the log failed"),
    "no folder": Evil(no_folder),
    "a resized layer": Evil(resized),
    "another layer": Evil(replaced, "another module is in the place of 'layer'", ("mark", "optimizer")),
    "a callback": Evil(callback),
    "an empty batch": Evil(partial(batch_of, torch.zeros(T, 0, D)), "at least one example, got a batch of none"),
    "one step": Evil(partial(batch_of, torch.zeros(1, B, D))),
}


def trained(scene: Scene, evil: Evil, form: str) -> list[Tensor]:
    """The weights after a few iterations, recorded or not."""
    if form != "without":
        layers = [module for module in scene.model.modules() if isinstance(module, (nn.RNNBase, gf.Recurrent))]
        every = {name for layer in layers for name in quantities_of(layer)}
        scene.patch.setattr("gradflow.runlog.writer.FlushPolicy", partial(FlushPolicy, max_seconds=0.0))
        scene.recorder = gf.record(
            scene.model,
            scene.path,
            optimizer=scene.optimizer if form == "optimizer" else None,
            every=1,
            spectrum_every=[0, 1, 2],
            quantities=[name for name in QUANTITIES if name in every] or None,
            states=["h"] * (scene.model.kind == "mark"),
        )
    if form == "with":
        scene.recorder.__enter__()
    for iteration in range(ITERATIONS):
        if iteration == 1:
            evil.do(scene)
        loss = scene.model(scene.x).square().sum()
        scene.optimizer.zero_grad()
        loss.backward()
        if form == "with":
            scene.recorder.step(loss=loss)
        scene.optimizer.step()
    if scene.recorder:
        scene.recorder.close()
    return [parameter.detach().nan_to_num(7) for parameter in scene.model.parameters()]


USUAL = (("LSTM", "optimizer"), ("mark", "with"))  # the others are slow together


@pytest.mark.parametrize("evil", EVILS)
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param(kind, form, marks=() if (kind, form) in USUAL else pytest.mark.slow)
        for kind in LAYERS
        for form in ("with", "optimizer")
    ],
)
def test_training_goes_on(kind: str, evil: str, form: str, tmp_path: Path, caplog: Any) -> None:
    path, verdict = tmp_path / "run", "traceback"
    try:
        weights = []
        for how in ("without", form):
            with pytest.MonkeyPatch.context() as patch:
                weights.append(trained(Scene(kind, path, patch), EVILS[evil], how))
        verdict = "lost" if any(not torch.equal(a, b) for a, b in zip(*weights, strict=True)) else "clear"
    finally:
        record("Training goes on", f"{kind}, {evil}, {form}", verdict)
    assert verdict == "clear"
    if evil == "no folder":
        return
    run, missing = gf.open_run(path), "" if {kind, form} & {*EVILS[evil].but_for} else EVILS[evil].missing
    assert run.status in (("failed",) if evil == "a full disk" else ("finished", "diverged"))
    assert re.search(missing, run.error or "") if missing else run.error is None
    told = [entry.getMessage().partition(" (")[0] for entry in caplog.records]
    assert len(told) == len(set(told))
    assert told or not (missing or evil == "a callback")


def test_a_script_in_the_wrong_order_is_warned_where_optimisers_drive(tmp_path: Path, caplog: Any) -> None:
    """The same is an error of `step`; here the norms are recorded, and the states are not."""
    model, x = nn.LSTM(D, H), torch.randn(T, B, D)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gf.record(model, tmp_path, optimizer=optimizer, every=1) as recorder:
        for changed in (False, True, True, False):
            output = model(x)[0]
            output.sum().backward()
            if changed:
                x.add_(1)
            optimizer.step()
        assert recorder.iteration == 4
    run = gf.open_run(tmp_path)
    assert len(run.scalars) == 4
    assert set(run.frame("time").iteration) == {0, 3}
    assert re.match("not recorded: the states of 2 iterations, first of 1 .*changed in place", run.error)
    assert len([entry for entry in caplog.records if "changed in place" in entry.getMessage()]) == 1


def test_rows_wait_for_a_disk_that_is_full_for_a_while(tmp_path: Path, caplog: Any) -> None:
    model = nn.RNN(D, H)
    with gf.record(model, tmp_path, every=1) as recorder:
        for iteration in range(3):
            model(torch.randn(T, B, D))[0].sum().backward()
            recorder.step()
            with pytest.MonkeyPatch.context() as patch:
                if iteration < 2:
                    scene = Scene("RNN", tmp_path, patch)
                    full_disk(scene)
                recorder.flush()
    run = gf.open_run(tmp_path)
    assert (run.status, run.error, len(run.scalars), recorder.error) == ("finished", None, 3, None)
    assert sorted(set(run.frame("time").iteration)) == [0, 1, 2]
    assert len(caplog.records) == 1
