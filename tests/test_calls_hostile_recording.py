"""Wrong calls of recording, looking inside, reading and drawing: the error names the argument; nothing is written."""

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from math import inf, nan
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hostile_calls import Plain, not_clear
from synthetic_runs import Planted, config_of, write_run
from torch import nn

import gradflow as gf
from gradflow import figures
from gradflow.recording.recorder import Recorder
from gradflow.runlog import Run, Sweep

CIRCLE: dict[str, Any] = {}
CIRCLE["circle"] = CIRCLE
WRONG: dict[str, list[Any]] = {
    "model": [None, "x", 3, [nn.RNN(2, 3)], nn.RNN, {}, {"a": 3}, {1: nn.RNN(2, 3)}, {"a.b": nn.RNN(2, 3)}],
    "new folder": [None, 3, 1.5, "", " ", "a\0b", b"x", ["x"]],
    "folder": [None, 3, 1.5, "", "no such", "a\0b", ["x"]],
    "optimizer": ["x", 3, [], {}, [3], torch.optim.SGD],
    "schedule": [None, "x", -1, 0, 1.5, nan, inf, True, [3, 2], [-1], [1.5], ["x"], {}, [nan]],
    "examples": [None, "x", -1, 0, 1.5, nan, True, [1]],
    "reduction": [None, "max", 3, ["mean"], ""],
    "probe": [3, "x", (), (1,), (1, 2, 3, 4, 5), (torch.zeros(4, 2, 3), 0, None, -1), (0, 0, None, "x"), {}],
    "criterion": [3, "x", []],
    "quantities": ["x", "log_state_gradient", 3, [], ["x"], [3], [None], [""], ["log_state_gradient"] * 2],
    "modules": ["x", "rnn", 3, [], ["x"], [3], [None]],
    "states": ["h", 3, None, [""], [3], ["h", "h"], ["rnn"], ["a\nb"]],
    "scalars": [
        "accuracy",
        3,
        None,
        [""],
        [3],
        ["a", "a"],
        ["module"],
        ["iteration"],
        ["loss"],
        ["run"],
        ["time"],
        ["log_grad_after.rnn.weight_hh_l0"],
        ["a\0b"],
        ["\ud800"],
    ],
    "facts": ["x", 3, [1], {1: 2}, {"a": {(1, 2): 3}}, CIRCLE, {"a": "\ud800"}],
    "seed or none": ["x", -1, 1.5, nan, True, [0]],
    "resume": [None, "x", -1, 1.5, nan, [0], 10**6],
    "loss": ["x", "1.0", [1.0, 2.0], torch.ones(3), {}, 1j],
    "clipping": ["x", 3, 1.0, torch.ones(()), []],
    "lengths": [
        "x",
        3,
        [],
        [0, 1],
        [5, 9],
        [-1, 2],
        [1.5, 2],
        [nan, 1],
        [1, 2, 3],
        {"x": [1, 2]},
        {"rnn": "x"},
        torch.ones(2),
        torch.ones(2, 2, dtype=torch.long),
    ],
    "targets": ["x", -1, 0, nan, inf, [1], True],
    "scale": ["x", -1.0, 0, nan, inf, [1.0], None],
    "scale or none": ["x", -1.0, 0, nan, inf, [1.0]],
    "told": ["x", 3, [1], {"no such": 1.0}, {"lr": "x"}, {"lr": torch.ones(2)}, {3: 1.0}, {"lr": None}],
    "callback": [None, 3, "x", []],
    "least 0": [None, "x", -1, 1.5, nan, True, [1]],
    "count": [None, "x", -1, 0, 1.5, nan, True, [1]],
    "count or none": ["x", -1, 0, 1.5, nan, True, [1], 10**6],
    "tolerance": [None, "x", -1.0, nan, [1.0]],
    "mark": [None, 3, "", ["h"]],
    "layer": [None, "x", 3, nn.Linear(2, 2), nn.RNN, [nn.RNN(2, 3)]],
    "cell": [None, "x", 3, nn.RNNCell(3, 4), nn.RNN],
    "x": [None, "x", 3, torch.zeros(2), torch.zeros(4, 2, 7), torch.zeros(4, 2, 3, 2), np.zeros((4, 2, 3))],
    "hx": ["x", 3, torch.zeros(2), torch.zeros(4, 2, 7), np.zeros((1, 2, 4)), (torch.zeros(1, 2, 4),) * 2],
    "states of a mark": ["x", 3, torch.zeros(4, 2, 3, 2), np.zeros((4, 3))],
    "trace": [None, "x", 3, torch.zeros(2), nn.RNN(3, 4)],
    "gradient": ["x", 3, torch.zeros(2), np.zeros((5, 2, 4)), [1.0]],
    "no gradient": ["x", 3, torch.zeros(1, 2, 4)],
    "direction": [None, "x", -1, 2, 0.5, nan, [0]],
    "jacobian": [None, "x", 3, torch.zeros(2, 2)],
    "position": [None, "x", -2, 1.5, nan, [0], 10**6],
    "burn in": [None, "x", -1, 5, 1.5, nan, [0], 10**6],
    "step": [3, "x", torch.zeros(2)],
    "previous": ["x", 3, torch.zeros(2), [3], [torch.zeros(2, 4)] * 2],
    "table": [None, "no such", 3, ["time"]],
    "columns": ["loss", ["no such"], 3, [3], [None]],
    "params": ["cell", ["no such"], 3, [3]],
    "where": ["x", 3, ["x"]],
    "flag": ["x", None, 2, nan],
    "data": [None, "x", 3, [], pd.DataFrame(), pd.DataFrame({"no": [1]})],
    "claims": ["x", 3, [3], [{}], {"claim": 1}],
    "lang": [None, "fr", 3, ["en"], ""],
    "context": [None, "poster", 3, ["slide"], ""],
    "figure": [None, "x", 3],
    "animation": [None, "x", 3],
    "data or none": ["x", 3, [1]],
    "only": ["no such", 3, ["no such"], [3]],
    "word": [None, "no such", 3, ["x"]],
    "entry": [None, "gradient_by_lag", 3],
    "options": [3],
}


class Trial(NamedTuple):
    """A call that works, and of what kind its arguments are, as in `WRONG`; `wholly`: all of them are."""

    call: Callable[..., Any]
    right: Mapping[str, Any]
    kinds: Mapping[str, str]
    prepare: Callable[[], Mapping[str, Any]] = dict


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


def stepping(*, optimizer: bool = False) -> Recorder:
    """A recorder whose model has gradients."""
    model = Net()
    own = torch.optim.SGD(model.parameters(), lr=0.1) if optimizer else None
    recorder = gf.record(model, Path(tempfile.mkdtemp()) / "run", optimizer=own)
    recorder.__enter__()
    model(torch.zeros(5, 2, 3)).sum().backward()
    recorder.kept = model, own  # type: ignore[attr-defined]
    return recorder


def run_without(**options: Any) -> None:
    """Record, which is to leave no folder behind where it is refused."""
    folder = Path(tempfile.mkdtemp())
    before = set(Path().iterdir())
    try:
        gf.record(**{"model": Net(), "path": folder / "run", **options})
    except Exception:
        assert not list(folder.iterdir()), "a folder was left behind"
        assert set(Path().iterdir()) == before
        raise


def traced() -> Any:
    trace = gf.trace(nn.RNN(3, 4), torch.randn(5, 2, 3))
    trace.output.sum().backward()
    return trace


@cache
def jacobian() -> Any:
    return gf.trace(nn.RNN(3, 4), torch.randn(5, 2, 3))[0, 0].jacobian


@cache
def sweep() -> Sweep:
    folder = Path(tempfile.mkdtemp())
    for number, cell in enumerate(("rnn", "lstm")):
        write_run(folder / str(number), config_of(cell), Planted())
    return gf.open_sweep(folder)


def run() -> Run:
    return sweep().members[1]


def marked(name: Any, states: Any = None, step: Any = None, previous: Any = None) -> Any:
    return gf.mark(name, torch.zeros(2, 4) if states is None else states, step=step, previous=previous)


RECORD = {
    "model": "model",
    "path": "new folder",
    "optimizer": "optimizer",
    "every": "schedule",
    "examples": "examples",
    "spectrum_every": "schedule",
    "reduction": "reduction",
    "probe": "probe",
    "criterion": "criterion",
    "quantities": "quantities",
    "modules": "modules",
    "states": "states",
    "scalars": "scalars",
    "config": "facts",
    "seed": "seed or none",
    "about": "facts",
    "resume": "resume",
}
STEP = {"loss": "loss", "clipping": "clipping", "lengths": "lengths", "targets": "targets", "scalars": "told"}


def styled(**options: Any) -> None:
    with figures.style(**options):
        pass


READ = {"table": "table", "columns": "columns", "where": "where"}
PICTURE = plt.Figure()

TRIALS: dict[str, Callable[[], Trial]] = {
    "record": lambda: Trial(run_without, {}, RECORD),
    "step": lambda: Trial(stepping().step, {}, {**STEP, "loss_scale": "scale"}),
    "log": lambda: Trial(stepping(optimizer=True).log, {}, {**STEP, "loss_scale": "scale or none"}),
    "subscribe": lambda: Trial(stepping().subscribe, {"callback": print}, {"callback": "callback"}),
    "log_spaced": lambda: Trial(gf.log_spaced, {"last": 10}, {"last": "least 0", "per_decade": "count"}),
    "mark": lambda: Trial(
        marked, {"name": "h"}, {"name": "mark", "states": "states of a mark", "step": "step", "previous": "previous"}
    ),
    "trace": lambda: Trial(
        gf.trace,
        {"layer": nn.RNN(3, 4), "x": torch.zeros(5, 2, 3)},
        {"layer": "layer", "x": "x", "hx": "hx", "lengths": "lengths"},
    ),
    "state_gradients": lambda: Trial(
        gf.state_gradients,
        {"trace": traced()},
        {"trace": "trace", "output_gradient": "gradient", "h_n_gradient": "gradient", "c_n_gradient": "no gradient"},
    ),
    "lag_resolved_gradients": lambda: Trial(
        gf.lag_resolved_gradients,
        {"trace": traced()},
        {"trace": "trace", "output_gradient": "gradient", "direction": "direction"},
    ),
    "jacobian_product": lambda: Trial(
        gf.jacobian_product,
        {"J": jacobian(), "start": -1, "stop": 3},
        {"J": "jacobian", "start": "position", "stop": "position"},
    ),
    "product_norms": lambda: Trial(gf.product_norms, {"J": jacobian()}, {"J": "jacobian"}),
    "lyapunov_exponents": lambda: Trial(
        gf.lyapunov_exponents, {"J": jacobian()}, {"J": "jacobian", "burn_in": "burn in", "count": "count or none"}
    ),
    "recurrent_spectrum": lambda: Trial(gf.recurrent_spectrum, {"layer": nn.RNN(3, 4)}, {"layer": "layer"}),
    "watch_backward": lambda: Trial(gf.watch_backward, {"model": nn.RNN(3, 4)}, {"model": "layer"}),
    "check_cell": lambda: Trial(
        gf.testing.check_cell,
        {"cell": Plain(), "input_size": 3},
        {"cell": "cell", "input_size": "count", "tolerance": "tolerance", "seed": "least 0"},
    ),
    "open_run": lambda: Trial(gf.open_run, {"path": run().path}, {"path": "folder"}),
    "open_sweep": lambda: Trial(gf.open_sweep, {"path": sweep().path}, {"path": "folder"}),
    "Run.table": lambda: Trial(run().table, {"table": "time"}, READ),
    "Run.frame": lambda: Trial(run().frame, {"table": "time"}, {**READ, "long": "flag"}),
    "Run.dataset": lambda: Trial(run().dataset, {}, READ),
    "Sweep.frame": lambda: Trial(sweep().frame, {"table": "time"}, {**READ, "params": "params", "long": "flag"}),
    "Sweep.dataset": lambda: Trial(sweep().dataset, {}, {**READ, "params": "params"}),
    "draw_all": lambda: Trial(
        figures.draw_all,
        {"path": sweep().path, "out_dir": tempfile.mkdtemp(), "only": ["weight_spectrum"]},
        {"path": "folder", "out_dir": "new folder", "lang": "lang", "context": "context", "only": "only"},
    ),
    "save": lambda: Trial(
        figures.save,
        {"figure": PICTURE, "path": Path(tempfile.mkdtemp()) / "a"},
        {"figure": "figure", "path": "new folder", "data": "data or none", "claims": "claims"},
    ),
    "save_animation": lambda: Trial(
        figures.save_animation,
        {"animation": None, "path": Path(tempfile.mkdtemp()) / "a"},
        {"animation": "animation", "path": "new folder"},
    ),
    "style": lambda: Trial(styled, {}, {"lang": "lang", "context": "context"}),
    **{
        f"figures.{name}": lambda name=name: Trial(
            getattr(figures, name),
            {"data": pd.DataFrame()},
            {"data": "data", "claims": "claims"} | {"lang": "lang", "context": "context"},
        )
        for name in figures.__all__
        if name.startswith(("plot_", "animate_"))
    },
}
ALSO = {  # what the errors call an argument
    "columns": ["columns of table"],
    "states": ["mark: expected"],
    "only": ["figures: expected"],
    "scalars": ["scalars["],
}
RIGHT_AFTER_ALL = [("log", "lengths", [5, 9]), ("log", "lengths", [1, 2, 3])]  # nobody knows before the update


@pytest.mark.parametrize("name", TRIALS)
def test_a_wrong_call_is_told_its_argument(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = not_clear(name, TRIALS[name], WRONG, (":", " ", ", "), ALSO, RIGHT_AFTER_ALL)
    plt.close("all")
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)
